"""`plan --longest`: the longest row that fits, over every choice there is, and the command that runs it.

Activations are affine in tokens (`activations.py`), so a model is traced at two lengths once, and all strategies,
optimizers and lengths are added up from that. What is found is traced once more at its own length, up to a limit.
"""

import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import product

from transformers import PretrainedConfig

from lit_longpo.engine import feasible_degrees
from lit_longpo.engine.degrees import head_counts
from lit_longpo.engine.layers import doubts
from lit_longpo.errors import InputError
from lit_longpo.planning import choices
from lit_longpo.planning.choices import Choice
from lit_longpo.planning.configuration import Configuration, PlanOptions
from lit_longpo.planning.conflicts import refusal
from lit_longpo.planning.memory import ActivationMode, Memory, longest
from lit_longpo.planning.model import find_config
from lit_longpo.planning.plan import Planner, chosen_mode
from lit_longpo.planning.row import RowPlan
from lit_longpo.policy.rope import window_problem

_STEP = 1024  # tokens of a prompt
_TRACED = 524_288  # most tokens of the last trace: its time grows with them
_LESS = ("keep all", "keep attention")  # of activations: never longer than to recompute
_OPTIONS = {f"--{part.name}" for part in fields(PlanOptions)}

Reader = Callable[[Sequence[str]], Configuration]


