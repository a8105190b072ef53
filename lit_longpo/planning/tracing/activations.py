"""From traces of a shallow model and a short row to the activations of the real ones.

Activations are affine in depth: every layer of one kind keeps the same, and borrows no more than the one
before gave back; a further layer of a hybrid is taken as the mean of its kinds. They are affine in the long prompt
too, whose tokens all cost the same: the engine builds no mask or score of T x T, and tiles, of logits and of layers,
have a fixed size. So four traces say it all for long rows:

    f(L, T) = f(1, T) + (L - 1) * (f(2, T) - f(1, T)),    each term a line through two lengths T
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TypeVar, cast

from lit_longpo.planning.inputs.row import RowPlan
from lit_longpo.planning.tracing.model import Depth, ModelPlan, hybrid_kinds
from lit_longpo.planning.tracing.steps import Trace, trace_forward, trace_step
from lit_longpo.policy.checkpointing import Checkpointing

T = TypeVar("T")

# Long prompts of up to the first length are traced as they are; others are on the line through the two lengths
# around them, or through the last two. In shorter rows what does not grow with them, a weight's gradient or a tile of a
# layer, may outweigh the rest: there another moment is the peak, and a line through such rows would be too flat for
# long ones (by a fifth for 8B at 256K tokens, from 16K and 32K).
_TRACED_TOKENS = (8192, 16384, 32768, 65536, 131_072, 262_144)
# The reference's rows may hold many examples; those beyond the first number are on such a line, too.
_TRACED_EXAMPLES = (4, 8, 16)


@dataclass(frozen=True)
class Activations:
    """Bytes of activations at the marks of a step.

    Args:
        one_layer: of a model of one layer.
        more: what each further layer adds; in backward, while it is the last one that is left.
        layers: depth of the model.
    """

    one_layer: Trace
    more: Trace
    layers: int

    @property
    def whole(self) -> Trace:
        """For the whole depth; backward with every layer's activations still there."""
        return _combine(self.one_layer, self.more, lambda first, more: first + (self.layers - 1) * more)

    @property
    def kept_by_layers(self) -> int:
        """What all layers hold for backward: everything, or with checkpointing their inputs (and attention)."""
        return self.layers * self.more.kept

    def offloaded(self) -> "Activations":
        """With the layers' inputs in host memory; two of them, on their way, are on the device."""
        return replace(self, layers=min(2, self.layers))


