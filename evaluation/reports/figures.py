"""Figures of reports; matplotlib without global state."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isnan, nan
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from evaluation.reports.grouping import by_depth, by_length, by_task, clustered_scores, scores
from evaluation.reports.intervals import CONFIDENCE, Estimate, estimate
from evaluation.reports.report import BenchmarkReport, Prediction

# Lighter means better, in grey and to every kind of colour blindness, too; of differences white means none.
_COLOURS, _OF_CHANGES = "viridis", "PuOr"
_PAIR = ("#0072b2", "#d55e00")  # blue and vermilion of Okabe and Ito
_LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#882255", "#999933")  # likewise, and Tol
_MARKERS = "svD^Xp*P"  # beside the colour, for prints in grey


def figures(report: BenchmarkReport) -> dict[str, Figure]:
    """Pictures of a report by name, as far as it has lengths and depths.

    "by_length" always, "by_depth" with depths, "heat_map" with depths; of several tasks each has its
    own, "heat_map/<task>".
    """
    pictures = {"by_length": length_curve(report)}
    if by_depth(report):
        pictures["by_depth"] = depth_curve(report)
    return pictures | {name: heat_map(part) for name, part in grids(report).items()}


def grids(report: BenchmarkReport) -> dict[str, BenchmarkReport]:
    """The tasks that have depths, each as a report of its own, by the name of its heat map."""
    tasks = {task: items for task, items in by_task(report).items() if any(item.depth is not None for item in items)}
    found = {}
    for task, items in tasks.items():
        title = report.name if task == report.name else f"{report.name}, {task}"
        name = "heat_map" if len(tasks) == 1 else f"heat_map/{task}"
        found[name] = replace(report, name=title, predictions=tuple(items))
    return found


def heat_map(report: BenchmarkReport) -> Figure:
    """Depth down, length across, score in colour and as a number in every cell that has an example."""
    shown = replace(report, predictions=tuple(item for item in report.predictions if item.depth is not None))
    title = f"{report.name}, step {report.step}: mean {shown.mean:.1%}"
    return _grid(shown.by_cell(), title, "mean score", "{:.0%}", vmin=0.0, vmax=1.0, cmap=_COLOURS)


def change_map(before: BenchmarkReport, after: BenchmarkReport) -> Figure:
    """What `heat_map` shows of two reports, second minus first, in the cells that both have."""
    first, second = before.by_cell(), after.by_cell()
    changes = {cell: 100 * (second[cell] - first[cell]) for cell in first if cell in second}
    return _grid(
        changes, f"{before.name}: after minus before", "points", "{:+z.0f}", vmin=-100, vmax=100, cmap=_OF_CHANGES
    )


def _grid(cells: Mapping[tuple[float, int], float], title: str, label: str, number: str, **colours: Any) -> Figure:
    """Depth down, length across."""
    depths = sorted({depth for depth, _ in cells})
    lengths = sorted({length for _, length in cells})
    grid = [[cells.get((depth, length), nan) for length in lengths] for depth in depths]
    figure, axes = empty_axes(1.6 + 0.9 * len(lengths), 1.4 + 0.5 * len(depths))
    image = axes.imshow(grid, aspect="auto", **colours)
    axes.set_xticks(range(len(lengths)), [f"{length:,}" for length in lengths])
    axes.set_yticks(range(len(depths)), [f"{depth:.0%}" for depth in depths])
    axes.set_xlabel("context length (tokens)")
    axes.set_ylabel("depth")
    axes.set_title(title)
    shades = image.to_rgba(np.array(grid))
    for row, values in enumerate(grid):
        for column, score in enumerate(values):
            text = "" if isnan(score) else number.format(score)
            colour = _readable_on(tuple(shades[row, column]))
            axes.text(column, row, text, ha="center", va="center", fontsize=9, color=colour)
    figure.colorbar(image, ax=axes, label=label)
    return figure


def length_change(before: BenchmarkReport, after: BenchmarkReport) -> Figure:
    """Mean scores by length of two reports of the same questions, each with its interval."""
    figure, axes = empty_axes()
    names: list[str] = []
    for number, (title, report) in enumerate((("before", before), ("after", after))):
        points = {name: estimate(clustered_scores(items), name) for name, items in by_length(report).items()}
        names = names or list(points)
        places = [names.index(name) for name in points if name in names]
        kept = [points[name] for name in points if name in names]
        _means(axes, places, kept, color=_PAIR[number], marker="os"[number], label=title)
    _label(axes, names, f"{before.name}; shaded: {CONFIDENCE:.0%} intervals")
    axes.set_xlabel("length")
    axes.legend(fontsize=8)
    return figure


def _readable_on(colour: Sequence[float]) -> str:
    """Black or white, whichever has the larger contrast as WCAG counts it; that is never below 4.5."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour[:3]]
    luminance = sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return "black" if (luminance + 0.05) ** 2 > 0.05 * 1.05 else "white"


def length_curve(report: BenchmarkReport) -> Figure:
    """Mean score and its interval by length, and a line for each of a few tasks."""
    figure, axes = empty_axes()
    _curve(axes, report, by_length(report))
    axes.set_xlabel("length")
    return figure


def depth_curve(report: BenchmarkReport) -> Figure:
    """Mean score and its interval by depth, and a line for each of a few tasks."""
    figure, axes = empty_axes()
    _curve(axes, report, {f"{depth:.0%}": items for depth, items in by_depth(report).items()})
    axes.set_xlabel("depth")
    return figure


def empty_axes(width: float = 6.4, height: float = 3.6) -> tuple[Figure, Axes]:
    """A figure of that size in inches, drawn without a window, and its only axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _curve(axes: Axes, report: BenchmarkReport, groups: Mapping[str, Sequence[Prediction]]) -> None:
    points = [estimate(clustered_scores(items), name) for name, items in groups.items()]
    places = range(len(points))
    _means(axes, places, points, color="black", marker="o", label="all examples")
    tasks = dict.fromkeys(item.task for items in groups.values() for item in items)
    for number, task in enumerate(tasks if 1 < len(tasks) <= len(_LINES) else ()):
        means = [_mean(scores(item for item in items if item.task == task)) for items in groups.values()]
        axes.plot(places, means, color=_LINES[number], marker=_MARKERS[number], ms=4, lw=1, label=task)
    _label(axes, list(groups), f"{report.name}, step {report.step}; shaded: {CONFIDENCE:.0%} interval")
    if len(axes.lines) > 1:
        axes.legend(fontsize=8)


def _means(axes: Axes, places: Sequence[int], points: Sequence[Estimate], color: str, marker: str, label: str) -> None:
    """A line of means, their intervals shaded."""
    lows, highs = [point.low for point in points], [point.high for point in points]
    axes.fill_between(places, lows, highs, alpha=0.2, color=color, lw=0)
    axes.plot(places, [point.mean for point in points], color=color, marker=marker, lw=2, label=label)


def _label(axes: Axes, names: Sequence[str], title: str) -> None:
    slanted: dict[str, Any] = (
        {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if sum(map(len, names)) > 45 else {}
    )
    axes.set_xticks(range(len(names)), names, **slanted)
    axes.set_ylim(-0.02, 1.02)
    axes.set_ylabel("mean score")
    axes.set_title(title)
    axes.grid(alpha=0.3)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else nan
