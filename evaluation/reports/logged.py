"""A report as loggers show it: scores, pictures, sample answers."""

from evaluation.reports.pages import Page, Pages
from evaluation.reports.samples import sample_table, samples
from evaluation.reports.scalars import scalars
from lit_longpo.loggers import RunPages, Table


def titled_scalars(pages: Pages, title: str) -> dict[str, float]:
    """Scores between 0 and 1 by name, below `benchmark/<title>`."""
    name = pages.report.name
    return {
        key.replace(f"benchmark/{name}", f"benchmark/{title}", 1): value for key, value in scalars(pages.report).items()
    }


def show(shown: RunPages, pages: Pages, title: str, num_samples: int) -> None:
    """Pictures and answers, where the logger shows them.

    Args:
        shown: what the logger has besides scalars.
        pages: of the report.
        title: below which they stand: `benchmark/<title>`.
        num_samples: answers of each task.
    """
    root, report = f"benchmark/{title}", pages.report
    for name, figure in pages.figures.items():
        shown.figure(f"{root}/{name}", figure, report.step)
    answers = sample_table(samples(report, num_samples))
    shown.table(root, Table(answers.header, answers.rows, answers.markdown()), report.step)


def show_change(shown: RunPages, page: Page, title: str, step: int) -> None:
    """Before and after, where the logger shows pictures and tables.

    Args:
        shown: what the logger has besides scalars.
        page: of two reports.
        title: below which they stand: `benchmark/<title>/change`.
        step: of the second report.
    """
    root = f"benchmark/{title}/change"
    for name, figure in page.pictures.items():
        shown.figure(f"{root}/{name.replace(' ', '_')}", figure, step)
    for section in page.sections:
        name = f"{root}/{section.title.lower().replace(' ', '_')}"
        shown.table(name, Table(section.header, section.rows, section.markdown()), step)
