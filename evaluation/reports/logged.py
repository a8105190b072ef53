"""A report as loggers show it: scores, pictures, sample answers."""

from evaluation.reports.pages import Pages
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
