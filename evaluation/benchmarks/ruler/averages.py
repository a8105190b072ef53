"""RULER's averages and its effective length."""

from collections.abc import Mapping

from evaluation.metrics.ruler import CATEGORIES, TASKS
from evaluation.reports.grouping import official_parts_by_length
from evaluation.reports.intervals import Mean, Means, OfficialNumber
from evaluation.reports.report import BenchmarkReport
from evaluation.reports.table import Section

LENGTHS = (4096, 8192, 16384, 32768, 65536, 131072)
NOTE = (
    "tasks: plain mean of the 13 tasks and all lengths. without aggregation: mean of NIAH, VT and QA, as in LongPO's "
    "table 1. increasing, decreasing: over the six official lengths with weights 1 to 6 and 6 to 1."
)
_LINE = 85.6  # Llama-2-7B-chat at 4096 tokens, in percent


def tasks_by_length(report: BenchmarkReport) -> dict[int, dict[str, OfficialNumber]]:
    """The tasks that were run at each length, in the official order."""
    found = official_parts_by_length(report)
    return {length: {task: parts[task] for task in TASKS if task in parts} for length, parts in found.items()}


def averages(parts: Mapping[int, Mapping[str, OfficialNumber]], over_lengths: Mapping[str, OfficialNumber]) -> Means:
    """The papers' averages.

    Args:
        parts: tasks of each length.
        over_lengths: all 13 tasks.
    """
    kinds = {name: CATEGORIES[name] for name in ("NIAH", "VT", "QA")}
    shares = {task: 1 / len(kinds) / len(tasks) for tasks in kinds.values() for task in tasks}
    means = {
        "tasks": Mean(dict(over_lengths)),
        "without aggregation": Mean({task: over_lengths[task] for task in shares}, shares),
    }
    if tuple(parts) == LENGTHS and all(len(tasks) == len(TASKS) for tasks in parts.values()):
        cells = {f"{task}/{length}": part for length, tasks in parts.items() for task, part in tasks.items()}
        rising = {length: number / 21 / len(TASKS) for number, length in enumerate(LENGTHS, 1)}  # 21 is 1 + ... + 6
        falling = dict(zip(LENGTHS, reversed(rising.values()), strict=True))
        for name, weights in (("increasing", rising), ("decreasing", falling)):
            means[name] = Mean(cells, {f"{task}/{length}": weights[length] for length in LENGTHS for task in TASKS})
    return means


def effective_section(lengths: Means) -> Section:
    """The longest length above the line; only lengths with all tasks count."""
    whole = {int(name): round(100 * mean.value, 2) for name, mean in lengths.items() if len(mean.parts) == len(TASKS)}
    above = [length for length, percent in whole.items() if percent > _LINE]
    shown = f"{max(above):,}" if above else "none of these"
    note = "Longest length whose mean of the 13 tasks is above that of Llama-2-7B-chat at 4,096 tokens."
    return Section("Effective length", ("line", "tokens"), [(f"{_LINE}", shown)], note)