@dataclass(frozen=True)
class Candidate:
    """A way to run.

    Args:
        parts: what was chosen.
        run: the configuration that has it.
        planner: adds its memory up.
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
        """Of the row; 0 if nothing fits."""
        return self.row.num_tokens if self.row.long_tokens else 0

    @property
    def host_bytes(self) -> int:
        """In the host memory of one machine."""
        return self.memory.host * self.run.devices_of_a_machine


@dataclass(frozen=True)
class Longest:
    """What was found.

    Args:
        best: the longest of all; of two alike the first, which moves less.
        table: the best with each choice, by what is chosen.
        fit: the command that runs it.
        plan: the command that plans it.
        difference: of one layer's peak, traced at the row's own length, to what was added up; relative.
        notes: in words, what bounds it and what it asks for.
    """

    best: Candidate
    table: dict[str, dict[str, Candidate]]
    fit: str
    plan: str
    difference: float
    notes: list[str]


def find_longest(run: Configuration, words: Sequence[str], read: Reader, data: Sequence[str]) -> Longest:
    """Search.

    Args:
        run: as configured.
        words: of the command line, which the printed ones begin with.
        read: makes a configuration of a command line.
        data: names of the data module's arguments.

    Raises:
        InputError: nothing fits, or the rows of this configuration have no length of their own.
    """
    _check(run, data)
    config, _ = find_config(run.policy, run.options.shape)
    search = _Search(run, config)
    found = search.candidates()
    best = max(found, key=lambda candidate: candidate.tokens, default=None)
    if best is None or not best.tokens:
        raise InputError(
            f"expected a row of {_STEP:,} tokens to fit {run.sharding.world_size} device(s) of "
            f"{run.device_memory_gib:.4g} GiB in some way, got none; raise --trainer.devices or --device_memory_gib"
        )
    table: dict[str, dict[str, Candidate]] = {}
    for candidate in found:
        for name, label in candidate.labels.items():
            before = table.setdefault(name, {}).get(label)
            if before is None or candidate.tokens > before.tokens:
                table[name][label] = candidate
    fit, planned = _commands(best, words, data, config)
    _check_command(best, planned, read)
    return Longest(
        best, table, shlex.join(fit), shlex.join(planned), search.difference(best), _notes(best, config, run)
    )


def _check(run: Configuration, data: Sequence[str]) -> None:
    if "max_tokens" not in data:
        raise InputError(
            "expected a data module with `max_tokens` and one source for --longest, got one without; type --data "
            "PreferenceDataModule"
        )
    if "sources" in data:
        raise InputError("expected one source of data for --longest, got a mixture; plan with one of its sources")
    if run.strategy_options.get("config") is not None:
        raise InputError(
            "expected no DeepSpeed `config` of one's own with --longest, which states stage and offloading itself, got "
            "one; type --trainer.strategy auto"
        )


class _Search:
    """Shares traces among all candidates of one model."""

    def __init__(self, run: Configuration, config: PretrainedConfig) -> None:
        self.run, self.config = run, config
        self.planners: dict[tuple[str, str, int], Planner] = {}
        self.states: dict[tuple[object, ...], Planner] = {}

    def candidates(self) -> list[Candidate]:
        """All that `fit` takes; what keeps activations only with the weights that the best of the others has."""
        run = self.run
        stated = run.options.sequence_parallel
        degrees = [1] if doubts(self.config) else feasible_degrees(*head_counts(self.config), run.sharding.world_size)
        parts = [
            choices.weights(run, run.options.longest or "any"),
            list(choices.strategies(run, [stated] if stated else degrees)),
            list(choices.optimizers(run)),
        ]
        kept = choices.activations(run)
        less = [choice for choice in kept if choice.labels["activations"] in _LESS]
        found = list(self._of(product(*parts, [choice for choice in kept if choice not in less])))
        best = max(found, key=lambda candidate: candidate.tokens, default=None)
        if best is not None:
            found += self._of(product([best.parts[0]], *parts[1:], less))
        return found

    def _of(self, combinations: Iterator[tuple[Choice, ...]]) -> Iterator[Candidate]:
        for parts in combinations:
            run = self.run
            for part in parts:
                run = part.apply(run)
            if refusal(run, self.config) is None:
                yield self._longest(parts, run)

    def _longest(self, parts: tuple[Choice, ...], run: Configuration) -> Candidate:
        planner, mode = self._planner(parts, run), chosen_mode(run)
        row = replace(run.row(), num_examples=1)
        fits = partial(_fits, planner, run, row, mode)
        row = replace(row, long_tokens=longest(fits, step=_STEP))
        least = replace(row, long_tokens=row.long_tokens or _STEP)
        return Candidate(parts, run, planner, row, planner.memory(least, mode))

    def _planner(self, parts: tuple[Choice, ...], run: Configuration) -> Planner:
        degree = run.sharding.sequence_parallel
        copies = degree if degree > head_counts(self.config)[1] else 1
        key = (parts[0].labels["weights"], run.precision, copies)
        if key not in self.planners:
            self.planners[key] = Planner(run, self.config)
        same = (key, *(part.words for part in parts[1:3]))  # whatever is done with activations
        if same not in self.states:
            self.states[same] = self.planners[key].beside(run)
        return self.states[same]

    def difference(self, best: Candidate) -> float:
        """Of one layer's peak at the row's own length, or 524,288 tokens, to the one that was added up."""
        row = best.row.divided(best.run.sharding.sequence_parallel)
        row = replace(row, long_tokens=min(row.long_tokens, _TRACED))
        added, traced = best.planner.one_layer(row, best.mode)
        return traced / added - 1


def _fits(planner: Planner, run: Configuration, row: RowPlan, mode: ActivationMode, tokens: int) -> bool:
    return run.has_room(planner.memory(replace(row, long_tokens=tokens), mode))


def _commands(
    best: Candidate, words: Sequence[str], data: Sequence[str], config: PretrainedConfig
) -> tuple[list[str], list[str]]:
    """To run and to plan what was found."""
    row, run = best.row, best.run
    length = row.long_tokens + row.response_tokens
    chosen = [word for part in best.parts for word in part.words]
    chosen += ["--data.init_args.max_tokens", str(row.num_tokens)]
    chosen += ["--data.init_args.max_length", str(length)] if "max_length" in data else []
    rope = run.policy.rope
    if window_problem(length, config) and (rope is None or rope.type != "dynamic"):
        chosen += ["--policy.rope.max_length", str(length)]
    options = run.options
    asked = {"row_tokens": row.num_tokens, "response_tokens": row.response_tokens, "short_tokens": run.short_tokens}
    for name in ("shape", "device_memory_gib", "host_memory_gib", "device_tflops", "mfu"):
        if getattr(options, name) != getattr(PlanOptions, name):
            asked[name] = getattr(options, name)
    command = ["python", "-m", "lit_longpo"]
    own = _without_options(words)
    planned = [word for name, value in asked.items() for word in (f"--{name}", str(value))]
    return [*command, "fit", *own, *chosen], [*command, "plan", *own, *chosen, *planned]


def _without_options(words: Sequence[str]) -> list[str]:
    """What `fit` takes of a command line of `plan`."""
    kept, skip = list[str](), False
    for word in words:
        if not skip and word.partition("=")[0] not in _OPTIONS:
            kept.append(word)
        skip = not skip and word in _OPTIONS
    return kept


def _check_command(best: Candidate, command: Sequence[str], read: Reader) -> None:
    """The command is read as `plan` reads it; what it says must be what was found."""
    run = read(command[4:])
    again = best.planner.beside(run).memory(run.row(), chosen_mode(run))
    assert (run.row().num_tokens, run.sharding) == (best.row.num_tokens, best.run.sharding), (run.row(), run.sharding)
    assert again == best.memory, (again, best.memory)


def _notes(best: Candidate, config: PretrainedConfig, run: Configuration) -> list[str]:
    heads, kv_heads = head_counts(config)
    world, degrees = run.sharding.world_size, feasible_degrees(heads, kv_heads, run.sharding.world_size)
    notes = []
    if (cause := doubts(config)) is not None:
        notes.append(f"rows are not shared by devices: {cause}")
    elif world > 1:
        bound = "" if degrees[-1] == world else f" at most, of {world}: each needs query heads of its own"
        notes.append(f"{heads} query heads let {degrees[-1]} devices share a row{bound}")
        if degrees[-1] > kv_heads:
            notes.append(f"beyond {kv_heads} devices, the key/value heads, each holds a copy of one over the whole row")
    if (problem := window_problem(best.row.long_tokens + best.row.response_tokens, config)) is not None:
        notes.append(f"positions are read beyond the model's window as they are: {problem}")
    if best.host_bytes and run.options.host_memory_gib is None:
        notes.append("host memory is taken for unlimited; type --host_memory_gib with that of one machine")
    return notes
