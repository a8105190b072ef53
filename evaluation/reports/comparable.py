"""Whether two reports can be compared at all: same benchmark, protocol, scores and questions."""

from collections.abc import Mapping, Sequence

from evaluation.reports.report import BenchmarkReport, Prediction
from lit_longpo.errors import InputError

Pair = tuple[Prediction, Prediction]
SCORE = "score of each answer"  # the setting that names it, of benchmarks which have several


def check_comparable(first: BenchmarkReport, second: BenchmarkReport) -> None:
    """Refuse reports whose scores do not measure the same.

    Raises:
        InputError: the benchmarks, protocols or scores differ.
    """
    for what in ("name", "protocol"):
        if getattr(first, what) != getattr(second, what):
            raise InputError(
                f"expected two reports with the same {what}, got {getattr(first, what)!r} and "
                f"{getattr(second, what)!r}; their scores do not measure the same: compare reports of one benchmark"
            )
    one, other = score_names(first, second)
    if one and other and not one & other:
        raise InputError(
            f"expected two reports with the same score, got {', '.join(sorted(one))} and {', '.join(sorted(other))}; "
            "they do not measure the same: type --rescore with the --benchmark.metric of the other on one of them (qa: "
            "--benchmark.score_by, needle: --benchmark.scoring)"
        )


def score_names(first: BenchmarkReport, second: BenchmarkReport) -> tuple[set[str], set[str]]:
    """What each report says its scores are; else its columns of official numbers, over the tasks that are in both."""
    if SCORE in first.settings and SCORE in second.settings:
        return {str(first.settings[SCORE])}, {str(second.settings[SCORE])}
    tasks = first.tables.keys() & second.tables.keys()
    one, other = ({column for task in tasks for column in side.tables[task]} for side in (first, second))
    return one, other


def check_same_questions(pairs: Sequence[Pair]) -> None:
    """Refuse predictions whose id stands for different questions in the two reports."""
    for one, other in pairs:
        if (one.task, one.question, one.answers) != (other.task, other.question, other.answers):
            raise InputError(
                f"expected {one.id} to be one question in both reports, got {one.question!r:.80} with "
                f"{one.answers!r:.80} and {other.question!r:.80} with {other.answers!r:.80}; run both with the same "
                "data and seed"
            )


def why_no_common_ids(before: Mapping[str, Prediction], after: Mapping[str, Prediction]) -> str:
    """What to do about reports without a common id: the same questions may have other ids in another file."""
    one, other = (
        {(item.task, item.question, item.answers): name for name, item in side.items()} for side in (before, after)
    )
    same = [asked for asked in one if asked in other]
    if not same:
        return "run both on the same tasks"
    return (
        f"{len(same):,} of {len(one):,} questions are the same under other ids ({one[same[0]]} and {other[same[0]]}), "
        "which come from the file: run both on one file, or give the rows of one the `id` of the other"
    )
