"""Computes norms and MLPs with Liger's kernels or torch's compiler, with the same values.

Off unless asked for (`policy.layer_kernels`): which of them is faster is a matter of GPU, shape and row, to be measured
(`benchmarks.device --only 'speed*'`). Modules are those that are tiled (`tiled_layers.py`), and stay what they are:
only the function that computes them is another, so that adapters, tiles and recomputation go on around it.

Compiled dropout is left out: torch 2.13 may drop other numbers in backward (pytorch#198333, #190758).
"""

import inspect
import logging
import os
import shutil
from collections.abc import Callable
from functools import cache
from types import MethodType
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from lit_longpo.engine.attention import UnsupportedModelError
from lit_longpo.engine.liger_kernels import OFF, Forward, check_liger, liger_forward
from lit_longpo.engine.tiling.tiled_layers import norms_and_mlps
from lit_longpo.errors import MissingPackageError, require_package
from lit_longpo.log_once import log_once

LayerKernels = Literal["compile", "liger"]

log = logging.getLogger(__name__)

_EACH = 32  # variants of one module: with and without gradients, adapters, dropout; one token, one sequence


def check_layer_kernels(kind: LayerKernels | None) -> None:
    """Refuse, before a model is loaded, what cannot run on this machine.

    Raises:
        MissingPackageError: a package or a compiler is not there.
        InputError: Liger's kernels are asked for without a GPU.
    """
    if kind is not None:
        _CHECKS[kind]()


def use_layer_kernels(model: PreTrainedModel, kind: LayerKernels | None) -> None:
    """From now on compute the model's norms and MLPs with these kernels; adapters and tiles may be added later only.

    Raises:
        UnsupportedModelError: there is none for any of its norms and MLPs.
    """
    if kind is None:
        return
    modules = norms_and_mlps(model)
    found = [(module, forward) for module in modules if (forward := _KERNELS[kind](module)) is not None]
    if not found:
        raise UnsupportedModelError(
            f"expected norms or MLPs that `policy.layer_kernels: {kind}` has code for, got none in "
            f"{type(model).__name__}; {OFF}"
        )
    for module, forward in found:
        replaced = cast(Any, module)
        replaced.layer_kernel = forward
        replaced.forward = MethodType(forward, module)
    log.info("norms and MLPs by %s: %s of %s modules", kind, len(found), len(modules))


def _check_compiler() -> None:
    if torch.cuda.is_available():
        require_package("triton", "`policy.layer_kernels: compile`, as torch compiles for GPUs through it", OFF)
    elif not any(map(shutil.which, (os.environ.get("CXX", "g++"), "g++", "clang++", "cl"))):
        raise MissingPackageError(
            "expected a C++ compiler, through which torch compiles for a CPU, for `policy.layer_kernels: compile`, "
            f"found none; install g++, or {OFF}"
        )


def _run_compiled(module: nn.Module, *given: Tensor) -> Tensor:
    """A layer with dropout runs its own code: compiled, it may drop other numbers in backward."""
    own: Forward = type(module).forward
    if any(isinstance(part, nn.Dropout) and part.training and part.p > 0 for part in module.modules()):
        log_once(log.info, "layers with dropout are not compiled (`policy.layer_kernels: compile`)")
        return own(module, *given)
    return _compiled_forward(cast(Any, type(module)))(module, *given)


@cache
def _compiled_forward(kind: type[nn.Module]) -> Forward:
    options: dict[str, Any] = {"dynamic": True}  # lengths of rows are variables from the first on
    if "recompile_limit" in inspect.signature(torch.compile).parameters:  # torch 2.12 and later
        options["recompile_limit"] = _EACH
    compiled: Forward = torch.compile(kind.forward, **options)
    return compiled


_CHECKS: dict[LayerKernels, Callable[[], None]] = {"compile": _check_compiler, "liger": check_liger}
_KERNELS: dict[LayerKernels, Callable[[nn.Module], Forward | None]] = {
    "compile": lambda module: _run_compiled,
    "liger": liger_forward,
}
