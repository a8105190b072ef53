"""One door to the official scores of every benchmark."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.metrics import (
    babilong,
    graphwalks,
    infinitebench,
    longbench,
    longbench_pro,
    longbench_v2,
    lveval,
    mrcr,
    ruler,
)
from evaluation.metrics.infinitebench import References
from lit_longpo.errors import InputError, InputTypeError


@dataclass(frozen=True)
class Scorer:
    """The official scores of one benchmark.

    Args:
        score: of one prediction; takes data set, prediction, answers and, by name, what `takes` lists.
        aggregate: of a file; takes the scores, the predictions and the `options`. Else the plain mean.
        options: of `evaluation.metrics.aggregate` that mean something here.
        advice: for whoever passes another of them.
        takes: fields of a record, beside the answers, that its scores look at: keywords of `evaluation.metrics.score`.
        takes_any: answers may be a text or a number, as the benchmark's own files have them.
    """

    score: Callable[..., float]
    aggregate: Callable[..., float | dict[str, float]] = longbench.total
    options: frozenset[str] = frozenset()
    advice: str = "leave them out"
    takes: frozenset[str] = frozenset()
    takes_any: bool = False


SCORERS: Mapping[str, Scorer] = {
    "longbench": Scorer(longbench.score, longbench.aggregate, frozenset({"lengths"}), takes=frozenset({"all_classes"})),
    "longbench_v2": Scorer(
        longbench_v2.score, longbench_v2.aggregate, frozenset({"lengths", "difficulties", "compensated"})
    ),
    "lveval": Scorer(
        lveval.score, advice="call once for every <dataset>_<level>", takes=frozenset({"answer_keywords"})
    ),
    "babilong": Scorer(babilong.score, takes=frozenset({"question"})),
    "graphwalks": Scorer(graphwalks.score),
    "longbench_pro": Scorer(longbench_pro.score),
    "openai_mrcr": Scorer(mrcr.score, takes=frozenset({"prefix"})),
    "infinitebench": Scorer(infinitebench.score, takes=frozenset({"model"}), takes_any=True),
    "ruler": Scorer(ruler.score, advice="call once for every length"),
}


def score(
    benchmark: str,
    dataset: str,
    prediction: str,
    answers: References,
    *,
    options: Sequence[str] | None = None,
    all_classes: Sequence[str] | None = None,
    answer_keywords: str | None = None,
    question: str | None = None,
    prefix: str | None = None,
    model: str | None = None,
) -> float:
    """The official score of one prediction, post-processing included.

    What else a record has may be passed along; a benchmark looks at what its score depends on.

    Args:
        benchmark: "longbench" (LongBench-E as well), "longbench_v2", "lveval", "babilong", "graphwalks",
            "longbench_pro", "openai_mrcr", "infinitebench" or "ruler".
        dataset: task, for example "hotpotqa", "hotpotqa_e", "factrecall_en_16k", "qa1", "bfs" or "niah_single_1";
            any text for v2.
        prediction: generated text, as it came.
        answers: accepted answers; for v2 the right letter in a list. LV-Eval counts the first only.
            InfiniteBench's label as its files have it: a text, a number or a list; [text, letter] of choices.
        options: choices of the question; no score asks for them.
        all_classes: class names of LongBench's trec and lsht.
        answer_keywords: LV-Eval's keywords; `None` or "" if the record has none.
        question: BABILong's; what it names is no answer.
        prefix: text that an answer of MRCR has to begin with.
        model: official name of who answered, for InfiniteBench's Math.Calc ("gpt4").

    Returns:
        0 to 1.

    Raises:
        InputTypeError: `answers` is one text instead of a list, or `prediction` is no text.
        InputError: unknown benchmark or data set, or something the data set needs is missing.
        MissingPackageError: the extra `eval` is missing and this data set needs it.
    """
    scorer = _scorer(benchmark)
    is_list = scorer.takes_any or not isinstance(answers, str | int | float)
    if not is_list or not isinstance(prediction, str):
        raise InputTypeError(
            f"expected a text and a list of answers, got {prediction!r:.80} and {answers!r:.80}; pass answers=[...]"
        )
    given = {
        "all_classes": all_classes,
        "answer_keywords": answer_keywords,
        "question": question,
        "prefix": prefix,
        "model": model,
    }
    return scorer.score(dataset, prediction, answers, **{name: given[name] for name in scorer.takes})


def aggregate(
    benchmark: str,
    dataset: str,
    predictions: Sequence[str],
    answers: Sequence[References],
    lengths: Sequence[int] | Sequence[str] | None = None,
    *,
    all_classes: Sequence[str] | Sequence[Sequence[str]] | None = None,
    answer_keywords: Sequence[str | None] | None = None,
    questions: Sequence[str] | None = None,
    prefixes: Sequence[str] | None = None,
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
        questions: BABILong's, of each.
        prefixes: MRCR's, of each.
        difficulties: "easy" or "hard" of each record, for v2's groups.
        compensated: v2 only: 0.25 for a response without an answer.

    Returns:
        One number with 2 decimals (v2: 1 decimal); with `lengths` or `difficulties` a number for each
        bucket or group (v2's "Overall" among them), NaN where it is empty.

    Raises:
        InputError: no predictions, lists of different lengths, or what `score` raises.
    """
    scorer = _scorer(benchmark)
    columns = {"answer_keywords": answer_keywords, "question": questions, "prefix": prefixes}
    _check_sizes(len(predictions), answers=answers, lengths=lengths, keywords=answer_keywords, hard=difficulties)
    _check_sizes(len(predictions), questions=questions, prefixes=prefixes)
    options = _given(lengths=lengths, difficulties=difficulties, compensated=compensated or None)
    _check_options(benchmark, scorer, options)
    rows, classes = _rows(len(predictions), _given(**columns)), _last(all_classes)
    scores = [
        score(benchmark, dataset, text, accepted, all_classes=classes, **row)
        for text, accepted, row in zip(predictions, answers, rows, strict=True)
    ]
    return scorer.aggregate(scores, predictions, **options)


def _given(**values: Any) -> dict[str, Any]:
    """What is not left out."""
    return {name: value for name, value in values.items() if value is not None}


def _scorer(benchmark: str) -> Scorer:
    if benchmark not in SCORERS:
        raise InputError(f"expected a benchmark of {', '.join(SCORERS)}, got {benchmark!r}")
    return SCORERS[benchmark]


def _check_options(benchmark: str, scorer: Scorer, options: Mapping[str, object]) -> None:
    for name in sorted(options.keys() - scorer.options):
        owners = ", ".join(other for other, item in SCORERS.items() if name in item.options)
        raise InputError(f"expected no {name} for {benchmark}, got some; they belong to {owners}: {scorer.advice}")


def _check_sizes(num_predictions: int, **columns: Sequence | None) -> None:
    if not num_predictions:
        raise InputError("expected at least one prediction, got none; a file without rows has no score")
    for name, column in columns.items():
        if column is not None and len(column) != num_predictions:
            raise InputError(f"expected {num_predictions} {name}, one for every prediction, got {len(column)}")


def _rows(num_rows: int, columns: Mapping[str, Sequence[str | None]]) -> list[dict[str, str | None]]:
    """What `score` is told of each record beside its answers."""
    return [{name: column[number] for name, column in columns.items()} for number in range(num_rows)]


def _last(all_classes: Sequence[str] | Sequence[Sequence[str]] | None) -> Sequence[str] | None:
    """The class names; of one list per record, the last record's."""
    if not all_classes or isinstance(all_classes[0], str):
        return all_classes  # type: ignore[return-value]
    return all_classes[-1]
