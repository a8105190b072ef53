"""Figures of reports; matplotlib without global state."""

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from evaluation.benchmark import BenchmarkReport


def heat_map(report: BenchmarkReport) -> Figure:
    """Depth down, length across, score in colour and as a number in every cell."""
    cells = report.by_cell()
    depths = sorted({depth for depth, _ in cells})
    lengths = sorted({length for _, length in cells})
    grid = [[cells[depth, length] for length in lengths] for depth in depths]
    figure = Figure(figsize=(1.6 + 0.9 * len(lengths), 1.4 + 0.5 * len(depths)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    image = axes.imshow(grid, vmin=0.0, vmax=1.0, cmap="RdYlGn", aspect="auto")
    axes.set_xticks(range(len(lengths)), [f"{length:,}" for length in lengths])
    axes.set_yticks(range(len(depths)), [f"{depth:.0%}" for depth in depths])
    axes.set_xlabel("context length (tokens)")
    axes.set_ylabel("depth")
    axes.set_title(f"{report.name}, step {report.step}: mean {report.mean:.1%}")
    for row, scores in enumerate(grid):
        for column, score in enumerate(scores):
            axes.text(column, row, f"{score:.0%}", ha="center", va="center", fontsize=9)
    figure.colorbar(image, ax=axes, label="substring match")
    return figure
