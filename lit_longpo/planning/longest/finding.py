"""The longest row that fits, the command that runs it, and what bounds it."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PretrainedConfig

from lit_longpo.engine import feasible_degrees
from lit_longpo.engine.layers import packing_doubt
from lit_longpo.engine.ulysses.degrees import head_counts
from lit_longpo.errors import InputError
from lit_longpo.planning.inputs.architecture import find_config
from lit_longpo.planning.inputs.configuration import Configuration
from lit_longpo.planning.longest.commands import Reader, check_command, commands
from lit_longpo.planning.longest.search import Candidate, Search, best_with_each
from lit_longpo.planning.memory import STEP
from lit_longpo.policy.window import window_problem


@dataclass(frozen=True)
class Longest:
    """The result of `plan --longest`.

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
    """Search for the longest row.

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
    search = Search(run, config)
    found = search.candidates()
    best = max(found, key=lambda candidate: candidate.tokens, default=None)
    if best is None or not best.tokens:
        raise InputError(
            f"expected a row of {STEP:,} tokens to fit (devices: {run.sharding.world_size}, of "
            f"{run.device_memory_gib:.4g} GiB) in some way, got none; raise --trainer.devices or --device_memory_gib"
        )
    table = best_with_each(found)
    fit, planned = commands(best, words, data, config)
    check_command(best, planned, read)
    return Longest(
        best=best,
        table=table,
        fit=shlex.join(fit),
        plan=shlex.join(planned),
        difference=search.difference(best),
        notes=_notes(best, config, run),
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
            "expected no DeepSpeed `config` with --longest, which tries stages and offloading itself, got one; type "
            "--trainer.strategy auto"
        )


def _notes(best: Candidate, config: PretrainedConfig, run: Configuration) -> list[str]:
    heads, kv_heads = head_counts(config)
    world, degrees = run.sharding.world_size, feasible_degrees(heads, kv_heads, run.sharding.world_size)
    notes = []
    if (cause := packing_doubt(config)) is not None:
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
