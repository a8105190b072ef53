"""What is kept of a cell: a small JSON file with its scores and costs, and its resolved configuration."""

import csv
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from results.cells import Cell

STORED = Path(__file__).parent / "stored"
_KEPT = ("deviations", "head")  # of a page, beside its tables
_NOT_KEPT = ("Truncation", "By length")
FINGERPRINT = "fingerprint.txt"  # beside built pairs; samples differ from build to build


@dataclass(frozen=True)
class Outcome:
    """One cell's result.

    Args:
        cell: name of the row.
        seed: of the training.
        command: the words after `python -m`.
        machine: where it ran, and how many cells ran beside it.
        costs: steps, examples, tokens, FLOPs, seconds; empty without a training.
        scores: by length, then by group (a context, or a depth), a digit for each question: 1 if an accepted answer
            is in the response.
        means: by length, other scores in percent.
        f1: by length, then by group, each question's F1 in percent, parted by spaces, in the order of the digits; empty
            in results from before it was kept.
        facts: what else a run says.
        identity: hash of the cell's command, whatever the machine.
    """

    cell: str
    seed: int
    command: str
    machine: Mapping[str, Any]
    costs: Mapping[str, float] = field(default_factory=dict)
    scores: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    means: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    identity: str = ""
    f1: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """As the cell's."""
        return f"{self.cell}-seed{self.seed}" if self.seed else self.cell

    def save(self, folder: Path) -> None:
        """Write it whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f"{self.key}.partial"
        draft.write_text(json.dumps(asdict(self), indent=1) + "\n")
        draft.replace(folder / f"{self.key}.json")


def load(folder: Path) -> dict[str, Outcome]:
    """All results of a folder, by key."""
    found = (Outcome(**json.loads(path.read_text())) for path in sorted(folder.glob("*.json")))
    return {item.key: item for item in found}


def collect(cell: Cell, run: Path, command: Sequence[str], machine: Mapping[str, Any], identity: str = "") -> Outcome:
    """The result of a cell that has ended well.

    Raises:
        FileNotFoundError: there is no report or no costs.
    """
    outcome = Outcome(cell.name, cell.seed, " ".join(command), dict(machine), identity=identity)
    if cell.shows:
        return replace(outcome, facts=shown(json.loads((run / cell.shows).read_text(encoding="utf-8"))))
    if cell.counts:
        return replace(outcome, facts=json.loads((run / cell.counts).read_text(encoding="utf-8")))
    pairs = _pairs(run.parent, cell.seed)
    if cell.words[0] == "validate":
        return replace(outcome, facts=_logged(run, "val/") | pairs)
    reports = [*run.glob("**/benchmarks/*.json")] or [*run.glob("*-step*.json")]
    if not reports:
        raise FileNotFoundError(f"no report below {run}")
    last = max(reports, key=lambda path: int(path.stem.rpartition("step")[2]))
    rows = json.loads(last.read_text())["predictions"]
    training = training_of(cell, run)
    costs = json.loads(next(training.glob("**/costs.json")).read_text()) if cell.has_costs else {}
    facts = _logged(training, "train/") | (pairs if costs else {})
    return replace(outcome, costs=costs, scores=scores_of(rows), means=means_of(rows), f1=f1_of(rows), facts=facts)


def shown(page: Mapping[str, Any]) -> dict[str, Any]:
    """The tables of a page's JSON, and what its run was."""
    tables = [part for part in page["sections"] if part["rows"] and part["title"] not in _NOT_KEPT]
    return {"tables": tables, **{name: page[name] for name in _KEPT if name in page}}


def _pairs(runs: Path, seed: int) -> dict[str, str]:
    """Which pairs a suite's trainings read, a seed's own or those of all, if they were built by it."""
    paths = (runs / name / FINGERPRINT for name in (f"pairs-seed{seed}", "pairs"))
    return next(({"pairs": path.read_text().strip()} for path in paths if path.exists()), {})


def training_of(cell: Cell, run: Path) -> Path:
    """The folder of the training that a cell's result is about."""
    return run.parent / cell.trained if cell.trained else run


def keep_configuration(cell: Cell, run: Path, folder: Path) -> None:
    """Copy the resolved configuration of a training beside its result."""
    for path in training_of(cell, run).glob("**/config.yaml"):
        shutil.copy(path, folder / f"{cell.key}.yaml")


def scores_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """A report's predictions by length and group, a digit each.

    The id of a question that shares its context with others is LENGTH/CONTEXT/QUESTION, a benchmark's is TASK/CONTEXT;
    needles have a length and a depth of their own.
    """
    grouped = _grouped(rows, lambda row: str(int(row["score"])))
    return {length: {group: "".join(digits) for group, digits in groups.items()} for length, groups in grouped.items()}


def f1_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """The same by F1, in whole percent."""
    grouped = _grouped(rows, lambda row: f"{100 * _score('f1', row):.0f}")
    return {length: {group: " ".join(values) for group, values in groups.items()} for length, groups in grouped.items()}


def means_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """F1 and EM by length, in percent."""
    found = {name: _grouped(rows, partial(_score, name)) for name in ("f1", "em")}
    return {
        length: {name: _percent([*chain(*groups[length].values())]) for name, groups in found.items()}
        for length in found["f1"]
    }


def _grouped(
    rows: Sequence[Mapping[str, Any]], value: Callable[[Mapping[str, Any]], Any]
) -> dict[str, dict[str, list[Any]]]:
    """A value of each prediction by length and group, in the order of their ids."""
    found = dict[str, dict[str, list[Any]]]()
    for row in sorted(rows, key=lambda row: str(row["id"])):
        length, group = place(row)
        found.setdefault(length, {}).setdefault(group, []).append(value(row))
    return found


def _score(name: str, row: Mapping[str, Any]) -> float:
    from evaluation.metrics.answers import best_score

    return best_score(name, row["prediction"], row["answers"])


def place(row: Mapping[str, Any]) -> tuple[str, str]:
    """Length (or task) and group of a prediction."""
    parts = str(row["id"]).split("/")
    own = len(parts) < 3 and row["depth"] is not None
    return (str(row["length"]), f"{row['depth']:g}") if own else (parts[0], parts[1])


def _percent(scores: Sequence[float]) -> float:
    return round(100 * sum(scores) / len(scores), 2)


def _logged(run: Path, prefix: str) -> dict[str, Any]:
    """Means of the first and the last tenth of the values below a prefix."""
    found = dict[str, list[float]]()
    for path in run.glob("**/metrics.csv"):
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                for name, value in row.items():
                    if name.startswith(prefix) and value:
                        found.setdefault(name, []).append(float(value))
    return {
        name: [_ends(values[: len(values) // 10 + 1]), _ends(values[-(len(values) // 10 + 1) :])]
        for name, values in found.items()
    }


def _ends(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 5)
