"""A report as JSON, as Markdown and as one HTML page that asks nothing of the network."""

import base64
import io
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib import rc_context
from matplotlib.figure import Figure

from evaluation.reports.figures import figures
from evaluation.reports.report import BenchmarkReport
from evaluation.reports.samples import sample_table, samples
from evaluation.reports.table import escape
from evaluation.reports.tables import head, sections

_PAGES = Environment(
    loader=PackageLoader("evaluation", "reports/templates"), autoescape=True, undefined=StrictUndefined
)


def write_report(report: BenchmarkReport, folder: Path, label: str = "") -> list[Path]:
    """Write `<name>-step<step>.json`, `.md` and `.html`; existing ones are replaced.

    Args:
        report: of at least one prediction.
        folder: made if it is not there.
        label: tells reports of one benchmark apart: `<name>-<label>-step<step>.json`.

    Returns:
        The three files.

    Raises:
        ValueError: there is no prediction.
    """
    if not report.predictions:
        raise ValueError(f"expected at least one prediction of {report.name}, got none; raise `limit` or `max_minutes`")
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{report.name}-{label}" if label else report.name
    paths = [folder / f"{name}-step{report.step}.{suffix}" for suffix in ("json", "md", "html")]
    report.save(paths[0], [section.plain() for section in sections(report)])
    paths[1].write_text(markdown(report), encoding="utf-8")
    paths[2].write_text(html(report), encoding="utf-8")
    return paths


def markdown(report: BenchmarkReport) -> str:
    """Head, tables and samples; what a model wrote is escaped."""
    facts = "\n".join(f"- {label}: {escape(text)}" for label, text in head(report))
    tables = [section.markdown() for section in (*sections(report), sample_table(report))]
    return "\n\n".join([f"# {escape(_title(report))}", facts, *tables]) + "\n"


def html(report: BenchmarkReport) -> str:
    """One page with its pictures inside. It holds no script, and its policy forbids any."""
    return _PAGES.get_template("report.html.jinja").render(
        title=_title(report),
        head=head(report),
        pictures={name: _inline(figure) for name, figure in figures(report).items()},
        sections=sections(report),
        samples=samples(report),
    )


def _title(report: BenchmarkReport) -> str:
    return f"{report.name}: {report.model}" if report.model else f"{report.name}, step {report.step}"


def _inline(figure: Figure) -> str:
    """The figure as the address of an SVG image; the same bytes for the same figure."""
    with io.BytesIO() as file, rc_context({"svg.hashsalt": "lit_longpo"}):
        figure.savefig(file, format="svg", metadata={"Date": None})
        return "data:image/svg+xml;base64," + base64.b64encode(file.getvalue()).decode()
