"""Reads lm-evaluation-harness's results: numbers of tasks, and scores of single questions."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evaluation.reports.report import Prediction
from lit_longpo.errors import InputError

_SHOWN = 600  # characters of a prompt's end that a report keeps


def numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """A task's scores, without standard errors and whatever is no number.

    Returns:
        By `<metric>,<filter>`, as the harness names them.
    """
    return {
        name: value
        for name, value in row.items()
        if "," in name and "_stderr" not in name and isinstance(value, int | float)
    }


def shots_of(found: Mapping[str, Any]) -> int | dict[str, int] | None:
    """The number of shots of a task, or of each part of a group if they differ."""
    shots = dict(found["n-shot"])
    different = set(shots.values())
    return different.pop() if len(different) == 1 else shots


def shares(task: str, found: Mapping[str, Any]) -> dict[str, float]:
    """The harness's numbers of a task or group that are shares: percent, two decimals."""
    rows = [row for part in found["samples"].values() for row in part]
    return {
        name.removesuffix(",none").replace(",", " "): round(100 * value, 2)
        for name, value in numbers(found["results"].get(task, {})).items()
        if 0 <= value <= 1 and not _leaves_shares(name.partition(",")[0], rows)
    }


def _leaves_shares(metric: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether any question has another number than a share for it; of whole files, as BLEU, questions have none."""
    values = (row.get(metric) for row in rows)
    return any(isinstance(value, int | float) and not 0 <= value <= 1 for value in values)


def predictions(results: Mapping[str, Mapping[str, Any]]) -> Iterator[Prediction]:
    """Every question of every task once: by the first of the harness's filters, and one metric of its task or part.

    Args:
        results: by task. A part of several of them has ids of its own in each.
    """
    times = Counter(part for found in results.values() for part in found["samples"])
    for task, found in results.items():
        for part in found["samples"]:
            yield from _questions(task, part, found, part if times[part] == 1 else f"{task}/{part}")


def _questions(task: str, part: str, found: Mapping[str, Any], named: str) -> Iterator[Prediction]:
    first, metric = _of_first_filter(found["samples"][part]), _metric(part, found)
    groups = {task: part} if part != task else {}
    for row in sorted(first, key=lambda row: row["doc_id"]):
        prompt, name = str(row["arguments"][0][0]), f"{named}/{row['doc_id']}"
        yield Prediction(
            *(name, len(prompt.split()), None, prompt[-_SHOWN:], (str(row["target"]),)),
            *(_response(row["filtered_resps"]), float(row[metric])),
            task=task,
            groups=groups,
            context=f"{part}/{row['doc_id']}",
        )


def _of_first_filter(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [row for row in rows if row["filter"] == rows[0]["filter"]]


def _metric(part: str, found: Mapping[str, Any]) -> str:
    """The first of a task's metrics that scores each of its questions from 0 to 1, the more the better."""
    rows = _of_first_filter(found["samples"][part])
    rises = found["higher_is_better"].get(part, {})
    for name in rows[0]["metrics"]:
        if rises.get(name) is not False and all(_is_share(row[name]) for row in rows):
            return str(name)
    raise InputError(
        f"expected a score from 0 to 1 for each question of {part}, got {', '.join(rows[0]['metrics'])}; leave the "
        "task out"
    )


def _is_share(value: object) -> bool:
    return isinstance(value, bool | int | float) and 0 <= value <= 1


def scored_by(found: Mapping[str, Any]) -> str | dict[str, str]:
    """The metric that scores a task's questions, with its filter; by part where the parts of a group differ."""
    names = {}
    for part, rows in found["samples"].items():
        kind = rows[0]["filter"]
        names[part] = _metric(part, found) + ("" if kind == "none" else f" {kind}")
    different = set(names.values())
    return different.pop() if len(different) == 1 else names


def _response(responses: Sequence[Any]) -> str:
    """What was generated; of choices the most likely one's number, with its log-likelihood."""
    if isinstance(responses[0], str):
        return str(responses[0])
    likelihoods = [item[0] if isinstance(item, list | tuple) else item for item in responses]
    best = max(range(len(likelihoods)), key=likelihoods.__getitem__)
    return f"choice {best} ({likelihoods[best]:.2f})"
