"""Optimizer, schedule and precision against plain torch."""

import math
import re
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.plugins import MixedPrecision
from support.command_line import CONFIGS, build
from support.preference_data import RandomPairs
from support.ranks import run_command
from support.tiny_models import tiny_model

from lit_longpo.engine import score
from lit_longpo.errors import InputError
from lit_longpo.objectives import ORPO
from lit_longpo.optimization import FusedAdamW, Optimization, num_optimizer_steps
from lit_longpo.policy import LoRA, PolicyConfig
from lit_longpo.policy.adapters import add_adapters

CLIP = 0.05  # below every gradient's norm
STEPS = 4
OPTIMIZERS = {
    "FusedAdamW": lambda params: FusedAdamW(params, lr=1e-2),
    "AdamW": lambda params: torch.optim.AdamW(params, lr=1e-2, weight_decay=0.0, fused=True),
    "SGD": lambda params: torch.optim.SGD(params, lr=1.0, fused=True),
}


def module_for(folder, optimizer):
    steady = Optimization(OPTIMIZERS[optimizer], schedule="constant", warmup_fraction=0.0)
    return ORPO(policy=PolicyConfig(source=str(folder)), optimization=steady)


def weights_of(module):
    return {name: parameter.detach().clone() for name, parameter in module.model.named_parameters()}


def trained(module, *callbacks, **options):
    seed_everything(0, verbose=False)
    trainer = Trainer(
        max_steps=STEPS,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        gradient_clip_val=CLIP,
        callbacks=list(callbacks),
        **options,
    )
    trainer.fit(module, datamodule=RandomPairs(module.views))
    return weights_of(module)


def plainly_trained(module, optimizer, dtype, scaler):
    """The loop of torch's own recipe: unscale, clip, step. Also how many steps the scaler left out."""
    module.configure_model()
    stepper, skipped = OPTIMIZERS[optimizer](list(module.model.parameters())), 0
    stepper._step_supports_amp_scaling = False
    for batch in list(RandomPairs(module.views).train_dataloader())[:STEPS]:
        with torch.autocast("cpu", dtype=dtype, cache_enabled=False):
            losses, _ = module.loss(score(module.model, batch.policy), None)
        stepper.zero_grad()
        scaler.scale(losses.mean()).backward()
        scaler.unscale_(stepper)
        skipped += not torch.isfinite(torch.nn.utils.clip_grad_norm_(module.model.parameters(), CLIP))
        scaler.step(stepper)
        scaler.update()
    return weights_of(module), skipped


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_mixed_precision_clips_unscaled_gradients_whatever_the_optimizer(precision, optimizer, policy_folder):
    half, dtype = precision == "16-mixed", torch.float16 if precision == "16-mixed" else torch.bfloat16
    scalers = [torch.amp.GradScaler("cpu", init_scale=2.0**10, enabled=half) for _ in range(2)]
    plugin = MixedPrecision(precision, "cpu", scaler=scalers[0] if half else None)
    actual = trained(module_for(policy_folder, optimizer), plugins=plugin)
    expected, skipped = plainly_trained(module_for(policy_folder, optimizer), optimizer, dtype, scalers[1])
    assert skipped == 0
    for name, weight in expected.items():
        torch.testing.assert_close(actual[name], weight, rtol=1e-5, atol=1e-6)


def rates(schedule, steps, *, floor, warmup=0.2):
    """Of a peak of 1."""
    made = Optimization(lambda p: FusedAdamW(p, lr=1.0), schedule, warmup, floor)
    optimizer, scheduler = made.build([torch.nn.Parameter(torch.zeros(1))], steps)
    seen = []
    for _ in range(steps + 1):
        seen.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return seen


def test_linear_and_cosine_end_at_the_smallest_rate():
    assert rates("linear", 10, floor=0.2) == pytest.approx(
        [0.0, 0.5, 1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2], rel=1e-6
    )
    falling = [0.2 + 0.8 * (1 + math.cos(math.pi * step / 8)) / 2 for step in range(9)]
    assert rates("cosine", 10, floor=0.2) == pytest.approx([0.0, 0.5, *falling], rel=1e-6)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_a_schedule_over_an_unknown_number_of_steps_is_refused(schedule):
    parameters = [torch.nn.Parameter(torch.zeros(1))]
    with pytest.raises(ValueError, match=r"known number of steps .* type --trainer.max_steps N"):
        Optimization(schedule=schedule).build(parameters, -1)
    _, scheduler = Optimization(lambda p: FusedAdamW(p, lr=0.5), "constant", 0.0).build(parameters, -1)
    assert [scheduler.get_last_lr()[0], scheduler.step(), scheduler.get_last_lr()[0]] == [0.5, None, 0.5]


