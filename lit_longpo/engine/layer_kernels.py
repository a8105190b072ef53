"""Computes norms and MLPs with Liger's kernels or torch's compiler, with the same values.

Off unless asked for (`policy.layer_kernels`): which of them is faster is a matter of GPU, shape and row, to be measured
(`benchmarks.gpu --parts kernels`). Modules are those that are tiled (`tiled_layers.py`), and stay what they are: only
the function that computes them is another, so that adapters, tiles and recomputation go on around it.

Compiled dropout is left out: torch 2.13 may drop other numbers in backward (pytorch#198333, #190758).

Which of Liger's formulas a norm has (and whether it has one) is found by trying: a copy of it with few channels has to
give the very numbers of the formula, in fp32 and in bf16, where the families' differ by their casts. So no list of
families is to be kept, and a norm that computes something else keeps its own code. Rotary positions stay transformers':
Liger's kernel takes their place in the whole process, not in one model, and writes into queries and keys.
"""

import copy
import importlib
import inspect
import logging
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from types import MethodType
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import silu
from transformers import PreTrainedModel

from lit_longpo.engine.attention import UnsupportedModelError
from lit_longpo.engine.backends.gradient_check import largest_error
from lit_longpo.engine.tiling.tiled_layers import norms_and_mlps
from lit_longpo.errors import InputError, MissingPackageError, require_package
from lit_longpo.log_once import log_once

LayerKernels = Literal["compile", "liger"]
Forward = Callable[..., Tensor]

log = logging.getLogger(__name__)

_OFF = "type --policy.layer_kernels null"
_EACH = 32  # variants of one module: with and without gradients, adapters, dropout; one token, one sequence
_CHANNELS, _INSIDE = 8, 12  # of the copies that are tried


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
            f"{type(model).__name__}; {_OFF}"
        )
    for module, forward in found:
        replaced = cast(Any, module)
        replaced.layer_kernel = forward
        replaced.forward = MethodType(forward, module)
    log.info("norms and MLPs by %s: %s of %s modules", kind, len(found), len(modules))


def _check_liger() -> None:
    told = f'type: pip install "lit_longpo[liger]", or {_OFF}'
    require_package("liger_kernel", "`policy.layer_kernels: liger`", told)
    if not torch.cuda.is_available():
        raise InputError(f"expected a GPU for `policy.layer_kernels: liger`, got none; {_OFF}")


def _check_compiler() -> None:
    if torch.cuda.is_available():
        require_package("triton", "`policy.layer_kernels: compile`, as torch compiles for GPUs through it", _OFF)
    elif not any(map(shutil.which, (os.environ.get("CXX", "g++"), "g++", "clang++", "cl"))):
        raise MissingPackageError(
            "expected a C++ compiler, through which torch compiles for a CPU, for `policy.layer_kernels: compile`, "
            f"found none; install g++, or {_OFF}"
        )


def _compiled(module: nn.Module) -> Forward:
    """One function for all layers, and for rows of all lengths."""
    return _run_compiled


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


def _liger(module: nn.Module) -> Forward | None:
    """A norm or a gated MLP of the formulas that Liger has kernels for."""
    return _liger_mlp(module) or _liger_norm(module)


def _liger_norm(module: nn.Module) -> Forward | None:
    epsilon = next((getattr(module, name) for name in ("variance_epsilon", "eps") if hasattr(module, name)), None)
    if epsilon is None or set(dict(module.named_parameters())) != {"weight"} or any(True for _ in module.children()):
        return None
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(64, _CHANNELS, generator=generator)
    weight = torch.rand(_CHANNELS, generator=generator) + 0.5
    for name, formula in _NORMS.items():
        if all(_agree(_small_norm(module, weight.to(kind)), formula, rows.to(kind), epsilon) for kind in _PRECISIONS):
            return partial(_norm_kernel, name, float(epsilon))
    return None


_PRECISIONS = (torch.float32, torch.bfloat16)


def _small_norm(module: nn.Module, weight: Tensor) -> nn.Module:
    """The module with few channels; what it is called with, settings and code, are its own."""
    small = copy.copy(module)
    small._parameters = {"weight": nn.Parameter(weight)}
    return small


def _agree(small: nn.Module, formula: Callable[[Tensor, Tensor, float], Tensor], rows: Tensor, epsilon: float) -> bool:
    with torch.no_grad():
        own = type(small).forward(small, rows)
        expected = formula(rows, cast(Tensor, small.weight), epsilon)
    return own.dtype == expected.dtype and torch.equal(own, expected)


def _normed(rows: Tensor, epsilon: float) -> Tensor:
    rows = rows.float()
    return rows * torch.rsqrt(rows.pow(2).mean(-1, keepdim=True) + epsilon)


# What Liger's kernels compute, by the names that it gives to their casts.
_NORMS: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "llama": lambda rows, weight, epsilon: weight * _normed(rows, epsilon).to(rows.dtype),
    "gemma": lambda rows, weight, epsilon: (_normed(rows, epsilon) * (1.0 + weight.float())).to(rows.dtype),
    "scaled in fp32": lambda rows, weight, epsilon: (_normed(rows, epsilon) * weight.float()).to(rows.dtype),
}
_CASTS = {"llama": (0.0, "llama"), "gemma": (1.0, "gemma"), "scaled in fp32": (0.0, "gemma")}


