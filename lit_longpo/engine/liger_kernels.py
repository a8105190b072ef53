"""Liger's kernels for norms and gated MLPs, where their formulas are the modules' own.

Which of Liger's formulas a norm has (and whether it has one) is found by trying: a copy of it with few channels has to
give the very numbers of the formula, in fp32 and in bf16, where the families' differ by their casts. So no list of
families is to be kept, and a norm that computes something else keeps its own code. Rotary positions stay transformers':
Liger's kernel takes their place in the whole process, not in one model, and writes into queries and keys.
"""

import copy
import importlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from lit_longpo.engine.attention import UnsupportedModelError
from lit_longpo.engine.backends.gradient_check import largest_error
from lit_longpo.errors import InputError, require_package

Forward = Callable[..., Tensor]

OFF = "type --policy.layer_kernels null"
_CHANNELS, _INSIDE = 8, 12  # of the copies that are tried
_PRECISIONS = (torch.float32, torch.bfloat16)  # in which they are
_GATED = ("gate_proj", "up_proj", "down_proj")
_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 2e-2}
_Place = tuple[torch.device, torch.dtype, int]


def check_liger() -> None:
    """Refuse, before a model is loaded, what cannot run on this machine.

    Raises:
        MissingPackageError: the package is not there.
        InputError: there is no GPU.
    """
    told = f'type: pip install "lit_longpo[liger]", or {OFF}'
    require_package("liger_kernel", "`policy.layer_kernels: liger`", told)
    if not torch.cuda.is_available():
        raise InputError(f"expected a GPU for `policy.layer_kernels: liger`, got none; {OFF}")


def liger_forward(module: nn.Module) -> Forward | None:
    """The forward of a norm or a gated MLP whose formula Liger has a kernel for; `None` for other modules."""
    return _liger_mlp(module) or _liger_norm(module)


# Norms.


def _rms(rows: Tensor, epsilon: float) -> Tensor:
    rows = rows.float()
    return rows * torch.rsqrt(rows.pow(2).mean(-1, keepdim=True) + epsilon)


@dataclass(frozen=True)
class _Norm:
    """A formula, and how Liger's function is told to compute it.

    Args:
        formula: of rows, weight and epsilon.
        offset: what is added to the weight.
        casts: Liger's name for which products are in fp32.
    """

    formula: Callable[[Tensor, Tensor, float], Tensor]
    offset: float
    casts: str


_NORMS = (
    _Norm(lambda rows, weight, epsilon: weight * _rms(rows, epsilon).to(rows.dtype), 0.0, "llama"),
    _Norm(lambda rows, weight, epsilon: (_rms(rows, epsilon) * (1.0 + weight.float())).to(rows.dtype), 1.0, "gemma"),
    _Norm(lambda rows, weight, epsilon: (_rms(rows, epsilon) * weight.float()).to(rows.dtype), 0.0, "gemma"),
)


def _liger_norm(module: nn.Module) -> Forward | None:
    epsilon = next((getattr(module, name) for name in ("variance_epsilon", "eps") if hasattr(module, name)), None)
    if epsilon is None or set(dict(module.named_parameters())) != {"weight"} or any(True for _ in module.children()):
        return None
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(64, _CHANNELS, generator=generator)
    weight = torch.rand(_CHANNELS, generator=generator) + 0.5
    for norm in _NORMS:
        if all(_agree(_small_norm(module, weight.to(kind)), norm, rows.to(kind), epsilon) for kind in _PRECISIONS):
            return partial(_norm_kernel, norm, float(epsilon))
    return None


def _small_norm(module: nn.Module, weight: Tensor) -> nn.Module:
    """The module with few channels; what it is called with, settings and code, are its own."""
    small = copy.copy(module)
    small._parameters = {"weight": nn.Parameter(weight)}
    return small


def _agree(small: nn.Module, norm: _Norm, rows: Tensor, epsilon: float) -> bool:
    with torch.no_grad():
        own = type(small).forward(small, rows)
        expected = norm.formula(rows, cast(Tensor, small.weight), epsilon)
    return own.dtype == expected.dtype and torch.equal(own, expected)


def _norm_kernel(norm: _Norm, epsilon: float, module: Any, rows: Tensor) -> Tensor:
    """Shape: of the rows."""
    _require_gpu(rows)
    kernel = _liger_rms_norm(norm, epsilon)
    _require_right("RMSNorm", kernel, norm.formula, epsilon, _place(rows))
    return kernel(rows, module.weight)


@cache
def _liger_rms_norm(norm: _Norm, epsilon: float) -> Forward:
    function = importlib.import_module("liger_kernel.transformers.functional").liger_rms_norm
    # Not in place: backward would write into a gradient that the residual stream holds, too.
    return lambda rows, weight: function(rows, weight, epsilon, norm.offset, norm.casts, False)


# Gated MLPs.


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


# Whether a kernel is right where it runs.


def _place(rows: Tensor) -> _Place:
    """Where a kernel runs: device, precision, channels."""
    return rows.device, rows.dtype, rows.shape[-1]


@cache
def _require_right(
    what: str, kernel: Forward, formula: Callable[..., Tensor], epsilon: float | None, at: _Place
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
            f"off by {error:.1e}; {OFF}"
        )


def _error(kernel: Forward, formula: Forward, at: _Place, *, is_norm: bool) -> float:
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
        raise InputError(f"expected a GPU for `policy.layer_kernels: liger`, got {rows.device.type}; {OFF}")
