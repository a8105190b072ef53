"""Checks what an optimizer needs beyond a gradient for each number: whole tensors, matrices only, the loss again.

AdamW and its like update every number by itself, so they train slices (ZeRO, FSDP2) as they train whole tensors.
Adafactor factorises the squares of a matrix's gradients, Muon makes its update orthogonal, LBFGS goes by all weights
at once: of a flat slice, as DeepSpeed hands them out, they would make something else. A trial tells (`trials.py`).
"""

import inspect
import re
from collections.abc import Iterable
from textwrap import shorten
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from lit_longpo.errors import InputError
from lit_longpo.optimization.trials import OptimizerFactory, goes_by_others, needs_graph

_USUAL = "--optimization.optimizer FusedAdamW"
INSTEAD = f"type {_USUAL}"
# Classes of these names, of any package, work on whole tensors, which a short trial does not show: Apollo of 2020
# divides by the norm of an update, AdamP projects where a gradient is across its tensor, LARS goes by norms where
# weights decay, Kron draws.
_BY_TENSOR = frozenset(
    {"AdamP", "Apollo", "ApolloDQN", "DistributedShampoo", "Kron", "LARS", "LBFGS", "Muon", "ScalableShampoo", "SGDP"}
)
_SAID = 160  # characters of an error, which may hold a compiler's whole command
_OF_NAMES = frozenset({"LoraFAOptimizer"})  # peft's
# They project what is in groups with a rank of their own; of other parameters they are AdamW, as some are called.
# APOLLO is one of them, in capitals: Apollo and ApolloDQN are an older quasi-Newton method.
_OF_RANKS = re.compile(r"(?i:galore)|APOLLO|^apollo_torch$|^(?i:fira)(?![a-z])")
# SAM and its like climb by gradients that are there before a step, Sophia-G's curvature is asked for by its own loop.
_BESIDE_STEPS = (("first_step", "second_step"), ("update_hessian",))
_OF_THE_HOST = frozenset({"DeepSpeedCPUAdam", "DeepSpeedCPUAdagrad", "DeepSpeedCPULion"})  # their kernels are for CPUs


def names_of(optimizer: Optimizer) -> frozenset[str]:
    """Names of an optimizer's class and of those that it derives from."""
    return frozenset(kind.__name__ for kind in type(optimizer).__mro__)


def slices_problem(make: OptimizerFactory, split: str | None) -> str | None:
    """Why the optimizer cannot train slices, and what to type; `None` if it can.

    Args:
        make: of parameters.
        split: what hands an optimizer slices of parameters ("ZeRO-2", "FSDP2"); `None` if they are whole.
    """
    if split is None:
        return None
    optimizer = probe_of(make)
    if not names_of(optimizer) & _BY_TENSOR and not goes_by_others(make):
        return None
    return (
        f"expected one device or DDP with {type(optimizer).__name__}, whose update of a number goes by the others of "
        f"its tensor or by all, got {split}, which hands out slices; {INSTEAD}, or --trainer.strategy ddp"
    )


def graph_problem(make: OptimizerFactory) -> str | None:
    """Why the optimizer's first step would fail, and what to type; `None` if it would not."""
    if not needs_graph(make):
        return None
    return (
        f"expected an optimizer that goes by gradients alone, got {type(probe_of(make)).__name__}, which takes their "
        f"own: no row keeps the graph for that, and attention kernels have no second derivative; {INSTEAD}"
    )


def vectors_problem(make: OptimizerFactory) -> str | None:
    """Why the optimizer cannot train norms and biases, and what to type; `None` if it can."""
    try:
        make([nn.Parameter(torch.zeros(1))])
    except ValueError:
        return (
            f"expected an optimizer that takes every trained parameter, got {type(probe_of(make)).__name__}, which "
            f"takes no vectors (norms, biases); {INSTEAD}, or train adapters on matrices alone (`policy.lora`)"
        )
    return None


def closure_problem(make: OptimizerFactory, split: str | None) -> str | None:
    """Why the first step would fail, to which Lightning hands the loss as a function; `None` if it would not."""
    if split is not None and split.startswith("ZeRO"):  # DeepSpeed hands it nothing
        return None
    optimizer = probe_of(make)
    try:
        inspect.signature(optimizer.step).bind(closure=None)
    except TypeError:
        return (
            f"expected an optimizer whose `step` takes a `closure`, by which Lightning computes the loss, got "
            f"{type(optimizer).__name__}, whose takes none; write `def step(self, closure=None)`, or {INSTEAD}"
        )
    return None


