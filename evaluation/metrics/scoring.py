"""One door to the official scores of every benchmark."""

from collections.abc import Sequence
from typing import Literal, get_args

from evaluation.metrics import longbench, longbench_v2, lveval

BenchmarkName = Literal["longbench", "longbench_v2", "lveval"]


def score(
    benchmark: BenchmarkName,
    dataset: str,
    prediction: str,
    answers: Sequence[str],
    *,
    all_classes: Sequence[str] | None = None,
    answer_keywords: str | None = None,
) -> float:
    """The official score of one prediction, post-processing included.

    Args:
        benchmark: "longbench" (LongBench-E as well), "longbench_v2" or "lveval".
        dataset: task, for example "hotpotqa", "hotpotqa_e" or "factrecall_en_16k"; any text for v2.
        prediction: generated text, as it came.
        answers: accepted answers; for v2 the right letter in a list. LV-Eval counts the first only.
        all_classes: class names of LongBench's trec and lsht.
        answer_keywords: LV-Eval's keywords; `None` or "" if the record has none.

    Returns:
        0 to 1.

    Raises:
        TypeError: `answers` is one text instead of a list, or `prediction` is no text.
        ValueError: unknown benchmark or data set, or something the data set needs is missing.
        ModuleNotFoundError: the extra `eval` is missing and this data set needs it.
    """
    _check(benchmark)
    if isinstance(answers, str) or not isinstance(prediction, str):
        raise TypeError(
            f"expected a text and a list of answers, got {prediction!r:.80} and {answers!r:.80}; pass answers=[...]"
        )
    if benchmark == "longbench":
        return longbench.score(dataset, prediction, answers, all_classes)
    if benchmark == "longbench_v2":
        return longbench_v2.score(prediction, answers)
    return lveval.score(dataset, prediction, answers, answer_keywords)


def aggregate(
    benchmark: BenchmarkName,
    dataset: str,
    predictions: Sequence[str],
    answers: Sequence[Sequence[str]],
    lengths: Sequence[int] | Sequence[str] | None = None,
    *,
    all_classes: Sequence[str] | Sequence[Sequence[str]] | None = None,
    answer_keywords: Sequence[str | None] | None = None,
    difficulties: Sequence[str] | None = None,
    compensated: bool = False,
) -> float | dict[str, float]:
    """Score of a whole file of predictions, in percent, rounded as the official script rounds.

    Args:
        benchmark: as in `score`.
        dataset: as in `score`.
        predictions: generated texts.
        answers: accepted answers of each.
        lengths: of each record. LongBench: numbers, which ask for LongBench-E's three buckets. v2:
            "short", "medium" or "long", which asks for those groups. LV-Eval has a file for every length
            and takes none.
        all_classes: class names of LongBench's trec and lsht; if one list per record comes, the last
            one holds for all, as in the official script.
        answer_keywords: LV-Eval's keywords of each.
        difficulties: "easy" or "hard" of each record, for v2's groups.
        compensated: v2 only: 0.25 for a response without an answer.

    Returns:
        One number with 2 decimals (v2: 1 decimal); with `lengths` or `difficulties` a number for each
        bucket or group (v2's "Overall" among them), NaN where it is empty.

    Raises:
        ValueError: no predictions, lists of different lengths, or what `score` raises.
    """
    _check(benchmark)
    _check_sizes(len(predictions), answers=answers, lengths=lengths, keywords=answer_keywords, hard=difficulties)
    if benchmark == "longbench_v2":
        groups = None if lengths is None else [str(length) for length in lengths]
        table = longbench_v2.table(predictions, answers, groups, difficulties, compensated=compensated)
        return table["Overall"] if lengths is None and difficulties is None else table
    if difficulties is not None or compensated:
        raise ValueError(
            f"difficulties and compensated belong to longbench_v2, got them for {benchmark}; leave them out"
        )
    if benchmark == "lveval" and lengths is not None:
        raise ValueError("expected no lengths for lveval, got some; call once for every <dataset>_<level>")
    keywords = answer_keywords or [None] * len(predictions)
    classes = _last(all_classes)
    scores = [
        score(benchmark, dataset, text, accepted, all_classes=classes, answer_keywords=words)
        for text, accepted, words in zip(predictions, answers, keywords, strict=True)
    ]
    if lengths is None:
        return longbench.total(scores)
    return longbench.by_bucket(scores, [int(length) for length in lengths])


def _check(benchmark: str) -> None:
    if benchmark not in get_args(BenchmarkName):
        raise ValueError(f"expected a benchmark of {', '.join(get_args(BenchmarkName))}, got {benchmark!r}")


def _check_sizes(num_predictions: int, **columns: Sequence | None) -> None:
    if not num_predictions:
        raise ValueError("expected at least one prediction, got none; a file without rows has no score")
    for name, column in columns.items():
        if column is not None and len(column) != num_predictions:
            raise ValueError(f"expected {num_predictions} {name}, one for every prediction, got {len(column)}")


def _last(all_classes: Sequence[str] | Sequence[Sequence[str]] | None) -> Sequence[str] | None:
    """The class names; of one list per record, the last record's."""
    if not all_classes or isinstance(all_classes[0], str):
        return all_classes  # type: ignore[return-value]
    return all_classes[-1]
