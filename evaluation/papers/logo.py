"""LOGO's benchmark columns (Tang et al., arXiv 2410.18533, ICML 2025)."""

from collections.abc import Mapping, Sequence
from functools import partial

from evaluation.benchmarks.infinitebench import InfiniteBench
from evaluation.benchmarks.longbench import LongBench, language_tasks
from evaluation.benchmarks.lveval import LVEval
from evaluation.metrics.lveval import METRICS
from evaluation.papers.columns import Column, cells, with_mean
from evaluation.papers.paper import DOWNLOAD, INFINITEBENCH, Maker, Paper, SizeName

_LEVELS = ("64k", "128k")
_GROUPS = {
    "S-Doc QA": cells("longbench", "narrativeqa", "qasper", "multifieldqa_en"),
    "M-Doc QA": cells("longbench", "hotpotqa", "2wikimqa", "musique"),
    "Summ": cells("longbench", "gov_report", "qmsum", "multi_news"),
    "Few-shot": cells("longbench", "trec", "triviaqa", "samsum"),
    "Synthetic": cells("longbench", "passage_count", "passage_retrieval_en"),
}
_TASKS = tuple(cell.task for group in _GROUPS.values() for cell in group)
_FIVE = {
    "En.QA": cells("infinitebench", "longbook_qa_eng", metric="sub_em"),
    "2WikiMQA": cells("longbench", "2wikimqa", metric="sub_em"),
    "NarrativeQA": cells("longbench", "narrativeqa", metric="sub_em"),
    "MFQA-en": cells("longbench", "multifieldqa_en", metric="sub_em"),
    "MuSiQue": cells("longbench", "musique", metric="sub_em"),
}


def _level(level: str) -> Column:
    return Column.of(f"LV-Eval {level}", *cells("lveval", *(f"{dataset}_{level}" for dataset in METRICS)))


class LOGOPaper(Paper):
    """LOGO's LongBench table, the sub-EM columns of its camera-ready, and LV-Eval at 64k and 128k.

    LongBench is asked once: sub-EM and F1 are scores of the same answers.

    Args:
        longbench: folder in the official layout, or "download" (114 MB); `None` leaves it out.
        infinitebench: folder of `longbook_qa_eng.jsonl` and `prompt.py`; `None` leaves it out.
        lveval: folder in the official layout, or "download"; `None` leaves it out.
        size: "paper", or "cpu" for a trial.
        lengths: nothing here is made for a length.

    Raises:
        MissingFileError: a named file is not there.
        InputError: nothing is named.
    """

    name = "logo_paper"
    source = "LOGO, arXiv 2410.18533: LongBench table (v1), sub-EM and LV-Eval columns (ICML 2025)"
    tables = {
        "LongBench": (
            with_mean(_GROUPS, "avg"),
            "English tasks without code. avg: plain mean of the five categories.",
        ),
        "Sub-EM": (
            (*with_mean(_FIVE, "avg"), Column.of("MuSiQue F1", *cells("longbench", "musique", metric="f1"))),
            "Share of questions one of whose answers is in the response. avg: plain mean of the five sub-EM columns.",
        ),
        "LV-Eval": (
            tuple(_level(level) for level in _LEVELS),
            "Plain mean of the 11 data sets, by the official metric: the paper does not state another.",
        ),
    }
    not_asked = (
        "perplexity on PG-19: python -m lit_longpo perplexity --config eval/papers/logo_perplexity",
        "MMLU, TruthfulQA, ARC: python -m lit_longpo evaluate --config eval/papers/logo_short",
        "needles from 8K to 88K: python -m lit_longpo evaluate --config eval/needle, in texts of our own",
    )

    def __init__(
        self,
        longbench: str | None = DOWNLOAD,
        infinitebench: str | None = None,
        lveval: str | None = None,
        size: SizeName = "paper",
        lengths: Sequence[int] | None = None,
    ) -> None:
        self._places = longbench, infinitebench, lveval
        super().__init__(size, lengths)

    def _makers(self) -> Mapping[str, Maker]:
        longbench, infinitebench, lveval = self._places
        book = partial(InfiniteBench, tasks=["longbook_qa_eng"])
        return {
            "longbench": Maker(longbench, partial(LongBench, tasks=_TASKS), f"or {DOWNLOAD}"),
            "infinitebench": Maker(infinitebench, book, f"longbook_qa_eng.jsonl {INFINITEBENCH}"),
            "lveval": Maker(lveval, partial(LVEval, levels=_LEVELS), f"or {DOWNLOAD}"),
        }


assert set(_TASKS) == {task for task, kind in language_tasks("en").items() if kind != "code"}
