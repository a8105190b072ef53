"""Optimizer and schedule against plain torch, and what is refused of their settings."""

import math
import re
from functools import partial

import pytest
import torch
from lightning.pytorch import Trainer
from peft.optimizers import create_loraplus_optimizer
from peft.optimizers.lorafa import LoraFAOptimizer
from support.command_line import CONFIGS, build
from support.preference_data import RandomPairs
from support.tiny_hybrids import tiny_hybrid
from support.tiny_models import tiny_model
from transformers import RwkvConfig, RwkvForCausalLM

from lit_longpo.errors import InputError
from lit_longpo.objectives import ORPO
from lit_longpo.optimization import FusedAdamW, Optimization, undecayed
from lit_longpo.policy import LoRA, PolicyConfig
from lit_longpo.policy.adapters.lora import add_adapters


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


@pytest.mark.parametrize(
    ("optimizer", "rows", "split", "message"),
    [
        (
            torch.optim.Muon,
            1,
            None,
            r"trained parameter, got Muon, which takes no vectors \(norms.*`policy.lora`",
        ),
        (torch.optim.LBFGS, 2, None, "expected one row a step with LBFGS, .* got 2, .*_batches 1, or type --opt"),
        (torch.optim.Adafactor, 1, "FSDP2", "expected one device or DDP with Adafactor, .* got FSDP2, .* ddp"),
        (torch.optim.Muon, 1, "ZeRO-2", "expected one device or DDP with Muon, .* got ZeRO-2, "),
    ],
)
def test_optimizers_of_whole_tensors_are_refused_before_the_policy_is_loaded(
    optimizer, rows, split, message, monkeypatch
):
    monkeypatch.setattr(PolicyConfig, "load", lambda policy: pytest.fail("loaded"))
    monkeypatch.setattr("lit_longpo.optimization.settings.optimizer_split", lambda strategy: split)
    module = ORPO(optimization=Optimization(partial(optimizer, lr=0.01), "constant", 0.0))
    options = {"accumulate_grad_batches": rows, "logger": False, "enable_checkpointing": False}
    with pytest.raises(InputError, match=message):
        Trainer(max_steps=1, accelerator="cpu", **options).fit(module, datamodule=RandomPairs(module.views))


def test_an_optimizer_of_sparse_gradients_is_refused():
    with pytest.raises(InputError, match=r"dense gradients, got SparseAdam; type --optimization"):
        Optimization(partial(torch.optim.SparseAdam, lr=0.01))


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (LoraFAOptimizer, r"takes parameters alone, got LoraFAOptimizer, .*names and scales of adapters.*; type --opt"),
        (create_loraplus_optimizer, r"made of parameters and of the settings given, .*'optimizer_cls'\); type --opt"),
    ],
)
def test_optimizers_of_adapters_by_name_are_refused(optimizer, message):
    """LoRA-FA ended in a KeyError at its first step, what makes LoRA+ in a TypeError."""
    with pytest.raises(InputError, match=message):
        Optimization(partial(optimizer, lr=0.01))


class GaLoreAdamW8bit(torch.optim.AdamW):
    """Named as those that look for a rank in every group, and are AdamW without one."""


class AdamW(torch.optim.AdamW):
    """As apollo_torch's, which it hands out as APOLLOAdamW, is called."""

    __module__ = "apollo_torch.apollo"


class AdamW8bit(torch.optim.AdamW):
    """As Q-GaLore's, which it hands out as QGaLoreAdamW8bit, is called."""

    __module__ = "q_galore_torch.q_galore_adamw8bit"


class Apollo(torch.optim.AdamW):
    """Named as torch_optimizer's quasi-Newton method, which takes parameters alone."""

    __module__ = "torch_optimizer.apollo"


class SAM(torch.optim.SGD):
    """Named as the one that climbs by the gradients that it finds, which are freed here behind every step."""

    def first_step(self):
        """Before the loss is computed again."""

    def second_step(self):
        """By the gradients found up there."""


class SophiaG(torch.optim.SGD):
    """Named as the one whose loop asks for curvatures every few steps; without, it goes by the gradients' signs."""

    def update_hessian(self):
        """Called by nobody here."""


