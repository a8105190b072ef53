"""Prefix-shared attention as one variable-length flash call over all segments of the row.

Queries stay where they are; the keys of every segment are gathered one after another, so that a call
with different query and key lengths, causal from the bottom right, is the whole attention: no mask of
any size exists. The start-up probe compares it with separate rows on the device it runs on, so a kernel
that aligned its causal mask otherwise would be refused there. Soft-caps are flash-attn's own; sinks are
folded around torch's kernels (`sinks.py`). Shape legend: see `attention.py`.
"""

import importlib
import importlib.util
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import accumulate
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from lit_longpo.batch import SegmentTable, tensor_on
from lit_longpo.engine.backends.sdpa import LONG, prefers_cudnn, sdpa_attention
from lit_longpo.engine.backends.sinks import KernelPair, folded_sinks

Extra = Literal["softcap", "sinks"]  # what a model's attention has beyond the plain one


@dataclass(frozen=True)
class VarlenKernel:
    """A flash kernel behind one signature.

    Args:
        name: for the log.
        call: (query (T, H, D), key (K, G, D), value (K, G, D), plan, scaling, (left, right) window) -> (T, H, D);
            what was asked for beyond that, by name.
        otherwise: the kernel to take if this one's gradients are wrong where it runs; asked only of kernels that have
            one, and of those with more than plain attention.
    """

    name: str
    call: Callable[..., Tensor]
    otherwise: "VarlenKernel | None" = None


@dataclass(frozen=True)
class VarlenPlan:
    """Cumulative lengths of all segments.

    Args:
        query_starts: Shape: (segments + 1,), int32.
        key_starts: Shape: (segments + 1,), int32.
        longest_query: tokens.
        longest_key: tokens.
    """

    query_starts: Tensor
    key_starts: Tensor
    longest_query: int
    longest_key: int

    @property
    def bounds(self) -> tuple[Tensor, Tensor, int, int]:
        """Cumulative and maximal lengths of queries and keys, in the order in which kernels take them."""
        return self.query_starts, self.key_starts, self.longest_query, self.longest_key


def flash_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    table: SegmentTable,
    scaling: float | None,
    window: int | None,
    kernel: VarlenKernel,
    **extra: Any,
) -> Tensor:
    """As `sdpa_attention`, by a kernel in one call but for long prompts (`alone_segments`).

    `extra` is `softcap` or `sinks`, where there are some.
    """
    alone = () if extra or window is not None else alone_segments(table, query.device)
    if not alone:
        return _one_call(query, key, value, table, scaling, window, kernel, **extra)
    queries = query.split([segment.query_length for segment in table.segments], dim=2)
    others = [number for number in range(len(queries)) if number not in alone]
    outputs = dict[int, Tensor]()
    for number in alone:
        row = SegmentTable(table.pieces, (table.segments[number],))
        outputs[number] = sdpa_attention(queries[number], key, value, row, scaling, None)
    if others:
        rest = SegmentTable(table.pieces, tuple(table.segments[number] for number in others))
        together = torch.cat([queries[number] for number in others], dim=2)
        out = _one_call(together, key, value, rest, scaling, None, kernel)
        outputs |= zip(others, out.split([segment.query_length for segment in rest.segments], dim=1), strict=True)
    return torch.cat([outputs[number] for number in range(len(queries))], dim=1)


def alone_segments(table: SegmentTable, device: torch.device) -> tuple[int, ...]:
    """Segments that are faster one by one through torch's attention: long prompts, for which it uses cuDNN.

    On an H200 it needs 0.55 of flash's time (32,768 tokens, forward and backward), and 30 ms of a CPU for every new
    length.
    """
    if not prefers_cudnn(device):
        return ()
    lengths = zip(table.segments, table.sequence_lengths, strict=True)
    return tuple(number for number, (segment, length) in enumerate(lengths) if segment.query_length == length >= LONG)


def _one_call(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    table: SegmentTable,
    scaling: float | None,
    window: int | None,
    kernel: VarlenKernel,
    **extra: Any,
) -> Tensor:
    """Attention of all segments of a table in one kernel call. Shape: (1, T, H, D)."""
    plan = varlen_plan(table, query.device)
    reach = (-1 if window is None else window - 1, 0)
    width, missing = value.shape[-1], max(0, query.shape[-1] - value.shape[-1])
    # Kernels want values as wide as keys; those of latent attention are not.
    value = pad(value, (0, missing)) if missing else value
    keys, values = (_gather(tensor[0].transpose(0, 1), table) for tensor in (key, value))
    out = kernel.call(query[0].transpose(0, 1).contiguous(), keys, values, plan, scaling, reach, **extra)
    return out[..., :width].unsqueeze(0)


@lru_cache(maxsize=16)
def varlen_plan(table: SegmentTable, device: torch.device) -> VarlenPlan:
    """The cumulative lengths on the device, made once for all layers of a step."""
    queries = [segment.query_length for segment in table.segments]
    keys = list(table.sequence_lengths)
    return VarlenPlan(_starts(queries, device), _starts(keys, device), max(queries), max(keys))


