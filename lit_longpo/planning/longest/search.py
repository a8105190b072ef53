"""The search of `plan --longest`: which ways to run there are, and how long a row fits with each.

Activations are affine in tokens (`activations.py`), so a model is traced at two lengths once, and all strategies,
optimizers and lengths are added up from that. What is found is traced once more at its own length, up to a limit.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import product

from transformers import PretrainedConfig

from lit_longpo.engine.ulysses.degrees import degrees_of, head_counts
from lit_longpo.planning.conflicts import refusal
from lit_longpo.planning.inputs.configuration import Configuration
from lit_longpo.planning.inputs.row import RowPlan
from lit_longpo.planning.longest import choices
from lit_longpo.planning.longest.choices import Choice
from lit_longpo.planning.memory import LONGEST_PROMPT, STEP, ActivationMode, Memory, longest
from lit_longpo.planning.planner import Planner, chosen_mode

_TRACED = 524_288  # most tokens of the last trace: its time grows with them
_LESS = ("keep all", "keep attention")  # of activations: never longer than to recompute


@dataclass(frozen=True)
class Candidate:
    """One way to run: a combination of choices, with the longest row that fits.

    Args:
        row: of one example, its prompt as long as fits; empty if not even one step does.
        memory: of a device with that row.
    """

    parts: tuple[Choice, ...]
    run: Configuration
    planner: Planner
    row: RowPlan
    memory: Memory

    @property
    def labels(self) -> dict[str, str]:
        """What was chosen, in words."""
        return {name: label for part in self.parts for name, label in part.labels.items()}

    @property
    def mode(self) -> ActivationMode:
        """What it does with activations."""
        return chosen_mode(self.run)

    @property
    def tokens(self) -> int:
        """Tokens of the row; 0 if nothing fits."""
        return self.row.num_tokens if self.row.long_tokens else 0

    @property
    def host_bytes(self) -> int:
        """In the host memory of one machine."""
        return self.memory.host * self.run.devices_of_a_machine


class Search:
    """Shares traces among all candidates of one model, and leaves out those that are the longest of nothing.

    Traces are what takes time: two dozen for each way of training, number of devices to a row, and kept activations. So
    most devices go first. With fewer to a row each holds more of it, so the longest row is shorter at least by the
    ratio of the devices. What cannot be the longest by that bound is never traced.
    """

    def __init__(self, run: Configuration, config: PretrainedConfig) -> None:
        self.run, self.config = run, config
        self.planners: dict[tuple[object, ...], Planner] = {}
        self.states: dict[tuple[object, ...], Planner] = {}
        self.longest: dict[tuple[str, str], int] = {}  # prompt so far, by what was chosen
        self.bounds: dict[tuple[object, ...], float] = {}  # prompt for each device of a row

    def candidates(self) -> list[Candidate]:
        """All that `fit` takes; what keeps activations only with the weights that the best of the others has."""
        run = self.run
        stated = run.options.sequence_parallel
        degrees = degrees_of(self.config, run.sharding.world_size)
        parts = [
            choices.weights(run, run.options.longest or "any"),
            list(choices.strategies(run, [stated] if stated else degrees)),
            list(choices.optimizers(run)),
        ]
        kept = choices.activations(run)
        less = [choice for choice in kept if choice.labels["activations"] in _LESS]
        found = self._of(product(*parts, [choice for choice in kept if choice not in less]))
        best = max(found, key=lambda candidate: candidate.tokens, default=None)
        return found if best is None else found + self._of(product([best.parts[0]], *parts[1:], less))

    def _of(self, combinations: Iterable[tuple[Choice, ...]]) -> list[Candidate]:
        """Those that may be the longest with one of their choices, in the order of the combinations."""
        found = dict[int, Candidate]()
        runs = [(parts, _applied(parts, self.run)) for parts in combinations]
        possible = [(n, *each) for n, each in enumerate(runs) if refusal(each[1], self.config) is None]
        for degree in sorted({run.sharding.sequence_parallel for _, _, run in possible}, reverse=True):
            same = [each for each in possible if each[2].sharding.sequence_parallel == degree]
            for number, parts, run in sorted(same, key=lambda each: self._promise(*each[1:]), reverse=True):
                if (candidate := self._longest(parts, run)) is not None:
                    found[number] = candidate
        return [found[number] for number in sorted(found)]

    def _promise(self, parts: tuple[Choice, ...], run: Configuration) -> tuple[float, bool, int]:
        """Ranks likely ones first: a high bound, offloaded activations, much in host memory."""
        on_host = sum(word == "true" for part in parts for word in part.words)
        return self._bound(parts, run), chosen_mode(run) == "offload", on_host

    def _bound(self, parts: tuple[Choice, ...], run: Configuration) -> float:
        """Tokens of a prompt that more devices to a row leave possible."""
        return self.bounds.get(self._without_degree(parts, run), float("inf")) * run.sharding.sequence_parallel

    def _without_degree(self, parts: tuple[Choice, ...], run: Configuration) -> tuple[object, ...]:
        labels = {name: label for part in parts for name, label in part.labels.items() if name != "devices to a row"}
        return (self._copies(run), *labels.items())

    def _copies(self, run: Configuration) -> int:
        """Key/value heads where devices hold copies of them; 1 otherwise."""
        degree = run.sharding.sequence_parallel
        return degree if degree > head_counts(self.config)[1] else 1

    def _longest(self, parts: tuple[Choice, ...], run: Configuration) -> Candidate | None:
        row, mode = replace(run.row(), num_examples=1), chosen_mode(run)
        labels = [item for part in parts for item in part.labels.items()]
        least = min(self.longest.get(label, -1) for label in labels)
        if self._bound(parts, run) < least:
            return None
        planner = self._planner(parts, run)

        def fits(tokens: int) -> bool:
            return run.has_room(planner.memory(replace(row, long_tokens=tokens), mode))

        shorter = least >= 0 and not fits(max(least, STEP))
        tokens = least if shorter else longest(fits)
        if tokens < LONGEST_PROMPT:
            self.bounds[self._without_degree(parts, run)] = (tokens + STEP) / run.sharding.sequence_parallel
        if shorter:
            return None
        for label in labels:
            self.longest[label] = max(tokens, self.longest.get(label, 0))
        memory = planner.memory(replace(row, long_tokens=tokens or STEP), mode)
        return Candidate(parts, run, planner, replace(row, long_tokens=tokens), memory)

    def _planner(self, parts: tuple[Choice, ...], run: Configuration) -> Planner:
        key = (parts[0].labels["weights"], run.precision, self._copies(run))
        if key not in self.planners:
            self.planners[key] = Planner(run, self.config)
        same = (key, parts[1].labels["strategy"], parts[2].labels["optimizer"])  # whatever the degree and activations
        if same not in self.states:
            self.states[same] = self.planners[key].beside(run)
        return self.states[same].sharing_rows(run)

    def difference(self, best: Candidate) -> float:
        """One layer's peak, traced at the row's length (at most 524,288 tokens), over what was added up, less 1."""
        row = best.row.divided(best.run.sharding.sequence_parallel)
        row = replace(row, long_tokens=min(row.long_tokens, _TRACED))
        added, traced = best.planner.one_layer(row, best.mode)
        return traced / added - 1


def best_with_each(found: Iterable[Candidate]) -> dict[str, dict[str, Candidate]]:
    """The longest with each choice, the first of two alike."""
    table: dict[str, dict[str, Candidate]] = {}
    for candidate in found:
        for name, label in candidate.labels.items():
            before = table.setdefault(name, {}).get(label)
            if before is None or candidate.tokens > before.tokens:
                table[name][label] = candidate
    return table


def _applied(parts: tuple[Choice, ...], run: Configuration) -> Configuration:
    for part in parts:
        run = part.apply(run)
    return run
