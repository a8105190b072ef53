"""A report as files."""

from pathlib import Path

from evaluation.benchmark import BenchmarkReport


def write_report(report: BenchmarkReport, folder: Path) -> list[Path]:
    """Write `<name>-step<step>.json`.

    Args:
        report: of at least one prediction.
        folder: made if it is not there.

    Returns:
        The files.
    """
    path = folder / f"{report.name}-step{report.step}.json"
    report.save(path)
    return [path]
