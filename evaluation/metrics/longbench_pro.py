"""LongBench Pro: 25 tasks, five metrics over lines of text. Read at caskcsg/longcontext 88fbeb8."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from math import log2

from evaluation.metrics.text import set_f1
from lit_longpo.errors import InputError

_MARKS = ("[Answer]", "[\u7b54\u6848]")
Lines = Sequence[str]


def accuracy(predicted: Lines, answers: Lines) -> float:
    """1.0 if the first line is the first answer."""
    return float(predicted[0] == answers[0])


def share_of_lines(predicted: Lines, answers: Lines) -> float:
    """Share of the answers that are a line of the prediction; the official "SubEM"."""
    return sum(answer in predicted for answer in answers) / len(answers)


def pairwise_accuracy(predicted: Lines, answers: Lines) -> float:
    """Pairs of the answers that stand in this order, over all pairs of the prediction: a missing line costs nothing."""
    pairs = len(predicted) * (len(predicted) - 1) // 2
    if not pairs:
        return 0.0
    places = {line: number for number, line in enumerate(predicted)}
    known = [answer for answer in answers if answer in places]
    return sum(places[before] < places[after] for before, after in combinations(known, 2)) / pairs


def ndcg(predicted: Lines, answers: Lines) -> float:
    """NDCG at the number of answers, whose worth falls by one from the first to the last."""
    worth = {answer: len(answers) - number for number, answer in enumerate(answers)}
    gains = [worth.get(line, 0) for line in dict.fromkeys(predicted)]
    return _discounted(gains[: len(answers)]) / _discounted(list(worth.values()))


METRICS: Mapping[str, Callable[[Lines, Lines], float]] = {
    "T1.1 Global Cohesive Retrieval": ndcg,
    "T1.2 Key-Snippet Retrieval": ndcg,
    "T2.1 Global Timeline Reconstruction": pairwise_accuracy,
    "T2.2 Local Causal Chain Sorting": pairwise_accuracy,
    "T3.1 Multi-Doc Integration QA": accuracy,
    "T3.2 Single-Hop Fact QA": accuracy,
    "T5.1 Full-Sentence Citation Alignment": set_f1,
    "T5.2 Key-Statement Citation Alignment": set_f1,
    "T6.1 Large-Scale Document Clustering": share_of_lines,
    "T6.2 Targeted Subset Cluster Identification": set_f1,
    "T6.3 Global Frequency Analysis": pairwise_accuracy,
    "T7.1 Global Conflict & Inconsistency Localization": set_f1,
    "T7.2 Targeted Rule or Condition Violation Detection": set_f1,
    "T7.3 Comprehensive Error & Anomaly Sweep": set_f1,
    "T8.1 Structured Multi-Source Consistency Verification": share_of_lines,
    "T8.2 Single-Source Targeted Aggregation": share_of_lines,
    "T8.3 Long-Context Procedural State Tracking": share_of_lines,
    "T9.1 Dependency-Aware Multi-Version Impact Analysis": set_f1,
    "T9.2 Localized Interface Change Detection": set_f1,
    "T10.1 Large-Scale In-Context Rule Induction": share_of_lines,
    "T10.2 Targeted Example-Based Rule Induction": share_of_lines,
    "T11.1 Long-Range Entity & Commitment Tracking": accuracy,
    "T11.2 Short-Range Reference Resolution & State Query": accuracy,
}
SUMMARIES = ("T4.1 Global-Coverage Constrained Summary", "T4.2 Query-Focused Summary")


def score(task: str, prediction: str, answers: Sequence[str]) -> float:
    """The metric of a task over the lines behind the last "[Answer]", 0 to 1; an empty prediction is worth 0.

    Args:
        task: the record's `secondary_task`.
        prediction: generated text.
        answers: the record's `answer`; an order of lines where the task is about one.

    Raises:
        InputError: an unknown task, a summary (its metric takes an embedding model of 8B), or no answers.
    """
    if task not in METRICS:
        advice = "summaries take an embedding model, leave them out" if task in SUMMARIES else "correct it"
        raise InputError(f"expected a task of {', '.join(METRICS)}, got {task!r}; {advice}")
    if not answers:
        raise InputError("expected at least one answer, got none; pass record['answer']")
    if not prediction:
        return 0.0
    return METRICS[task](lines(prediction), [_normalised(answer) for answer in answers])


def lines(prediction: str) -> list[str]:
    """Lines behind the last mark, in lower case, their blanks squeezed."""
    for mark in _MARKS:
        prediction = prediction.rpartition(mark)[2]
    return [_normalised(line) for line in prediction.strip().split("\n")]


def _normalised(text: str) -> str:
    return " ".join(text.lower().split())


def _discounted(gains: Sequence[int]) -> float:
    return sum(gain / log2(number + 2) for number, gain in enumerate(gains))