class Tracer:
    """Traces one model over any row, and remembers what it has traced."""

    def __init__(self, model: ModelPlan) -> None:
        self.model = model
        self._steps: dict[tuple[RowPlan, Depth, Checkpointing, int | None], Trace] = {}
        self._passes: dict[tuple[RowPlan, int | None], int] = {}
        self._activations: dict[tuple[RowPlan, Checkpointing], Activations] = {}

    def activations(self, row: RowPlan, *, checkpointing: Checkpointing) -> Activations:
        """What a step over the row keeps and borrows."""
        if (row, checkpointing) not in self._activations:
            self._activations[row, checkpointing] = self._added_up(row, checkpointing)
        return self._activations[row, checkpointing]

    def one_layer(self, row: RowPlan, *, checkpointing: Checkpointing) -> tuple[int, int]:
        """The largest of a one-layer model's moments: on the line through shorter rows, and traced."""
        added = self.activations(row, checkpointing=checkpointing).one_layer
        depth = tuple(hybrid_kinds(self.model.config))[:1] or 1
        traced = self._step(self._in_tiles(row, checkpointing), row, depth, checkpointing)
        return max(vars(added).values()), max(vars(traced).values())

    def _added_up(self, row: RowPlan, checkpointing: Checkpointing) -> Activations:
        model = self._in_tiles(row, checkpointing)

        def at_depth(layers: Depth) -> Trace:
            return _extrapolate(row, lambda part: self._step(model, part, layers, checkpointing), _line)

        depth = int(self.model.config.get_text_config().num_hidden_layers)
        kinds = hybrid_kinds(self.model.config)
        if kinds:
            return _of_kinds(kinds, at_depth)
        one, two = at_depth(1), at_depth(2)
        return Activations(one, _combine(two, one, lambda second, first: second - first), depth)

    def tile_of(self, row: RowPlan, checkpointing: Checkpointing) -> int | None:
        """Tokens of a tile of the row's layers; `None` if they are run whole."""
        tokens = row.long_tokens + row.response_tokens if self.model.sequential else row.num_tokens
        return self.model.tile_of(tokens, checkpointing)

    def reference_pass(self, row: RowPlan) -> int:
        """What scoring the reference's row borrows: without gradients nothing depends on depth."""
        model = self._in_tiles(row, True)

        def of_examples(number: int) -> int:
            return _extrapolate(replace(row, num_examples=number), partial(self._pass, model), _rounded)

        return _extrapolated(row.num_examples, _TRACED_EXAMPLES, of_examples, _rounded)

    def _in_tiles(self, row: RowPlan, checkpointing: Checkpointing) -> ModelPlan:
        """The model with tiles of the row's own length, also where shorter rows are traced for it."""
        return replace(self.model, tile_tokens=self.tile_of(row, checkpointing))

    def _step(self, model: ModelPlan, row: RowPlan, layers: Depth, checkpointing: Checkpointing) -> Trace:
        key = (row, layers, checkpointing, cast(int | None, model.tile_tokens))
        if key not in self._steps:
            self._steps[key] = trace_step(model, row, layers, checkpointing=checkpointing)
        return self._steps[key]

    def _pass(self, model: ModelPlan, row: RowPlan) -> int:
        key = (row, cast(int | None, model.tile_tokens))
        if key not in self._passes:
            self._passes[key] = trace_forward(model, row, tuple(hybrid_kinds(model.config)) or 1)
        return self._passes[key]


def _of_kinds(kinds: Counter[str], at_depth: Callable[[tuple[str, ...]], Trace]) -> Activations:
    """The activations of a hybrid's whole depth: a further layer counts as the mean of those of all kinds."""
    first, depth = next(iter(kinds)), kinds.total()
    one, further = at_depth((first,)), kinds - Counter([first])
    if not further:
        return Activations(one, one, depth)
    two = {kind: at_depth((first, kind)) for kind in further}

    def mean(name: str) -> int:
        added = (number * (getattr(two[kind], name) - getattr(one, name)) for kind, number in further.items())
        return round(sum(added) / (depth - 1))

    return Activations(one, Trace(**{part.name: mean(part.name) for part in fields(Trace)}), depth)


def _extrapolate(row: RowPlan, traced: Callable[[RowPlan], T], line: Callable[[T, T, float], T]) -> T:
    """The row's own figure, or the one on the line through two shorter rows'."""
    return _extrapolated(row.long_tokens, _marks(row), lambda tokens: traced(replace(row, long_tokens=tokens)), line)


def _marks(row: RowPlan) -> tuple[int, ...]:
    """Lengths of the prompts that are traced; a row of several examples has no more tokens than the last length."""
    few = tuple(tokens for tokens in _TRACED_TOKENS if tokens * row.num_examples <= _TRACED_TOKENS[-1])
    return few if len(few) > 1 else _TRACED_TOKENS[:2]


def _extrapolated(
    number: int, marks: tuple[int, ...], traced: Callable[[int], T], line: Callable[[T, T, float], T]
) -> T:
    """The number's own figure, or the one on the line through the marks around it, or through the last two."""
    if number <= marks[0]:
        return traced(number)
    above = min(bisect_left(marks, number), len(marks) - 1)
    low, high = marks[above - 1 : above + 1]
    return line(traced(low), traced(high), (number - low) / (high - low))


def _rounded(low: int, high: int, fraction: float) -> int:
    return round(low + fraction * (high - low))


def _line(low: Trace, high: Trace, fraction: float) -> Trace:
    return _combine(low, high, lambda first, second: round(first + fraction * (second - first)))


def _combine(first: Trace, second: Trace, by: Callable[[int, int], int]) -> Trace:
    return Trace(**{part.name: by(getattr(first, part.name), getattr(second, part.name)) for part in fields(Trace)})
