"""LV-Eval's configuration: templates, limits of answers, data sets and levels, read from its official file."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from evaluation.benchmarks.official_files import (
    OfficialFileError,
    Row,
    hash_of,
    parse_literals,
    read_json,
    read_text,
)
from evaluation.benchmarks.placeholders import check_placeholders
from evaluation.metrics.lveval import METRICS
from lit_longpo.ranges import MOST_ANSWERED

LAYOUT = "config.py or config/config.json, data/<dataset>_<level>.jsonl"
_VALUES = "d56d77912ce01dfb4f43d94a5a58ecac411c2355519b204e04ea9402c901b1c2"  # sha256 of what is read of it
_NAMES = ("DATASET_MAXGEN", "DATASET_PROMPT", "DATASET_SELECTED", "DATASET_LENGTH_LEVEL")


@dataclass(frozen=True)
class LVEvalConfig:
    """What LV-Eval's configuration says.

    Args:
        templates: prompt of each data set.
        limits: new tokens of each data set.
        datasets: names, in the official order.
        levels: "16k" and so on, ascending.
    """

    templates: Mapping[str, str]
    limits: Mapping[str, int]
    datasets: tuple[str, ...]
    levels: tuple[str, ...]


def load_config(folder: Path) -> LVEvalConfig:
    """The configuration of a folder, from `config.py` or else `config/config.json`.

    Raises:
        MissingFileError: there is neither.
        OfficialFileError: it lacks something, or a value is not a literal of the right kind.
    """
    python = folder / "config.py"
    path = python if python.is_file() else folder / "config" / "config.json"
    values = parse_literals(read_text(path, LAYOUT), str(path), _NAMES) if path == python else read_json(path, LAYOUT)
    if not isinstance(values, dict):
        raise OfficialFileError.at(str(path), "file", "a JSON object", values)
    row = Row(str(path), values)
    templates, limits = (_table(row, name, kind) for name, kind in (("DATASET_PROMPT", str), ("DATASET_MAXGEN", int)))
    config = LVEvalConfig(templates, limits, row.texts("DATASET_SELECTED"), row.texts("DATASET_LENGTH_LEVEL"))
    for dataset in config.datasets:
        if dataset not in templates or dataset not in limits or dataset not in METRICS:
            raise row.error("DATASET_SELECTED", "known data sets with a prompt and a limit", dataset)
        if not 1 <= limits[dataset] <= MOST_ANSWERED:
            raise row.error("DATASET_MAXGEN", f"1 to {MOST_ANSWERED:,} new tokens for {dataset}", limits[dataset])
        check_placeholders(templates[dataset], f"{path}: {dataset}")
    return config


def other_values(config: LVEvalConfig) -> tuple[str, ...]:
    """Whether values read from JSON are not those of the official `config.py`, for a report."""
    digest = hash_of(asdict(config))
    if digest == _VALUES:
        return ()
    return (f"config/config.json has other values than the official config.py: sha256 {digest}, expected {_VALUES}",)


def _table(row: Row, name: str, kind: type) -> dict:
    values = row.values.get(name)
    if not isinstance(values, dict) or not all(type(value) is kind for value in values.values()):
        raise row.error(name, f"an object of {kind.__name__} values", values)
    return values
