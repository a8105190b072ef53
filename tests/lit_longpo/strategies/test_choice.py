"""Strategies of Lightning's in whose place there is another, and what goes with none."""

from functools import partial

import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy, FSDPStrategy
from support.preference_data import RandomPairs
from support.quiet_cpu import QUIET_CPU
from support.ranks import run_ranks
from support.zero3 import needs_deepspeed

from lit_longpo.errors import InputError
from lit_longpo.objectives import ORPO, SoLoPO
from lit_longpo.policy import PolicyConfig
from lit_longpo.strategies import AnyDeviceDeepSpeedStrategy, SequenceParallelDDPStrategy, check_steps, check_strategy

QUIET = {"accelerator": "cpu", "devices": 2, "logger": False, "enable_checkpointing": False}


@needs_deepspeed
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_deepspeed_of_lightning_is_not_ours(stage):
    """`deepspeed_stage_2`, as people type it, would train with gradients that are too small."""
    with pytest.raises(ValueError, match=rf"got Lightning's DeepSpeed.*type --config .*deepspeed_zero{stage}\.yaml in"):
        check_strategy(DeepSpeedStrategy(stage=stage))
    check_strategy(AnyDeviceDeepSpeedStrategy(stage=stage))


def test_the_first_fsdp_is_refused():
    with pytest.raises(ValueError, match=r"got Lightning's FSDPStrategy, .*type --config configs/overlays/fsdp2\.yaml"):
        check_strategy(FSDPStrategy())
    check_strategy(DDPStrategy())
    check_strategy(None)


def test_objectives_ask_too():
    """From Python nobody else does."""
    with pytest.raises(ValueError, match="FSDPStrategy"):
        SoLoPO()._sections.check(FSDPStrategy(), "32-true")


@pytest.mark.parametrize("strategy", [DDPStrategy, SequenceParallelDDPStrategy])
@pytest.mark.parametrize(
    "options", [{"accumulate_grad_batches": 2}, {"callbacks": [GradientAccumulationScheduler({1: 2})]}]
)
def test_a_static_graph_takes_no_accumulated_rows(strategy, options):
    """Both processes ended in an assertion of torch's (pytorch#143580, accelerate#3679)."""
    with pytest.raises(InputError, match=r"no `static_graph` .* rows are accumulated, got both, .*; leave `static_gra"):
        check_steps(Trainer(strategy=strategy(static_graph=True), **QUIET, **options))
    check_steps(Trainer(strategy=strategy(static_graph=True), **QUIET))
    check_steps(Trainer(strategy=strategy(), **QUIET, **options))


@needs_deepspeed
def test_deepspeed_clips_by_norm_alone():
    """It said so when all was loaded."""
    trainer = Trainer(strategy=AnyDeviceDeepSpeedStrategy(), gradient_clip_algorithm="value", **QUIET)
    with pytest.raises(InputError, match=r"by their norm under DeepSpeed, got .*: value`; type --trainer\.gradient"):
        check_steps(trainer)
    check_steps(Trainer(strategy="ddp", gradient_clip_algorithm="value", **QUIET))


class Beside(ORPO):
    """Its policy has a weight that no loss reaches, as the indexers of DeepSeek-V4 and Fuyu's vision layers."""

    def configure_model(self):
        super().configure_model()
        self.model.unread = torch.nn.Parameter(torch.zeros(2))


class Apart(RandomPairs):
    """Each process has a row of its own."""

    def _batches(self, views):
        return super()._batches(views)[self.trainer.global_rank :: 2]


def one_step(policy_folder, folder, **options):
    seed_everything(0, verbose=False)
    module = Beside(policy=PolicyConfig(source=str(policy_folder)))
    trainer = Trainer(
        max_steps=1, **QUIET_CPU, devices=2, strategy=DDPStrategy(**options), use_distributed_sampler=False,
        enable_checkpointing=False, num_sanity_val_steps=0, limit_val_batches=0, default_root_dir=folder,
    )  # fmt: skip
    trainer.fit(module, datamodule=Apart(module.views))
    return trainer.strategy.all_gather(module.model.get_input_embeddings().weight)


def take_one_step(policy_folder, folder):
    with pytest.raises(InputError, match=r"weight under DDPStrategy, got 1 that it does not, .* `unread`; leave them"):
        one_step(policy_folder, folder)
    first, second = one_step(policy_folder, folder, find_unused_parameters=True)
    assert torch.equal(first, second)


def test_weights_that_no_loss_reaches_are_refused_under_ddp(policy_folder, tmp_path):
    """DDP waits for them: the processes took the first step apart, and ended in torch's error in the next."""
    run_ranks(take_one_step, policy_folder, tmp_path)


class OftenUnread(Beside):
    """One row of each step alone reads the weight, as experts that not every row is routed to."""

    reads = (1, 1)

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        return loss + self.model.unread.sum() if batch_idx % 2 == self.reads[self.global_rank] else loss


def accumulate(policy_folder, folder, reads, **options):
    module = OftenUnread(policy=PolicyConfig(source=str(policy_folder)))
    module.reads = reads
    data = Apart(module.views, num_examples=16)
    trainer = Trainer(
        max_steps=2, **QUIET_CPU, devices=2, strategy=DDPStrategy(**options), use_distributed_sampler=False,
        enable_checkpointing=False, num_sanity_val_steps=0, limit_val_batches=0, default_root_dir=folder,
        accumulate_grad_batches=2,
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    first, second = trainer.strategy.all_gather(module.model.unread)
    assert trainer.global_step == 2
    assert first.any()
    assert torch.equal(first, second)


def test_weights_that_the_last_row_of_a_step_reaches_are_trained_under_ddp(policy_folder, tmp_path):
    """It waits for gradients in the last row's backward pass alone."""
    run_ranks(accumulate, policy_folder, tmp_path, (1, 1))


def be_refused(policy_folder, folder, reads):
    with pytest.raises(InputError, match="in the last row of a step, too, under DDPStrategy, got some that only earl"):
        accumulate(policy_folder, folder, reads)


def test_weights_that_only_an_earlier_row_of_a_step_reaches_are_refused_under_ddp(policy_folder, tmp_path):
    """The step was taken by gradients of each process alone: without a word, if it was the last."""
    run_ranks(be_refused, policy_folder, tmp_path, (0, 0))


@pytest.mark.parametrize("reads", [(0, 0), (0, 1)], ids=str)
def test_weights_that_one_row_of_a_step_reaches_are_trained_where_unused_ones_are_looked_for(
    reads, policy_folder, tmp_path
):
    """What the refusals advise."""
    run_ranks(partial(accumulate, find_unused_parameters=True), policy_folder, tmp_path, reads)