# On a CPU Lightning takes bf16 for both.
@pytest.mark.parametrize("precision", ["bf16-mixed", pytest.param("16-mixed", marks=pytest.mark.slow)])
def test_mixed_precision_trains_from_the_command_line(precision, tmp_path):
    data = ("--data.num_train", 8, "--data.num_val", 3, "--data.short_words", 16, "--data.long_words", "[24, 48]")
    trainer = ("--trainer.precision", precision, "--trainer.max_steps", 2, "--trainer.max_epochs", 4)
    callbacks = ("--trainer.callbacks", "[NonFiniteGuard]", "--trainer.default_root_dir", tmp_path)
    printed = run_command("fit", "--config", CONFIGS / "solopo.yaml", *data, *trainer, *callbacks)
    assert "`max_steps=2` reached" in printed


@pytest.mark.parametrize(
    ("optimizer", "rows", "split", "message"),
    [
        (torch.optim.Muon, 1, None, r"takes every trained parameter.*torch.Size\(\[1\]\).*`policy.lora`"),
        (torch.optim.LBFGS, 2, None, "expected one row a step with LBFGS, .* got 2, .*_batches 1, or type --opt"),
        (torch.optim.Adafactor, 1, "FSDP2", "expected one device or DDP with Adafactor, .* got FSDP2, .* ddp"),
        (torch.optim.Muon, 1, "ZeRO-2", "expected one device or DDP with Muon, .* got ZeRO-2, "),
    ],
)
def test_optimizers_of_whole_tensors_are_refused_before_the_policy_is_loaded(
    optimizer, rows, split, message, monkeypatch
):
    monkeypatch.setattr(PolicyConfig, "load", lambda policy: pytest.fail("loaded"))
    monkeypatch.setattr("lit_longpo.optimization.optimizer_split", lambda strategy: split)
    module = ORPO(optimization=Optimization(partial(optimizer, lr=0.01), "constant", 0.0))
    options = {"accumulate_grad_batches": rows, "logger": False, "enable_checkpointing": False}
    with pytest.raises(InputError, match=message):
        Trainer(max_steps=1, accelerator="cpu", **options).fit(module, datamodule=RandomPairs(module.views))


def test_an_optimizer_of_sparse_gradients_is_refused():
    with pytest.raises(InputError, match=r"dense gradients, got SparseAdam; type --optimization"):
        Optimization(partial(torch.optim.SparseAdam, lr=0.01))


class DeepSpeedCPUAdam(torch.optim.AdamW):
    """Named as DeepSpeed's, which needs a compiler."""


@pytest.mark.parametrize("device", ["cuda", None])
def test_an_optimizer_of_host_memory_is_refused_on_a_gpu(device):
    optimization = Optimization(partial(DeepSpeedCPUAdam, lr=0.01))
    wanted = (
        r"host memory with DeepSpeedCPUAdam, .* got them on (cuda|a GPU); type .*offload_optimizer true .*, or --opt"
    )
    assert re.search(wanted, optimization.placement_problem(device, "ZeRO-2"))
    assert optimization.placement_problem("cpu", "ZeRO-2") is None


def failing(parameters):
    try:
        raise OSError("no c++")
    except OSError as error:
        raise RuntimeError("the op failed to build") from error


def test_an_optimizer_that_cannot_be_made_is_one_line():
    with pytest.raises(
        InputError,
        match=r"^expected an optimizer that can .* \(the op failed to build; no c\+\+\); type --optim",
    ):
        Optimization(failing)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_time": "00:00:01:00", "max_steps": -1}, r"a run that only its time ends; type --trainer.max_steps N"),
        ({"gradient_clip_val": -1.0}, r"`trainer.gradient_clip_val` of at least 0, got -1.0; 1.0 is usual"),
        ({"gradient_clip_val": math.nan}, r"`trainer.gradient_clip_val` of at least 0, got nan"),
        ({"accumulate_grad_batches": 0}, r"accumulate_grad_batches` of at least 1, got 0|grad accumulation"),
    ],
)
def test_what_the_trainer_would_stumble_over_is_refused_before_the_policy_is_loaded(options, message, monkeypatch):
    monkeypatch.setattr(PolicyConfig, "load", lambda policy: pytest.fail("loaded"))
    module = ORPO()
    options = {"max_steps": 1, "accelerator": "cpu", "logger": False, "enable_checkpointing": False} | options
    with pytest.raises(ValueError, match=message):
        Trainer(**options).fit(module, datamodule=RandomPairs(module.views))