class AdamWScheduleFree(torch.optim.AdamW):
    """As those whose weights are others in training than in validation."""

    def train(self):
        """Called by nobody here."""

    def eval(self):
        """Called by nobody here."""


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (GaLoreAdamW8bit, r"got .*GaLoreAdamW8bit, which projects only groups with a `rank` .*; type --optimization"),
        (AdamW, r"got apollo_torch\.apollo\.AdamW, which projects only groups"),
        (AdamW8bit, r"got q_galore_torch\.q_galore_adamw8bit\.AdamW8bit, which projects only groups"),
        (
            SAM,
            r"told to step and no more, got SAM, whose `first_step` and `second_step` nobody calls",
        ),
        (SophiaG, r"got SophiaG, whose `update_hessian` nobody calls: what makes it differ .*; type --optimization"),
        (AdamWScheduleFree, r"weights that are validated and saved, got AdamWScheduleFree, .*; type --optimization"),
    ],
)
def test_optimizers_that_would_be_others_without_a_word_are_refused(optimizer, message):
    """The first were plain AdamW, schedule-free ones were validated and exported where they take gradients.

    SAM was the optimizer below it: its gradients of before are freed (davda54/sam#91).
    """
    with pytest.raises(InputError, match=message):
        Optimization(partial(optimizer, lr=0.01))


def test_an_optimizer_of_a_name_like_that_of_one_of_ranks_is_taken():
    assert Optimization(partial(Apollo, lr=0.01)).optimizer.func is Apollo


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
    with pytest.raises(InputError, match=r"cannot \('list' object has no attribute 'parameters'\); type --optim"):
        Optimization(lambda model: model.parameters())  # LOMO's, of a model


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


@pytest.mark.parametrize("lora", [None, LoRA(r=2, also_train=["norm", "bias"])])
@pytest.mark.parametrize(
    ("optimizer", "name", "more"),  # with biases of attention, of stacked experts (Fast-LLM#545), and norms of heads
    [
        (FusedAdamW, "Qwen2", {}),
        (torch.optim.AdamW, "Qwen2", {}),
        (torch.optim.SGD, "Qwen2", {}),
        (FusedAdamW, "GptOss", {}),
        (FusedAdamW, "Cohere", {"use_qk_norm": True, "attention_bias": True}),
    ],
)
def test_norms_and_biases_do_not_decay_and_matrices_do(optimizer, name, more, lora):
    model = tiny_model(name, **more)
    model = model if lora is None else add_adapters(model, lora)
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    before = {name: value.detach().clone() for name, value in trained.items()}
    decaying = Optimization(partial(optimizer, lr=0.5, weight_decay=0.5), "constant", 0.0)
    stepper, _ = decaying.build(trained.values(), 1, kept=undecayed(model))
    for parameter in trained.values():
        parameter.grad = torch.zeros_like(parameter)
    stepper.step()
    vectors = {name for name in trained if name.endswith(("bias", "sinks")) or "norm" in name}
    assert vectors
    for name, value in trained.items():
        torch.testing.assert_close(value.detach(), before[name] * (1.0 if name in vectors else 0.75), msg=name)
    if lora is not None:
        assert any("lora_A" in name for name in set(trained) - vectors)


MIXTURES = {"time_mix_key", "time_mix_value", "time_mix_receptance"}


@pytest.mark.parametrize(
    ("make", "matrices"),
    [
        (lambda: tiny_hybrid("Mamba"), {"A_log"}),  # mamba_ssm marks them, transformers no longer does
        (lambda: RwkvForCausalLM(RwkvConfig(vocab_size=8, hidden_size=4, num_hidden_layers=2)), MIXTURES),
    ],
)
def test_rates_of_decay_and_mixtures_do_not_decay(make, matrices):
    model = make()
    kept = {id(each) for each in undecayed(model)}
    names = {name.rpartition(".")[2] for name, each in model.named_parameters() if id(each) in kept and each.dim() > 1}
    assert names == matrices


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
