"""Finds the benchmark that a task's name belongs to, for errors about unknown tasks."""

from collections.abc import Collection, Mapping, Sequence

from evaluation.benchmarks.needle_tasks import NEEDLE_TASKS
from evaluation.metrics import babilong, infinitebench, longbench, lveval, ruler
from lit_longpo.errors import InputError

# By the configuration that asks them.
_TASKS: Mapping[str, Collection[str]] = {
    "needle": ("needle", *NEEDLE_TASKS),
    "ruler": ruler.TASKS,
    "longbench": tuple(longbench.TASKS),
    "infinitebench": tuple(infinitebench.TASKS),
    "lveval": tuple(lveval.METRICS),
    "babilong": tuple(babilong.LABELS),
}
# Of RULER's needle tasks the most similar of our own, whose texts and sizes are others.
SIMILAR: Mapping[str, str] = {
    **{f"niah_single_{number}": "needle" for number in (1, 2, 3)},
    **{f"niah_multikey_{number}": "multi_key" for number in (1, 2, 3)},
    "niah_multivalue": "multi_value",
    "niah_multiquery": "multi_query",
    "vt": "variable_tracking",
}
_SIMILAR = {own: of_ruler for of_ruler, own in reversed(list(SIMILAR.items()))} | dict(SIMILAR)


def unknown_tasks(unknown: Sequence[str], known: Collection[str]) -> InputError:
    """The error about tasks that a benchmark does not know, or about no tasks at all."""
    got = ", ".join(unknown) or "none"
    return InputError(f"expected tasks of {', '.join(known)}, got {got}; correct `tasks`{elsewhere(unknown, known)}")


def elsewhere(unknown: Sequence[str], known: Collection[str]) -> str:
    """Where names belong that a benchmark does not know, as the end of a message; empty if nobody has them."""
    return "".join(_place(name, known) for name in unknown)


def _place(name: str, known: Collection[str]) -> str:
    config = next((config for config, tasks in _TASKS.items() if name in tasks), None)
    if config is None:
        return ""
    similar = _SIMILAR.get(name)
    like = f"; the most similar one here is {similar}, in other texts" if similar in known else ""
    return f"; {name} is a task of `evaluate --config {config}`{like}"