def test_adapters_of_half_weights_train_under_a_loss_scale(policy_folder):
    adapters = PolicyConfig(source=str(policy_folder), dtype="float16", lora=LoRA(r=2))
    module = ORPO(policy=adapters, optimization=Optimization(OPTIMIZERS["FusedAdamW"], "constant", 0.0))
    plugin = MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu", init_scale=2.0**8))
    trained_to = trained(module, plugins=plugin)
    assert plugin.scaler.get_scale() == 2.0**8  # no step was left out
    lora_b = [value for name, value in trained_to.items() if "lora_B" in name]
    assert all(value.dtype == torch.float32 and value.abs().max() > 0 for value in lora_b)


@pytest.mark.parametrize("lora", [None, LoRA(r=2, also_train=["norm", "bias"])])
@pytest.mark.parametrize("optimizer", [FusedAdamW, torch.optim.AdamW, torch.optim.SGD])
def test_norms_and_biases_do_not_decay_and_matrices_do(optimizer, lora):
    model = tiny_model("Qwen2")  # its attention has biases
    model = model if lora is None else add_adapters(model, lora)
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    before = {name: value.detach().clone() for name, value in trained.items()}
    decaying = Optimization(partial(optimizer, lr=0.5, weight_decay=0.5), "constant", 0.0)
    stepper, _ = decaying.build(trained.values(), 1)
    for parameter in trained.values():
        parameter.grad = torch.zeros_like(parameter)
    stepper.step()
    vectors = {name for name in trained if name.endswith(".bias") or "norm" in name}
    assert vectors
    for name, value in trained.items():
        torch.testing.assert_close(value.detach(), before[name] * (1.0 if name in vectors else 0.75), msg=name)
    if lora is not None:
        assert any("lora_A" in name for name in set(trained) - vectors)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("0.0", "init_args.lr` above 0 and at most 10, got 0.0; lr 1e-6 is usual"),
        (".inf", "init_args.lr` above 0 and at most 10, got inf"),
        ("1.0e+30", "init_args.lr` above 0 and at most 10, got"),
        ("-1.0e-6", r"that the optimizer takes, got others \(Invalid learning rate: -1e-06\); lr 1e-6 is usual"),
        (".nan", r"that the optimizer takes, got others \(Invalid learning rate: nan\)"),
    ],
)
def test_learning_rates_that_mean_nothing_are_refused_before_anything_is_loaded(value, message):
    with pytest.raises(ValueError, match=message):
        build("--config", CONFIGS / "dpo.yaml", f"--optimization.optimizer.init_args.lr={value}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weight_decay": -0.1}, r"others \(Invalid weight_decay value: -0.1\)"),
        ({"weight_decay": math.inf}, r"init_args.weight_decay` of at least 0 and at most 10, got inf; 0 is usual"),
        ({"betas": (0.9, math.nan)}, r"expected `optimization.*` that the optimizer takes, got others \(Invalid beta"),
    ],
)
def test_optimizer_arguments_that_mean_nothing_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Optimization(partial(FusedAdamW, **arguments))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"warmup_fraction": math.nan},
            r"`optimization.warmup_fraction` of at least 0 and below 1, got nan; 0.1",
        ),
        ({"min_lr_fraction": 1.0}, r"`optimization.min_lr_fraction` of at least 0 and below 1, got 1.0; 0.1 ends"),
        ({"min_lr_fraction": 0.1, "schedule": "constant"}, "no `optimization.min_lr_fraction` with"),
    ],
)
def test_schedules_that_mean_nothing_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Optimization(**arguments)


@pytest.mark.parametrize(("epochs", "steps"), [(1, 3), (2, 6)])
def test_the_end_of_an_epoch_is_a_step_too(epochs, steps):
    trainer = SimpleNamespace(
        max_epochs=epochs,
        max_steps=-1,
        limit_train_batches=1.0,
        accumulate_grad_batches=4,
        fit_loop=SimpleNamespace(_data_source=SimpleNamespace(dataloader=lambda: range(10))),
    )
    assert num_optimizer_steps(trainer) == steps


def test_a_schedule_of_accumulation_is_counted_epoch_by_epoch(policy_folder, tmp_path):
    """Lightning gives no number there (Lightning#21534); the rate has to end at its floor all the same."""
    halving = Optimization(lambda params: FusedAdamW(params, lr=1e-2), schedule="linear", warmup_fraction=0.0)
    module = ORPO(policy=PolicyConfig(source=str(policy_folder)), optimization=halving)
    trainer = Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        use_distributed_sampler=False,
        limit_val_batches=0,
        default_root_dir=tmp_path,
        callbacks=GradientAccumulationScheduler({0: 4, 1: 2, 2: 3}),
    )
    trainer.fit(module, datamodule=RandomPairs(module.views))  # four rows an epoch
    assert num_optimizer_steps(trainer) == trainer.global_step == 1 + 2 + 2
    assert trainer.optimizers[0].param_groups[0]["lr"] == 0.0
