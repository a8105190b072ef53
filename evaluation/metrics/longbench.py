"""LongBench and LongBench-E (Bai et al., arXiv 2308.14508): the scores of its own scorer, quirks included.

Read at THUDM/LongBench 2e00731. Where its result looks like an oversight it is kept and said below,
because scores are only comparable if everybody has the same ones.
"""

import difflib
import re
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from evaluation.metrics.extras import chinese_words
from evaluation.metrics.rouge_l import rouge_l
from evaluation.metrics.text import chinese_tokens, english_tokens, token_f1
from lit_longpo.errors import InputError, did_you_mean

BUCKETS = ("0-4k", "4-8k", "8k+")
ONLY_FIRST_LINE = frozenset({"trec", "triviaqa", "samsum", "lsht"})
_DIGITS = re.compile(r"\d+")  # full-width digits too


def qa_f1(prediction: str, answer: str) -> float:
    """Token F1 of the normalised texts."""
    return token_f1(english_tokens(prediction), english_tokens(answer))


def qa_f1_chinese(prediction: str, answer: str) -> float:
    """Token F1 of segmented, then normalised texts."""
    return token_f1(chinese_tokens(prediction), chinese_tokens(answer))


def rouge_chinese(prediction: str, answer: str) -> float:
    """ROUGE-L of segmented texts; only "." ends a sentence, the Chinese full stop does not."""
    prediction, answer = (" ".join(chinese_words(text)) for text in (prediction, answer))
    return rouge_l(prediction, answer, official_depth=1)


def classification(prediction: str, answer: str, all_classes: Sequence[str]) -> float:
    """One over the number of class names in the prediction, if the right one is among them.

    Names that are part of the answer without being it should be removed. The official scorer
    removes them from the list it walks along, so the name after a removed one is never looked at.
    """
    named = [name for name in all_classes if name in prediction]
    for name in named:
        if name in answer and name != answer:
            named.remove(name)  # the walk skips the next one, as the official one does
    return 1 / len(named) if answer in named else 0.0


def number_share(prediction: str, number: str) -> float:
    """Share of the prediction's numbers that equal `number`, compared as text: "05" is not "5"."""
    numbers = _DIGITS.findall(prediction)
    return numbers.count(number) / len(numbers) if numbers else 0.0


def retrieval(prediction: str, answer: str, label: str) -> float:
    """`number_share` of the number that follows `label` in the answer.

    Raises:
        InputError: the answer holds no such number.
    """
    match = re.search(re.escape(label) + r"(\d+)", answer)
    if match is None:
        raise InputError(f'expected an answer like "{label}7", got {answer!r}; use the official data file')
    return number_share(prediction, match[1])


def code_similarity(prediction: str, answer: str) -> float:
    """Similarity of the first line of code to the answer, in whole percent.

    The first line without a back-tick, "#" or "//" counts, be it only white space; none means no code.
    The ratio is difflib's, what `fuzzywuzzy` gives without python-Levenshtein (which the benchmark does
    not ask for and which changes the numbers): popular characters of lines over 200 are skipped, and
    the two sides are not interchangeable.
    """
    lines = prediction.lstrip("\n").split("\n")
    code = next((line for line in lines if not any(mark in line for mark in ("`", "#", "//"))), "")
    if code == answer:
        return 1.0
    if not code or not answer:
        return 0.0
    return round(100 * difflib.SequenceMatcher(None, code, answer).ratio()) / 100


@dataclass(frozen=True)
class Task:
    """How one task is scored.

    Args:
        category: row of the paper's table.
        metric: of a prediction and one answer, 0 to 1; `None` means `classification`.
        languages: averages it belongs to, of "en" and "zh".
    """

    category: str
    metric: Callable[[str, str], float] | None
    languages: tuple[str, ...] = ("en",)