def _norm_kernel(formula: str, epsilon: float, module: Any, rows: Tensor) -> Tensor:
    """Shape: of the rows."""
    _require_gpu(rows)
    _require_right("RMSNorm", _liger_rms_norm(formula, epsilon), _NORMS[formula], epsilon, _place(rows))
    return _liger_rms_norm(formula, epsilon)(rows, module.weight)


@cache
def _liger_rms_norm(formula: str, epsilon: float) -> Forward:
    function = importlib.import_module("liger_kernel.transformers.functional").liger_rms_norm
    offset, casts = _CASTS[formula]
    # Not in place: backward would write into a gradient that the residual stream holds, too.
    return lambda rows, weight: function(rows, weight, epsilon, offset, casts, False)


_GATED = ("gate_proj", "up_proj", "down_proj")


def _liger_mlp(module: nn.Module) -> Forward | None:
    if not set(_GATED) <= set(dict(module.named_children())):
        return None
    generator = torch.Generator().manual_seed(0)
    small = copy.copy(module)
    small._modules = {**module._modules, **_small_maps(generator)}
    rows = torch.randn(64, _CHANNELS, generator=generator)
    with torch.no_grad():
        own, expected = type(small).forward(small, rows), _gated(small, rows, _silu_product)
    return _mlp_kernel if torch.equal(own, expected) else None


def _small_maps(generator: torch.Generator) -> dict[str, nn.Module]:
    sizes = ((_CHANNELS, _INSIDE), (_CHANNELS, _INSIDE), (_INSIDE, _CHANNELS))
    maps: dict[str, nn.Module] = {name: nn.Linear(*size, bias=False) for name, size in zip(_GATED, sizes, strict=True)}
    for parameter in (parameter for part in maps.values() for parameter in part.parameters()):
        nn.init.normal_(parameter, generator=generator)
    return maps


def _gated(module: Any, rows: Tensor, product: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    down: Tensor = module.down_proj(product(module.gate_proj(rows), module.up_proj(rows)))
    return down


def _mlp_kernel(module: Any, rows: Tensor) -> Tensor:
    """Shape: of the rows. Maps keep their adapters."""
    _require_gpu(rows)
    product = importlib.import_module("liger_kernel.transformers.functional").liger_swiglu
    _require_right("SwiGLU", product, _silu_product, None, _place(rows))
    return _gated(module, rows, product)


def _silu_product(gate: Tensor, up: Tensor, epsilon: None = None) -> Tensor:
    return silu(gate) * up


_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 2e-2}
Place = tuple[torch.device, torch.dtype, int]


def _place(rows: Tensor) -> Place:
    """Where a kernel runs: device, precision, channels."""
    return rows.device, rows.dtype, rows.shape[-1]


@cache
def _require_right(
    what: str, kernel: Forward, formula: Callable[..., Tensor], epsilon: float | None, at: Place
) -> None:
    """Compare a kernel's values and gradients with its formula in fp32, once wherever it runs.

    Raises:
        UnsupportedModelError: they are others; the probe, which runs the kernel on both sides, would not see it.
    """
    # A thread of its own has gradients, no autocast, and no hooks of a recomputed layer that count what is saved.
    with ThreadPoolExecutor(1) as thread:
        error = thread.submit(
            _error, kernel, partial(formula, epsilon=epsilon), at, is_norm=epsilon is not None
        ).result()
    if not error <= _TOLERANCE[at[1]]:
        raise UnsupportedModelError(
            f"expected Liger's {what} to be its formula on this device in {at[1]}, got values or gradients that are "
            f"off by {error:.1e}; {_OFF}"
        )


def _error(kernel: Forward, formula: Forward, at: Place, *, is_norm: bool) -> float:
    """The largest of values and gradients, relative to the largest number of each."""
    device, dtype, channels = at
    generator = torch.Generator().manual_seed(0)
    second = (channels,) if is_norm else (4, channels)  # a norm's weight, or what a gate is multiplied with
    given = [torch.randn(size, generator=generator).to(device, dtype) for size in ((4, channels), second)]
    found = _with_gradients(kernel, [tensor.clone().requires_grad_() for tensor in given])
    expected = _with_gradients(formula, [tensor.float().clone().requires_grad_() for tensor in given])
    return largest_error(found, expected)


def _with_gradients(function: Forward, tensors: list[Tensor]) -> list[Tensor]:
    out = function(*tensors)
    weights = torch.linspace(-1.0, 1.0, out.numel(), device=out.device).view_as(out)
    return [out.detach(), *torch.autograd.grad((out.float() * weights).sum(), tensors)]


def _require_gpu(rows: Tensor) -> None:
    if rows.device.type != "cuda":
        raise InputError(f"expected a GPU for `policy.layer_kernels: liger`, got {rows.device.type}; {_OFF}")


_CHECKS: dict[LayerKernels, Callable[[], None]] = {"compile": _check_compiler, "liger": _check_liger}
_KERNELS: dict[LayerKernels, Callable[[nn.Module], Forward | None]] = {"compile": _compiled, "liger": _liger}