def host_problem(optimizer: Optimizer, device: str | None) -> str | None:
    """Why the optimizer finds no weights that it can update, and what to type; `None` if it does."""
    if device == "cpu" or not names_of(optimizer) & _OF_THE_HOST:
        return None
    return (
        f"expected weights in host memory with {type(optimizer).__name__}, which updates them on the CPU, got them on "
        f"{device or 'a GPU'}; type --trainer.strategy.init_args.offload_optimizer true (DeepSpeed), or {_USUAL}"
    )


def accumulation_problem(optimizer: Optimizer, rows: int) -> str | None:
    """Why the optimizer cannot train on several rows a step, and what to type; `None` if it can."""
    if rows == 1 or not isinstance(optimizer, torch.optim.LBFGS):
        return None
    return (
        "expected one row a step with LBFGS, which asks for the loss and its gradient again within a step, got "
        f"{rows}, of which Lightning computes the last anew; type --trainer.accumulate_grad_batches 1, or {INSTEAD}"
    )


def check_first_step(optimizer: Optimizer) -> None:
    """Refuse an optimizer whose first step would fail, or would be another's.

    Raises:
        InputError: it takes sparse gradients alone, names or ranks beside parameters, holds two sets of weights, or
            wants something done beside each step.
    """
    if isinstance(optimizer, torch.optim.SparseAdam):
        raise InputError(f"expected an optimizer of dense gradients, got SparseAdam; {INSTEAD}")
    if names_of(optimizer) & _OF_NAMES:
        raise InputError(
            f"expected an optimizer that takes parameters alone, got {type(optimizer).__name__}, which looks for the "
            f"names and scales of adapters beside them; {INSTEAD}"
        )
    packages = {kind.__module__.partition(".")[0] for kind in type(optimizer).__mro__}
    if any(map(_OF_RANKS.search, names_of(optimizer) | packages)):
        name = f"{type(optimizer).__module__}.{type(optimizer).__name__}"
        raise InputError(
            f"expected an optimizer that does its part for parameters alone, got {name}, which projects only groups "
            f"with a `rank` of their own: nothing would be projected, and no memory saved; {INSTEAD}, or for less "
            "memory QuantizedAdamW or adapters (`policy.lora`)"
        )
    if callable(getattr(optimizer, "train", None)) and callable(getattr(optimizer, "eval", None)):  # schedule-free ones
        raise InputError(
            "expected an optimizer that trains the weights that are validated and saved, got "
            f"{type(optimizer).__name__}, which has to be told of every validation and checkpoint, where its weights "
            f"are others; {INSTEAD}"
        )
    wanted = next((names for names in _BESIDE_STEPS if all(hasattr(optimizer, name) for name in names)), None)
    if wanted:
        raise InputError(
            f"expected an optimizer that is told to step and no more, got {type(optimizer).__name__}, whose "
            f"`{'` and `'.join(wanted)}` nobody calls: what makes it differ from others would be left out; {INSTEAD}"
        )


def probe_of(make: OptimizerFactory) -> Optimizer:
    """The optimizer of a single number.

    Raises:
        InputError: it cannot be made; it has a part that is compiled for this machine, for example, and no compiler.
    """
    try:
        optimizer: Optimizer = make([nn.Parameter(torch.zeros(1, 1))])
    except TypeError as error:
        raise InputError(
            f"expected an optimizer that is made of parameters and of the settings given, got one that is not ({error})"
            f"; {INSTEAD}"
        ) from error
    except (AssertionError, AttributeError, KeyError, RuntimeError) as error:
        causes = "; ".join(shorten(str(each), _SAID) for each in (error, error.__cause__) if each is not None)
        raise InputError(
            f"expected an optimizer that can be made here with these settings, got one that cannot ({causes}); "
            f"{INSTEAD}"
        ) from error
    return optimizer


def optimizer_of(make: OptimizerFactory, parameters: Iterable[Any]) -> Optimizer:
    """The optimizer of these parameters, or of groups of them.

    Raises:
        InputError: it does not take them; vectors, for example.
    """
    try:
        optimizer: Optimizer = make(parameters)
    except ValueError as error:
        raise InputError(
            f"expected an optimizer that takes every trained parameter, got one that does not ({error}); {INSTEAD}, or "
            "train adapters on matrices alone (`policy.lora`)"
        ) from error
    return optimizer


def check_countable(optimizer: Optimizer) -> None:
    """Refuse to count states that go on growing.

    Raises:
        InputError: it keeps a history.
    """
    if isinstance(optimizer, torch.optim.LBFGS):
        raise InputError(
            "expected an optimizer whose states are all there after its first step, got LBFGS, whose history grows to "
            f"{optimizer.param_groups[0]['history_size']} gradients and steps; {INSTEAD}"
        )
