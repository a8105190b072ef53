"""Which weights a callback calls the best, and callbacks that have nothing to work on."""

from datetime import timedelta
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import (
    BackboneFinetuning,
    BatchSizeFinder,
    DeviceStatsMonitor,
    EarlyStopping,
    EMAWeightAveraging,
    GradientAccumulationScheduler,
    LearningRateFinder,
    LearningRateMonitor,
    ModelCheckpoint,
    ModelPruning,
    OnExceptionCheckpoint,
    SpikeDetection,
    StochasticWeightAveraging,
)
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins import BitsandbytesPrecision
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from support.line import Line
from support.preference_data import RandomPairs
from support.quiet_cpu import QUIET_CPU
from support.zero3 import needs_deepspeed
from torch.optim.swa_utils import get_ema_avg_fn
from torch.utils.data import DataLoader

from lit_longpo.checkpoints import ResumableTrainer
from lit_longpo.errors import message_for_user
from lit_longpo.objectives import DPO, SFT
from lit_longpo.policy import PolicyConfig
from lit_longpo.strategies import AnyDeviceDeepSpeedStrategy
from lit_longpo.training.callback_checks import check_beside, check_callbacks


@pytest.mark.parametrize(
    ("callback", "said"),
    [
        (LearningRateFinder(), "got LearningRateFinder; take it out, and type --optimization"),
        (BatchSizeFinder(), "got BatchSizeFinder; .*plan --longest"),
        (BackboneFinetuning(), r"got BackboneFinetuning; .*`policy\.freeze`"),
        (StochasticWeightAveraging(1e-4), "got StochasticWeightAveraging; take EMAWeightAveraging"),
        (ModelPruning("l1_unstructured"), "got ModelPruning; take it out"),
        (SpikeDetection(), "got SpikeDetection; take it out: .*shares of a step.*NonFiniteGuard"),
        (EarlyStopping("val/rewards/accuracies"), r"expected `mode: max` of EarlyStopping .* larger it is, got min"),
        (ModelCheckpoint(monitor="val/rewards/margins"), "expected `mode: max` of ModelCheckpoint"),
        (ModelCheckpoint(monitor="val/loss", mode="max"), "expected `mode: min` of ModelCheckpoint .*smaller it is"),
        (ModelCheckpoint(monitor="benchmark/qa/mean"), "expected `mode: max` of ModelCheckpoint .* larger it is"),
        (EarlyStopping("benchmark/qa-long/2048"), "expected `mode: max` of EarlyStopping .* larger it is, got min"),
        (EarlyStopping("benchmark/lm_eval-2/x/acc_norm"), "expected `mode: max` of EarlyStopping .* larger it is"),
        (EarlyStopping("benchmark/lm_eval/x/exact_match_flexible-extract"), "expected `mode: max` of EarlyStopping"),
        (ModelCheckpoint(monitor="val/loss", every_n_train_steps=2), "expected no `every_n_train_steps` .* got 2: it"),
        (ModelCheckpoint(monitor="val/loss", train_time_interval=timedelta(1)), "expected no `train_time_interval`"),
        (OnExceptionCheckpoint("folder"), "got OnExceptionCheckpoint, which writes in the middle of a row: .*take it"),
        (ModelCheckpoint(save_on_exception=True), "got ModelCheckpoint with `save_on_exception`, .*every_n_train_ste"),
    ],
)
def test_what_would_choose_wrongly_is_refused(callback, said):
    with pytest.raises(ValueError, match=said):
        check_callbacks([callback])


@pytest.mark.parametrize(
    ("strategy", "said"),
    [
        (partial(ModelParallelStrategy, 2, 1), "FSDP2"),
        *(
            pytest.param(partial(AnyDeviceDeepSpeedStrategy, stage), "DeepSpeed", marks=needs_deepspeed)
            for stage in (2, 3)
        ),
    ],
)
def test_averages_need_whole_weights(strategy, said):
    """FSDP2 refuses copies, ZeRO-3 leaves nothing to average, folders of ZeRO-2 hold no average to go on with."""
    with pytest.raises(ValueError, match=rf"beside EMAWeightAveraging, got {said}; type --trainer\.strategy ddp, or"):
        check_callbacks([EMAWeightAveraging()], strategy())
    check_callbacks([EMAWeightAveraging()], DDPStrategy())


