"""Two reports on one page: pictures of both and of the change, paired differences, official numbers."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.reports.comparison import Comparison, compare
from evaluation.reports.pages import Page
from evaluation.reports.reading import load_checked_report
from lit_longpo.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_REPORTS = "*-step*.json"


def compared(a: Path, b: Path) -> list[tuple[str, Comparison]]:
    """Compare reports that `BenchmarkReport.save` wrote: two files, or those of the same names in two folders.

    Args:
        a: the first one, for example of the untrained model.
        b: the second one.

    Returns:
        Comparisons by the name of what is compared: the first report's file without its step; where several reports
        of two folders have that, with folders and step.

    Raises:
        MissingFileError: a file is not there.
        InputError: a file is no report, folders have no report in common, or what `compare` refuses.
    """
    if a.is_dir() != b.is_dir():
        folder, file = (a, b) if a.is_dir() else (b, a)
        raise InputError(
            f"expected two reports or two folders of them, got the folder {folder} and {file}; name the report in the "
            f"folder{_example(folder, file)}"
        )
    if not a.is_dir():
        return [(a.stem.rpartition("-step")[0] or a.stem, compare(load_checked_report(a), load_checked_report(b)))]
    names = [path.relative_to(a) for path in sorted(a.rglob(_REPORTS)) if (b / path.relative_to(a)).is_file()]
    if not names:
        raise InputError(f"expected reports of the same names ({_REPORTS}) in {a} and {b}, got none; name two files")
    pairs = zip(_titles(names), names, strict=True)
    return [(title, compare(load_checked_report(a / name), load_checked_report(b / name))) for title, name in pairs]


def _example(folder: Path, file: Path) -> str:
    """A report in the folder, as one would type it, for the error message."""
    found = sorted(folder.rglob(file.name)) or sorted(folder.rglob(_REPORTS))
    return f", for example {found[0]}" if found else ""


def _titles(names: Sequence[Path]) -> list[str]:
    """One for each, as pages are named after them."""
    short = [name.stem.rpartition("-step")[0] for name in names]
    whole = ["-".join(name.with_suffix("").parts) for name in names]
    return [one if short.count(one) == 1 else other for one, other in zip(short, whole, strict=True)]


def page_of(comparison: Comparison) -> Page:
    """What was compared, pictures and tables."""
    return Page(comparison.title, comparison.head, comparison.sections, _pictures(comparison))


def write_page(page: Page, folder: Path, title: str) -> list[Path]:
    """Write `<title>-comparison.md` and `.html`; existing ones are replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    return page.write(folder / f"{title}-comparison.md")


def _pictures(comparison: Comparison) -> dict[str, "Figure"]:
    from evaluation.reports.figures import change_map, grids, heat_map, length_change

    pictures = {"by_length": length_change(comparison.first, comparison.second)}
    before, after = grids(comparison.first), grids(comparison.second)
    for name in [name for name in before if name in after]:
        pictures[f"{name} before"], pictures[f"{name} after"] = heat_map(before[name]), heat_map(after[name])
        pictures[f"{name} change"] = change_map(before[name], after[name])
    return pictures
