"""A report as JSON, as Markdown and as one HTML page that asks nothing of the network."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.reports.report import BenchmarkReport
from evaluation.reports.samples import Sample, sample_table, samples
from evaluation.reports.table import Section
from evaluation.reports.tables import head, sections
from lit_longpo.errors import InputError
from lit_longpo.markdown import escape

if TYPE_CHECKING:
    from jinja2 import Template
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Page:
    """Facts, pictures and tables for readers.

    Args:
        head: facts, as label and text.
        samples: answered examples to read, of each task the worst, a middling and the best.
    """

    title: str
    head: Sequence[tuple[str, str]]
    sections: Sequence[Section]
    pictures: Mapping[str, "Figure"] = field(default_factory=dict)
    samples: Sequence[Sample] = ()

    def markdown(self) -> str:
        """Head, tables and samples; what a model wrote is escaped."""
        facts = "\n".join(f"- {escape(label)}: {escape(text)}" for label, text in self.head)
        answers = [sample_table(self.samples)] if self.samples else []
        tables = [section.markdown() for section in (*self.sections, *answers)]
        return "\n\n".join([f"# {escape(self.title)}", facts, *tables]) + "\n"

    def html(self) -> str:
        """One page with its pictures inside. It holds no script, and its policy forbids any."""
        return _template().render(
            title=self.title,
            head=self.head,
            pictures={name: _inline(figure) for name, figure in self.pictures.items()},
            sections=self.sections,
            samples=self.samples,
        )

    def write(self, path: Path) -> list[Path]:
        """Write it as `.md` and as `.html`; existing ones are replaced.

        Args:
            path: of either; its folder is there.
        """
        paths = [path.with_suffix(".md"), path.with_suffix(".html")]
        paths[0].write_text(self.markdown(), encoding="utf-8")
        paths[1].write_text(self.html(), encoding="utf-8")
        return paths


class Pages:
    """A report for readers; its tables and pictures are made once, whoever shows them.

    Args:
        report: of at least one prediction.

    Raises:
        InputError: there is no prediction.
    """

    def __init__(self, report: BenchmarkReport) -> None:
        if not report.predictions:
            raise InputError(
                f"expected at least one prediction of {report.name}, got none; raise `limit` or `max_minutes`"
            )
        self.report = report

    @cached_property
    def sections(self) -> list[Section]:
        """Every table but the samples."""
        return sections(self.report)

    @cached_property
    def figures(self) -> dict[str, "Figure"]:
        """Pictures by name."""
        from evaluation.reports.figures import figures

        return figures(self.report)

    @cached_property
    def page(self) -> Page:
        """The whole HTML page."""
        report = self.report
        title = f"{report.name}: {report.model}" if report.model else f"{report.name}, step {report.step}"
        return Page(title, head(report), self.sections, self.figures, samples(report))

    def path(self, folder: Path, label: str = "") -> Path:
        """Where `write` puts the JSON file."""
        name = f"{self.report.name}-{label}" if label else self.report.name
        return folder / f"{name}-step{self.report.step}.json"

    def write(self, folder: Path, label: str = "") -> list[Path]:
        """Write `<name>-step<step>.json`, `.md` and `.html`; existing ones are replaced.

        Args:
            folder: made if it is not there.
            label: tells reports of one benchmark apart: `<name>-<label>-step<step>.json`.

        Returns:
            The three files.
        """
        folder.mkdir(parents=True, exist_ok=True)
        path = self.path(folder, label)
        self.report.save(path, [section.plain() for section in self.sections])
        return [path, *self.page.write(path)]


@cache
def _template() -> "Template":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    pages = PackageLoader("evaluation", "reports/templates")
    return Environment(loader=pages, autoescape=True, undefined=StrictUndefined).get_template("report.html.jinja")


def _inline(figure: "Figure") -> str:
    """The figure as the address of an SVG image; the same bytes for the same figure."""
    from matplotlib import rc_context

    with io.BytesIO() as file, rc_context({"svg.hashsalt": "lit_longpo"}):
        figure.savefig(file, format="svg", metadata={"Date": None})
        return "data:image/svg+xml;base64," + base64.b64encode(file.getvalue()).decode()
