"""Layers with state in packed rows: every response starts from the state that its prompt has left.

Gated DeltaNet, Mamba2 and short convolutions treat tokens one after another. In a packed row that would carry one
response's state into the next, and one group's into another. transformers' layers do their sequential part in two or
three functions of their module, and hand them the keywords of the forward, the segment table among them; all else
(projections, gates, norms, adapters) treats tokens one by one and needs no change. So those functions are wrapped:
with a table they work piece by piece, a prompt first and then each response from the prompt's state; without one they
are what they were (generation, plain rows).

They stay wrapped for good: a checkpointed layer runs again in backward, when any block around the forward has ended.

Shape legend: T row, C channels of a convolution, W its width.
"""

import inspect
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from types import ModuleType
from typing import Any, cast

import torch
from torch import Tensor, nn

from lit_longpo.batch import SegmentTable
from lit_longpo.engine.layers import STATE_LAYERS, layer_kinds

Function = Callable[..., Any]

_entered = Counter[str]()  # calls with a table, by what was wrapped


@dataclass(frozen=True)
class _Scan:
    """How a function takes and gives the state of its recurrence.

    Args:
        initial: keyword of the state that it starts from.
        final: keyword that asks for the state that it leaves.
        pairs: whether it returns a pair although no state was asked for.
    """

    initial: str
    final: str
    pairs: bool

    def wrap(self, function: Function) -> Function:
        """The function, run piece by piece if it is given a segment table."""

        @wraps(function)
        def by_pieces(*args: Any, segment_table: SegmentTable | None = None, **options: Any) -> Any:
            if segment_table is None:
                return function(*args, **options)
            _entered["scan"] += 1
            output = self._run(function, segment_table, args, options)
            return (output, None) if self.pairs else output

        return by_pieces

    def _run(self, function: Function, table: SegmentTable, args: Any, options: dict[str, Any]) -> Tensor:
        before, outputs = predecessors(table), list[Tensor]()
        states, start = dict[int, Tensor](), 0
        for piece, length in enumerate(table.pieces):
            state = {self.initial: states.get(before[piece]), self.final: piece in before}
            parts, named = _cut(args, options, slice(start, start + length), table.num_tokens)
            result = function(*parts, **{**named, **state})
            if isinstance(result, tuple):
                result, left = result
                if piece in before:
                    states[piece] = left
            outputs.append(result)
            start += length
        return torch.cat(outputs, dim=1)


def _cut(args: Any, options: dict[str, Any], part: slice, length: int) -> tuple[list[Any], dict[str, Any]]:
    """Arguments of a scan, tensors of the row cut to some of its tokens, everything else unchanged."""

    def cut(value: Any) -> Any:
        has_tokens = isinstance(value, Tensor) and value.ndim >= 3 and value.shape[1] == length
        return value[:, part] if has_tokens else value

    return [cut(value) for value in args], {name: cut(value) for name, value in options.items()}


def predecessors(table: SegmentTable) -> tuple[int, ...]:
    """The piece that comes before each in its sequence; -1 where a sequence begins."""
    before = [-1] * len(table.pieces)
    for segment in table.segments:
        for earlier, later in zip(segment.key_pieces, segment.key_pieces[1:], strict=False):
            before[later] = earlier
    return tuple(before)


def _wrap_convolution(function: Function) -> Function:
    """A causal convolution over time; a piece sees the last W - 1 columns before it. Shape: (1, C, T) -> (1, C, T)."""

    @wraps(function)
    def by_pieces(
        columns: Tensor, weight: Tensor, *args: Any, segment_table: SegmentTable | None = None, **options: Any
    ) -> Any:
        if isinstance(options.get("seq_idx"), SegmentTable):  # see `_hand_table`
            segment_table = options.pop("seq_idx")
        if segment_table is None:
            return function(columns, weight, *args, **options)
        _entered["convolution"] += 1
        pieces, before = columns.split(segment_table.pieces, dim=2), predecessors(segment_table)
        outputs = []
        for number, piece in enumerate(pieces):
            seen = _last_columns(pieces, before, before[number], weight.shape[-1] - 1)
            output = function(torch.cat([*seen, piece], dim=2), weight, *args, **options)
            outputs.append(output[:, :, output.shape[2] - piece.shape[2] :])
        return torch.cat(outputs, dim=2)

    return by_pieces


def _last_columns(pieces: tuple[Tensor, ...], before: tuple[int, ...], piece: int, wanted: int) -> list[Tensor]:
    """Up to so many columns of a sequence that ends with a piece, in order; shorter where the sequence begins."""
    found = list[Tensor]()
    while piece >= 0 and wanted > 0:
        columns = pieces[piece][:, :, -wanted:]
        found.insert(0, columns)
        wanted -= columns.shape[2]
        piece = before[piece]
    return found


def _without_short_cut(function: Function) -> Function:
    """A kernel for a whole Mamba2 layer: it knows no pieces, and reads weights past adapters and ZeRO-3's hooks."""
    return wraps(function)(lambda *args, **options: None)


def _as_it_is(function: Function) -> Function:
    """A step of one token while a model generates, where no table comes."""
    return function


def _by_device(function: Function) -> Function:
    """Of two forms the one that runs: transformers takes an installed kernel (fla) for tensors on a CPU, too."""
    in_torch = getattr(function, "__wrapped__", None)
    if in_torch is None:
        return function
    known = inspect.signature(in_torch).parameters.values()
    names = {parameter.name for parameter in known if parameter.kind is not parameter.VAR_KEYWORD}

    @wraps(function)
    def by_device(*args: Any, **options: Any) -> Any:
        first = args[0] if args else next(iter(options.values()))
        if first.device.type != "cpu":
            return function(*args, **options)
        return in_torch(*args, **{name: value for name, value in options.items() if name in names})

    return by_device