_ZH = ("zh",)
TASKS: Mapping[str, Task] = {
    "narrativeqa": Task("single-document QA", qa_f1),
    "qasper": Task("single-document QA", qa_f1),
    "multifieldqa_en": Task("single-document QA", qa_f1),
    "multifieldqa_zh": Task("single-document QA", qa_f1_chinese, _ZH),
    "hotpotqa": Task("multi-document QA", qa_f1),
    "2wikimqa": Task("multi-document QA", qa_f1),
    "musique": Task("multi-document QA", qa_f1),
    "dureader": Task("multi-document QA", rouge_chinese, _ZH),
    "gov_report": Task("summarisation", rouge_l),
    "qmsum": Task("summarisation", rouge_l),
    "multi_news": Task("summarisation", rouge_l),
    "vcsum": Task("summarisation", rouge_chinese, _ZH),
    "trec": Task("few-shot", None),
    "triviaqa": Task("few-shot", qa_f1),
    "samsum": Task("few-shot", rouge_l),
    "lsht": Task("few-shot", None, _ZH),
    "passage_count": Task("synthetic", number_share),
    "passage_retrieval_en": Task("synthetic", partial(retrieval, label="Paragraph ")),
    "passage_retrieval_zh": Task("synthetic", partial(retrieval, label="\u6bb5\u843d"), _ZH),
    "lcc": Task("code", code_similarity, ("en", "zh")),
    "repobench-p": Task("code", code_similarity, ("en", "zh")),
}


def task_name(dataset: str) -> str:
    """The task of a data set; LongBench-E's `<task>_e` is scored like `<task>`.

    Raises:
        InputError: there is no such task.
    """
    task = dataset.removesuffix("_e")
    if task not in TASKS:
        raise InputError(
            f"expected a task of LongBench, {', '.join(TASKS)}, got {dataset!r}{did_you_mean(task, TASKS)}"
        )
    return task


def score(
    dataset: str,
    prediction: str,
    answers: Sequence[str],
    all_classes: Sequence[str] | None = None,
) -> float:
    """The best score over all answers, 0 to 1; of four tasks only the prediction's first line counts.

    Leading newlines, not spaces, are dropped before the first line is taken. Nothing else is stripped.

    Raises:
        InputError: unknown task, or a classification without `all_classes`.
    """
    task = task_name(dataset)
    metric = TASKS[task].metric
    if metric is None and all_classes is None:
        raise InputError(f"expected the class names of {task}, got None; pass all_classes=record['all_classes']")
    if task in ONLY_FIRST_LINE:
        prediction = prediction.lstrip("\n").split("\n")[0]
    if metric is None:
        return max((classification(prediction, answer, all_classes or ()) for answer in answers), default=0.0)
    return max((metric(prediction, answer) for answer in answers), default=0.0)


def bucket(length: int) -> str:
    """LongBench-E's bucket of a record's `length` (words; characters in Chinese)."""
    return BUCKETS[bisect_right((4000, 8000), length)]


def total(scores: Sequence[float], predictions: Sequence[str] = ()) -> float:
    """Score of a file: percent, two decimals; NaN of nothing. Predictions have no say."""
    return round(100 * sum(scores) / len(scores), 2) if scores else float("nan")


def by_bucket(scores: Sequence[float], lengths: Sequence[int]) -> dict[str, float]:
    """LongBench-E's scores: percent, two decimals, NaN for a bucket without a record."""
    rows: dict[str, list[float]] = {name: [] for name in BUCKETS}
    for value, length in zip(scores, lengths, strict=True):
        rows[bucket(length)].append(value)
    return {name: float(round(100 * np.mean(row), 2)) if row else float("nan") for name, row in rows.items()}


def aggregate(
    scores: Sequence[float], predictions: Sequence[str], lengths: Sequence[int | str] | None = None
) -> float | dict[str, float]:
    """Score of a file, or with `lengths` of LongBench-E's buckets; 0 to 100, rounded as the official script does.

    Args:
        scores: of its predictions, 0 to 1.
        predictions: not read; other benchmarks' rules need them.
        lengths: words of each context, characters in Chinese.
    """
    return total(scores) if lengths is None else by_bucket(scores, [int(length) for length in lengths])
