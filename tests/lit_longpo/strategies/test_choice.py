"""Strategies of Lightning's in whose place there is another."""

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy, FSDPStrategy
from support.zero3 import needs_deepspeed

from lit_longpo.errors import InputError
from lit_longpo.objectives import SoLoPO
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