_MAMBA2 = _Scan("initial_states", "return_final_states", pairs=False)
_WRAPPERS: dict[str, Callable[[Function], Function]] = {
    "causal_conv1d_fn": _wrap_convolution,
    "causal_conv1d_update": _as_it_is,
    "torch_chunk_gated_delta_rule": _Scan("initial_state", "output_final_state", pairs=True).wrap,
    "torch_recurrent_gated_delta_rule": _as_it_is,
    "mamba2_chunk_scan": _MAMBA2.wrap,
    "mamba2_selective_state_update": _as_it_is,
    "mamba2_split_conv1d_scan_combined": _without_short_cut,
}


def share_states(model: nn.Module) -> None:
    """Wrap what the model's layers with state call; once, however often it is asked for."""
    found = mixers(model)
    for code in {sys.modules[type(mixer).__module__] for mixer in found}:
        _wrap_functions(code)
    without_table = {id(mixer) for mixer in found if _takes_no_table(mixer)}
    if not without_table:
        return
    for layer in model.modules():
        if any(id(part) in without_table for part in layer.children()) and not hasattr(layer, "hands_tables"):
            cast(Any, layer).hands_tables = layer.register_forward_pre_hook(_hand_table, with_kwargs=True)


def _takes_no_table(mixer: nn.Module) -> bool:
    """Whether a layer hands its mixer one keyword of its own instead of all (LFM2 of transformers 5.17)."""
    parameters = inspect.signature(mixer.forward).parameters
    return "seq_idx" in parameters and not any(one.kind is one.VAR_KEYWORD for one in parameters.values())


def _hand_table(layer: nn.Module, args: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The table in place of the marks of packed sequences, which nobody else sets in our rows."""
    table = options.get("segment_table")
    return args, options if table is None else {**options, "seq_idx": table}


def _wrap_functions(code: ModuleType) -> None:
    for name, wrap in _WRAPPERS.items():
        function = _own(code, name)
        if function is not None and not hasattr(function, "shares_states"):
            wrapped: Any = wrap(_by_device(function))
            wrapped.shares_states = True
            setattr(code, name, wrapped)


def _own(code: ModuleType, name: str) -> Function | None:
    """A module's function; code beside a model's weights may have the name for a package's, or `None` without it."""
    function = getattr(code, name, None)
    ours = hasattr(function, "shares_states") or getattr(function, "__module__", None) == code.__name__
    return function if ours else None


def mixers(model: nn.Module) -> list[nn.Module]:
    """Parts of layers that carry state: with a decay of their own, or a convolution over time."""
    return [module for module in model.modules() if _has_decay(module) or _convolution(module) is not None]


def masks_padding(model: nn.Module) -> bool:
    """Whether every state leaves padding out: the modelling code sets it to zero before a layer reads it.

    RecurrentGemma's does not (transformers 5.23): behind 18 tokens of padding its logits differ by 0.3.
    """
    found = mixers(model)
    return bool(found) and all(_own(sys.modules[type(m).__module__], "apply_mask_to_padding_states") for m in found)


def convolutions(model: nn.Module) -> list[tuple[nn.Module, nn.Conv1d]]:
    """Mixers and their convolutions over time."""
    pairs = [(mixer, _convolution(mixer)) for mixer in mixers(model)]
    return [(mixer, convolution) for mixer, convolution in pairs if convolution is not None]


def _has_decay(module: nn.Module) -> bool:
    return "A_log" in module._parameters


def _convolution(module: nn.Module) -> nn.Conv1d | None:
    depthwise = [c for c in module.children() if isinstance(c, nn.Conv1d) and c.groups == c.in_channels > 1]
    return depthwise[0] if depthwise else None


def watch_states(model: nn.Module) -> Callable[[], str | None]:
    """Call it before one packed forward; what it returns says afterwards which states were not shared, if any."""
    wanted = Counter(scan=sum(map(_has_decay, model.modules())), convolution=len(convolutions(model)))
    start = _entered.copy()

    def problem() -> str | None:
        missed = {name: number - (_entered[name] - start[name]) for name, number in wanted.items()}
        parts = [f"{number} of {wanted[name]} {name}s" for name, number in missed.items() if number]
        return f"the state of {' and '.join(parts)} does not pass through what we have wrapped" if parts else None

    return problem


def unreachable_states(model: nn.Module, config: Any) -> str | None:
    """Why the states of a model's layers cannot be shared, as far as it can be told without running it."""
    named = sum(kind in STATE_LAYERS for kind in layer_kinds(config))
    found = mixers(model)
    if named > len(found):
        return f"{named - len(found)} of {named} layers carry a state that we know no way to"
    lacking = {type(mixer).__name__ for mixer in found if not _known(mixer)}
    return f"the state of {sorted(lacking)} cannot be handed from a prompt to its responses" if lacking else None


def _known(mixer: nn.Module) -> bool:
    code = sys.modules[type(mixer).__module__]
    convolution = not _convolution(mixer) or _own(code, "causal_conv1d_fn") is not None
    scans = any(_own(code, name) for name in ("torch_chunk_gated_delta_rule", "mamba2_chunk_scan"))
    return convolution and (scans or not _has_decay(mixer))
