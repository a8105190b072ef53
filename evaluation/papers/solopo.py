"""SoLoPO's benchmark columns (Sun et al., arXiv 2505.11166, ICLR 2026)."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from evaluation.benchmarks.longbench import LongBench
from evaluation.benchmarks.longbench_v2 import LongBenchV2
from evaluation.benchmarks.ruler.benchmark import RULER
from evaluation.metrics.ruler import CATEGORIES
from evaluation.papers.columns import Cell, Column, cells, with_mean
from evaluation.papers.paper import DOWNLOAD, RULER_SCRIPTS, Maker, Paper, SizeName

_QA = ("narrativeqa", "qasper", "multifieldqa_en", "hotpotqa", "2wikimqa", "musique")
_PARTS = {"<32K": "Short", "32-128K": "Medium", ">128K": "Long"}


def _v2(label: str, column: str) -> Column:
    group = None if column == "Overall" else ("length", column.lower())
    return Column.of(label, Cell("longbench_v2", "longbench_v2", column, group))


class SoLoPOPaper(Paper):
    """SoLoPO's LongBench QA, RULER QA and LongBench v2.

    Args:
        longbench: folder in the official layout, or "download" (114 MB); `None` leaves it out.
        longbench_v2: the same (465 MB).
        ruler: `scripts` of NVIDIA/RULER at c3f5e3b; `None` leaves it out.
        squad: SQuAD 2.0's dev file: qa_1.
        hotpotqa: HotpotQA's dev file with distractors: qa_2.
        size: "paper", or "cpu" for a trial.
        lengths: of RULER, in place of 4K to 128K.

    Raises:
        MissingFileError: a named file is not there.
        InputError: nothing is named, or RULER without files of questions.
    """

    name = "solopo_paper"
    source = "SoLoPO, arXiv 2505.11166: LongBench QA, RULER QA and LongBench v2"
    tables = {
        "LongBench QA": (
            with_mean({task: cells("longbench", task) for task in _QA}, "avg"),
            "F1. avg: plain mean of the six English QA tasks; which of them the paper takes is not known here.",
        ),
        "RULER QA": (
            with_mean({task: cells("ruler", task, column="mean") for task in CATEGORIES["QA"]}, "avg"),
            "Plain means over tasks and lengths; the paper's lengths are not known here: RULER's six.",
        ),
        "LongBench v2": (
            (_v2("all", "Overall"), *(_v2(label, column) for label, column in _PARTS.items())),
            "Accuracy, without chain of thought; lengths in words, as the benchmark has them.",
        ),
    }
    not_asked = (
        "NIAH-Plus: its files could not be had",
        "Open LLM Leaderboard: python -m lit_longpo evaluate --config eval/papers/solopo_short",
    )

    def __init__(
        self,
        longbench: str | None = DOWNLOAD,
        longbench_v2: str | None = DOWNLOAD,
        ruler: str | None = None,
        squad: str | None = None,
        hotpotqa: str | None = None,
        size: SizeName = "paper",
        lengths: Sequence[int] | None = None,
    ) -> None:
        self._places = longbench, longbench_v2, ruler
        self._texts: dict[str, Any] = {"squad": squad, "hotpotqa": hotpotqa}
        super().__init__(size, lengths)

    def _makers(self) -> Mapping[str, Maker]:
        longbench, longbench_v2, ruler = self._places
        questions = partial(RULER, tasks=CATEGORIES["QA"], lengths=self.size.lengths, **self._texts)
        return {
            "longbench": Maker(longbench, partial(LongBench, tasks=_QA), f"or {DOWNLOAD}"),
            "longbench_v2": Maker(longbench_v2, LongBenchV2, f"or {DOWNLOAD}"),
            "ruler": Maker(ruler, questions, f"{RULER_SCRIPTS}, with --paper.squad FILE and --paper.hotpotqa FILE"),
        }
