"""Perplexity by length: a table, a curve by position, and both as files."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from matplotlib.figure import Figure
from rich.table import Table

from evaluation.perplexity.measuring import LengthResult
from evaluation.reports.figures import empty_axes
from evaluation.reports.table import Section
from lit_longpo.files.stored import write_json
from lit_longpo.markdown import escape

FILE = "perplexity.json"
_HEADER = ("tokens", "windows", "NLL (nats)", "perplexity")


@dataclass(frozen=True)
class PerplexityReport:
    """Results, and everything that they depend on.

    Args:
        settings: texts, windows, and facts of the run.
        results: by length, ascending.
    """

    model: str
    settings: Mapping[str, object]
    results: Sequence[LengthResult]

    def rows(self) -> list[tuple[str, ...]]:
        """Length, windows, mean negative log-likelihood and perplexity, as text."""
        return [
            (f"{item.length:,}", f"{len(item.losses):,}", f"{item.nll:.4f}", f"{item.perplexity:.3f}")
            for item in self.results
        ]

    def table(self) -> Table:
        """The table for a terminal."""
        table = Table(*_HEADER, title=f"perplexity: {self.model}")
        for row in self.rows():
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """Settings and table."""
        facts = "\n".join(f"- {escape(name)}: {escape(str(value))}" for name, value in self.settings.items())
        head, table = escape(f"perplexity: {self.model}"), self.section().markdown()
        return f"# {head}\n\n{facts}\n\n{table}\n\n![by position](perplexity.png)\n"

    def section(self) -> Section:
        """The table of `rows`."""
        return Section("Perplexity by length", _HEADER, self.rows())

    def figure(self) -> Figure:
        """Mean negative log-likelihood by position, a line for each length."""
        figure, axes = empty_axes(7.2, 4.0)
        for item in self.results:
            positions, means = zip(*item.curve, strict=True)
            axes.plot(positions, means, marker=".", lw=1.5, label=f"{item.length:,} tokens")
        axes.set_xscale("log", base=2)
        axes.set_xlabel("position in the window (tokens)")
        axes.set_ylabel("mean NLL (nats a token)")
        axes.set_title(f"{self.model}: what more context is worth")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
        return figure

    def write(self, folder: Path) -> list[Path]:
        """Write `perplexity.json`, `.md` and `.png`; existing ones are replaced."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = [(folder / FILE).with_suffix(suffix) for suffix in (".json", ".md", ".png")]
        results = [asdict(item) | {"nll": item.nll, "perplexity": item.perplexity} for item in self.results]
        content = {"model": self.model, "settings": dict(self.settings), "results": results}
        content["sections"] = [self.section().plain()]
        write_json(paths[0], content, indent=1, ensure_ascii=False)
        paths[1].write_text(self.markdown(), encoding="utf-8")
        self.figure().savefig(paths[2], dpi=120)
        return paths
