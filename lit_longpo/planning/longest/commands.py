"""The commands that run and plan what `plan --longest` has found."""

from collections.abc import Callable, Sequence
from dataclasses import fields

from transformers import PretrainedConfig

from lit_longpo.planning.inputs.configuration import Configuration
from lit_longpo.planning.inputs.plan_options import PlanOptions
from lit_longpo.planning.longest.search import Candidate
from lit_longpo.planning.planner import chosen_mode
from lit_longpo.policy.window import window_problem

_OPTIONS = {f"--{part.name}" for part in fields(PlanOptions)}

Reader = Callable[[Sequence[str]], Configuration]  # of the words of a command line


def commands(
    best: Candidate, words: Sequence[str], data: Sequence[str], config: PretrainedConfig
) -> tuple[list[str], list[str]]:
    """To run and to plan what was found."""
    row, run = best.row, best.run
    length = row.long_tokens + row.response_tokens
    chosen = [word for part in best.parts for word in part.words]
    chosen += ["--data.init_args.max_tokens", str(row.num_tokens)]
    if "max_length" in data:
        chosen += ["--data.init_args.max_length", str(length)]
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


def check_command(best: Candidate, command: Sequence[str], read: Reader) -> None:
    """The command is read as `plan` reads it; what it says must be what was found."""
    run = read(command[4:])
    again = best.planner.beside(run).memory(run.row(), chosen_mode(run))
    assert (run.row().num_tokens, run.sharding) == (best.row.num_tokens, best.run.sharding), (run.row(), run.sharding)
    assert again == best.memory, (again, best.memory)