@pytest.mark.parametrize("late", [{"update_starting_at_step": 100}, {"update_every_n_steps": 0}])
def test_an_average_that_begins_late_is_refused(late):
    """A run of fewer steps wrote the weights that it began with, and validated them until then (Lightning#21724)."""
    with pytest.raises(ValueError, match=r"expected EMAWeightAveraging to average from the first step on"):
        check_callbacks([EMAWeightAveraging(update_starting_at_epoch=1, **late)])
    check_callbacks([EMAWeightAveraging(update_starting_at_epoch=1), EMAWeightAveraging(update_every_n_steps=5)])


def test_checkpoints_of_weights_alone_would_leave_the_average_out(tmp_path):
    """They held the weights of training; the first lines show that Lightning still writes them so."""
    average, alone = EMAWeightAveraging(decay=0.5), ModelCheckpoint(tmp_path, "last", save_weights_only=True)
    trainer = Trainer(**QUIET_CPU, max_epochs=1, limit_val_batches=0, callbacks=[average, alone])
    trainer.fit(Line(), DataLoader(torch.ones(2), batch_size=1))
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]["weight"]
    assert (float(saved), float(trainer.lightning_module.weight)) == (-2.0, -1.5)
    with pytest.raises(ValueError, match=r"whole checkpoints beside EMAWeightAveraging, got .*`save_weights_only`, "):
        check_callbacks([average, alone])
    check_callbacks([average, ModelCheckpoint(tmp_path)])
    check_callbacks([alone])


def test_an_average_in_half_precision_is_refused(policy_folder):
    """It stays at the weights of the first step: decay 0.999 adds a thousandth, and bf16 has steps of four."""
    still, moving = torch.ones(1, dtype=torch.bfloat16), torch.full((1,), 1.5, dtype=torch.bfloat16)
    average = get_ema_avg_fn(0.999)
    for _ in range(1000):
        still = average(still, moving, torch.ones(()))
    assert still == 1
    module = DPO(policy=PolicyConfig(source=str(policy_folder), dtype="bfloat16"))
    trainer = ResumableTrainer(max_steps=1, accelerator="cpu", logger=False, callbacks=[EMAWeightAveraging()])
    with pytest.raises(ValueError, match=r"trained weights in float32 beside EMAWeightAveraging, got bfloat16"):
        trainer.fit(module, datamodule=RandomPairs(module.views))


@pytest.mark.parametrize(
    ("callback", "options", "said"),
    [
        (
            GradientAccumulationScheduler({0: 2}),
            {"accumulate_grad_batches": 8},
            "got 8; type --trainer.accumulate_grad",
        ),
        (LearningRateMonitor(), {}, "expected a logger beside LearningRateMonitor, got none"),
        (DeviceStatsMonitor(), {}, "expected a logger beside DeviceStatsMonitor, got none"),
    ],
)
def test_what_does_not_go_with_the_trainer_is_refused(callback, options, said, tmp_path):
    """Lightning said so when the policy was loaded, of schedules in a traceback."""
    common = {"accelerator": "cpu", "default_root_dir": tmp_path, "callbacks": [callback]}
    with pytest.raises(ValueError, match=said):
        check_beside(ResumableTrainer(logger=False, **common, **options))
    check_beside(ResumableTrainer(logger=CSVLogger(tmp_path), **common))


def test_a_plugin_that_converts_the_policy_alone_is_refused():
    plugin = BitsandbytesPrecision.__new__(BitsandbytesPrecision)  # it is made on GPUs alone
    with pytest.raises(ValueError, match=r"got the plugin BitsandbytesPrecision, .*type --policy\.quantization 4bit"):
        check_beside(SimpleNamespace(precision_plugin=plugin, callbacks=[]))


