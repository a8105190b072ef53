"""The table of all kills, between markers of a page."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from results.pages import replaced

from kills.campaign import Result

PAGE = Path(__file__).resolve().parents[1] / "faults_and_security.md"
NAME = "kills"


def results(folder: Path) -> list[Result]:
    """What is stored."""
    return [Result(**json.loads(path.read_text())) for path in sorted(folder.glob("*.json"))]


def markdown(found: Sequence[Result], planned: int) -> str:
    """Command by phase: kills, equal, differing.

    Args:
        found: results of cells.
        planned: kills of all cells together.
    """
    rows = Counter[tuple[str, str]]()
    bad = Counter[tuple[str, str]]()
    for result in found:
        for kill in result.kills:
            if not kill["phase"].startswith("none"):
                rows[result.command, kill["phase"]] += 1
                bad[result.command, kill["phase"]] += bool(kill["problems"])
    lines = ["| command | phase | kills | equal | differing |", "| --- | --- | ---: | ---: | ---: |"]
    lines += [
        f"| {command} | {phase} | {count} | {count - bad[command, phase]} | {bad[command, phase]} |"
        for (command, phase), count in rows.items()
    ]
    return "\n".join([*lines, "", _facts(found, sum(rows.values()), planned)])


def _facts(found: Sequence[Result], done: int, planned: int) -> str:
    cells = ", ".join(f"{result.command} {result.name}" for result in found)
    machines = {f"{item.machine['processor']}, {item.machine['cores']} cores" for item in found}
    commits = sorted({item.machine["commit"] for item in found})
    return (
        f"{done} of {planned} planned kills, in {len(found)} cells: {cells}. {'; '.join(sorted(machines))}; "
        f"commit {', '.join(commits)}."
    )


def write(folder: Path, planned: int) -> str:
    """The table, also in the page."""
    text = markdown(results(folder), planned)
    PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8"), NAME, text), encoding="utf-8")
    return text
