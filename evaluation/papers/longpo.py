"""LongPO's benchmark columns (Chen et al., arXiv 2502.13922, ICLR 2025)."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from evaluation.benchmarks.infinitebench import InfiniteBench
from evaluation.benchmarks.ruler.benchmark import RULER
from evaluation.metrics.ruler import CATEGORIES
from evaluation.papers.columns import Column, Reports, cells, with_mean
from evaluation.papers.paper import INFINITEBENCH, RULER_SCRIPTS, Maker, Paper, SizeName
from evaluation.reports.table import Section, means_section

_BOOKS = {
    "En.Sum": cells("infinitebench", "longbook_sum_eng"),
    "En.QA": cells("infinitebench", "longbook_qa_eng"),
    "En.MC": cells("infinitebench", "longbook_choice_eng"),
}
_KINDS = {name: cells("ruler", *CATEGORIES[name], column="mean") for name in ("NIAH", "VT", "QA")}
_AGGREGATION = cells("ruler", *CATEGORIES["AGG"], column="mean")
_EVERY = (*(cell for group in _KINDS.values() for cell in group), *_AGGREGATION)


class LongPOPaper(Paper):
    """LongPO's table 1, InfiniteBench and RULER, and its table of RULER's 13 tasks by length.

    Args:
        infinitebench: folder of the three `longbook_*_eng.jsonl` and `prompt.py`; `None` leaves it out.
        ruler: `scripts` of NVIDIA/RULER at c3f5e3b; `None` leaves it out.
        essays: text, or PaulGrahamEssays.json: five of RULER's needle tasks.
        squad: SQuAD 2.0's dev file: qa_1.
        hotpotqa: HotpotQA's dev file with distractors: qa_2.
        words: folder of word lists, as in `RULER`.
        size: "paper", or "cpu" for a trial.
        lengths: of RULER, in place of 4K to 128K.

    Raises:
        MissingFileError: a named file is not there.
        InputError: nothing is named.
    """

    name = "longpo_paper"
    source = "LongPO, arXiv 2502.13922: table 1 (InfiniteBench, RULER) and RULER by length"
    tables = {
        "InfiniteBench": (
            with_mean(_BOOKS, "AVG."),
            "Official scores. AVG.: plain mean of the three.",
        ),
        "RULER": (
            (*with_mean(_KINDS, "AVG."), Column.of("AGG", *_AGGREGATION), Column.of("13 tasks", *_EVERY)),
            "Plain means over tasks and lengths. AVG., of table 1: plain mean of NIAH, VT and QA. 13 tasks: of the "
            "table by length.",
        ),
    }
    not_asked = (
        "LongBench-Chat and MT-Bench: GPT-4 judges them",
        "MMLU, ARC-C, HellaSwag, Winogrande: python -m lit_longpo evaluate --config eval/papers/longpo_short",
    )

    def __init__(
        self,
        infinitebench: str | None = None,
        ruler: str | None = None,
        essays: str | None = None,
        squad: str | None = None,
        hotpotqa: str | None = None,
        words: str | None = None,
        size: SizeName = "paper",
        lengths: Sequence[int] | None = None,
    ) -> None:
        self._places = infinitebench, ruler
        self._texts: dict[str, Any] = {"essays": essays, "squad": squad, "hotpotqa": hotpotqa, "words": words}
        super().__init__(size, lengths)

    def _makers(self) -> Mapping[str, Maker]:
        infinitebench, ruler = self._places
        books = partial(InfiniteBench, tasks=[cell.task for group in _BOOKS.values() for cell in group])
        return {
            "infinitebench": Maker(infinitebench, books, f"longbook_{{sum,qa,choice}}_eng.jsonl {INFINITEBENCH}"),
            "ruler": Maker(ruler, partial(RULER, lengths=self.size.lengths, **self._texts), RULER_SCRIPTS),
        }

    def sections(self, reports: Reports) -> list[Section]:
        """The tables, and RULER by length."""
        by_length = RULER.means(reports["ruler"])["length"] if "ruler" in reports else {}
        note = "Plain mean of the tasks that were asked; the paper's has all 13."
        more = [means_section("RULER by length", "tokens", by_length, note)] if by_length else []
        return [*super().sections(reports), *more]