@lru_cache
def find_kernel(device_type: str, dtype: torch.dtype, extra: Extra | None = None) -> VarlenKernel | None:
    """The first kernel that serves this device, precision and attention; `None` if none does.

    FlashAttention-3 where it is installed and its GPUs are, else flash-attn, else torch's.
    """
    if device_type != "cuda" or dtype not in (torch.bfloat16, torch.float16):
        return None
    usual = _usual_kernel(extra)
    function = _flash_attn_3()
    if function is None or extra == "sinks" or (extra is not None and extra not in _parameters(function)):
        return usual
    return VarlenKernel("FlashAttention-3, variable lengths", partial(_flash_attn, function), usual)


def _usual_kernel(extra: Extra | None) -> VarlenKernel | None:
    if extra == "sinks":
        return VarlenKernel("torch flash, variable lengths, sinks folded in", _torch_folded)
    if importlib.util.find_spec("flash_attn") is not None:
        function = importlib.import_module("flash_attn").flash_attn_varlen_func
        if extra is None or extra in _parameters(function):
            return VarlenKernel("flash-attn, variable lengths", partial(_flash_attn, function))
    function = _torch_varlen()
    if function is None or extra is not None:
        return None
    return VarlenKernel("torch flash, variable lengths", partial(_torch_flash, function))


def _starts(lengths: list[int], device: torch.device) -> Tensor:
    return tensor_on(device, [0, *accumulate(lengths)], torch.int32)


def _gather(row: Tensor, table: SegmentTable) -> Tensor:
    """Keys or values of all segments, one after another. Shape: (K, G, D)."""
    pieces = row.split(table.pieces)
    return torch.cat([pieces[piece] for segment in table.segments for piece in segment.key_pieces])


def _parameters(function: Callable[..., Any]) -> set[str]:
    return set(inspect.signature(function).parameters)


def _flash_attn_3() -> Callable[..., Any] | None:
    """FlashAttention-3's variable-length attention; it is built for Hopper GPUs, and a package of its own."""
    if importlib.util.find_spec("flash_attn_interface") is None or torch.cuda.get_device_capability()[0] != 9:
        return None
    function: Callable[..., Any] = importlib.import_module("flash_attn_interface").flash_attn_varlen_func
    return function


def _torch_varlen() -> Callable[..., Tensor] | None:
    """Torch's variable-length attention, if this torch has one with windows (2.11 and later)."""
    if importlib.util.find_spec("torch.nn.attention.varlen") is None:
        return None
    function: Callable[..., Tensor] = importlib.import_module("torch.nn.attention.varlen").varlen_attn
    taken = _parameters(function)
    if not {"window_size", "scale"} <= taken:
        return None
    # Its kernels always knew grouped heads; torch 2.11 asks for no leave, later ones do.
    return partial(function, enable_gqa=True) if "enable_gqa" in taken else function


def _flash_attn(
    function: Callable[..., Any],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    plan: VarlenPlan,
    scaling: float | None,
    reach: tuple[int, int],
    **softcap: float,
) -> Tensor:
    out = function(query, key, value, *plan.bounds, softmax_scale=scaling, causal=True, window_size=reach, **softcap)
    return out[0] if isinstance(out, tuple) else out  # earlier versions of FlashAttention-3 add the log-sum-exp


def _torch_flash(
    function: Callable[..., Tensor],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    plan: VarlenPlan,
    scaling: float | None,
    reach: tuple[int, int],
) -> Tensor:
    return function(query, key, value, *plan.bounds, scale=scaling, window_size=reach)


def _torch_folded(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    plan: VarlenPlan,
    scaling: float | None,
    reach: tuple[int, int],
    sinks: Tensor,
) -> Tensor:
    return folded_sinks(query, key, value, sinks, torch_pair(plan, scaling, reach))


def torch_pair(plan: VarlenPlan, scaling: float | None, reach: tuple[int, int]) -> KernelPair:
    """Torch's variable-length kernels, which `varlen_attn` calls; it drops the gradient of the log-sum-exp.

    Args:
        plan: lengths of the segments.
        scaling: factor of the scores; `None` means 1 / sqrt(D).
        reach: keys that a query sees to its left and right; -1 means all.
    """
    options = {"scale": scaling, "window_size_left": reach[0], "window_size_right": reach[1]}
    fixed = (0.0, reach == (-1, 0))  # no dropout; causal, which the kernels take for a window else

    def forward(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        kernel = torch.ops.aten._flash_attention_forward
        out, log_sums, *rest, _ = kernel(query, key, value, *plan.bounds, *fixed, False, **options)
        return out, log_sums, tuple(rest)

    def backward(
        grad: Tensor, query: Tensor, key: Tensor, value: Tensor, out: Tensor, log_sums: Tensor, rest: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor, Tensor]:
        kernel = torch.ops.aten._flash_attention_backward
        return kernel(grad, query, key, value, out, log_sums, *plan.bounds, *fixed, *rest, **options)

    return KernelPair(forward, backward)