@needs_deepspeed
def test_deepspeed_has_one_number_of_rows_a_step(tmp_path):
    trainer = SimpleNamespace(callbacks=[GradientAccumulationScheduler({0: 2})], strategy=AnyDeviceDeepSpeedStrategy(2))
    with pytest.raises(
        ValueError, match="one number of rows a step under DeepSpeed, got GradientAccumulationScheduler"
    ):
        check_beside(trainer)


def test_what_chooses_rightly_passes():
    check_callbacks(
        [
            *(EarlyStopping("val/loss"), EarlyStopping("val/rewards/accuracies", mode="max")),
            *(ModelCheckpoint(every_n_train_steps=2), ModelCheckpoint(monitor="val/loss")),
            ModelCheckpoint(monitor="train/loss", every_n_train_steps=2),
            ModelCheckpoint(monitor="step", mode="max", every_n_train_steps=2),
            ModelCheckpoint(monitor="val/my_own", mode="max"),
            ModelCheckpoint(monitor="benchmark/qa/mean", mode="max"),
        ]
    )


@pytest.mark.parametrize("metric", ["perplexity", "ter", "wer", "pct_stereotype", "age_bias", "likelihood_diff"])
def test_what_the_harness_wants_small_may_be_watched_so(metric):
    """Its tasks say which; before they are read nobody knows, so that is left to the user."""
    check_callbacks([EarlyStopping(f"benchmark/lm_eval-own/x/{metric}")])


def trainer(folder, *callbacks):
    return ResumableTrainer(
        max_steps=6, max_epochs=-1, accelerator="cpu", logger=False, enable_progress_bar=False, callbacks=[*callbacks],
        enable_model_summary=False, use_distributed_sampler=False, num_sanity_val_steps=0, limit_val_batches=1,
        val_check_interval=2, check_val_every_n_epoch=None, default_root_dir=folder,
    )  # fmt: skip


def test_weights_that_are_kept_after_a_validation_have_its_value(policy_folder, tmp_path):
    """What the refusal advises; with an interval they had that of the validation before (Lightning#20185)."""
    seen = {}

    class Seen(DPO):
        def on_validation_epoch_end(self):
            super().on_validation_epoch_end()
            seen[self.global_step] = float(self.trainer.callback_metrics["val/loss"])

    seed_everything(0, verbose=False)
    keep = ModelCheckpoint(tmp_path, "{step}", monitor="val/loss", save_top_k=-1)
    module = Seen(policy=PolicyConfig(source=str(policy_folder)))
    trainer(tmp_path, keep).fit(module, datamodule=RandomPairs(module.views, num_examples=12))
    kept = {path.stem: torch.load(path, weights_only=True)["callbacks"] for path in tmp_path.glob("*.ckpt")}
    scores = {name: float(next(iter(states.values()))["current_score"]) for name, states in kept.items()}
    assert scores == pytest.approx({f"step={step}": loss for step, loss in seen.items()})
    assert len({round(loss, 6) for loss in seen.values()}) == 3


def test_objectives_ask_before_they_load_a_policy(policy_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(PolicyConfig, "load", None)
    module = SFT(policy=PolicyConfig(source=str(policy_folder)))
    wrong = ModelCheckpoint(tmp_path, monitor="val/loss", every_n_train_steps=2)
    with pytest.raises(ValueError, match="expected no `every_n_train_steps`"):
        trainer(tmp_path, wrong).fit(module, datamodule=RandomPairs(module.views, num_examples=12))


def test_a_metric_that_is_not_there_is_one_line():
    """Lightning raises a plain RuntimeError; of others the traceback stays."""
    stop = EarlyStopping("val/losss")
    with pytest.raises(RuntimeError) as raised:
        stop._validate_condition_metric({"val/loss": torch.ones(())})
    assert "`val/losss` which is not available" in message_for_user(raised.value)
    assert message_for_user(RuntimeError("anything else")) is None
