"""The interface of a paper's tables: its benchmarks at its lengths, and how their numbers become columns."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, get_args

from evaluation.benchmark import Benchmark
from evaluation.benchmarks.ruler.averages import LENGTHS
from evaluation.papers.columns import Column, Reports, columns_section
from evaluation.reports.table import Section
from evaluation.running.settings import RunSettings
from lit_longpo.errors import InputError

SizeName = Literal["paper", "cpu"]
DOWNLOAD = "download"


@dataclass(frozen=True)
class Size:
    """How much is asked.

    Args:
        lengths: tokens of prompt and answer of what is made for a length.
        max_length: tokens that other prompts are cut to; `None` means the official number.
        limit: examples of each task; `None` means all.
    """

    lengths: tuple[int, ...]
    max_length: int | None
    limit: int | None


SIZES: Mapping[SizeName, Size] = {"paper": Size(LENGTHS, None, None), "cpu": Size((2048,), 1536, 2)}


class Paper(ABC):
    """The benchmark columns of a paper, asked of one model; a paper is a subclass in one file.

    Args:
        size: "paper", or "cpu": two examples of each task, prompts of at most 1,536 tokens, RULER's of 2,048; what
            that changes stands in the reports' deviations.
        lengths: of what is made for a length, in place of those of `size`.

    Attributes:
        name: of the file that holds its tables.
        source: which paper, and which of its tables.
        tables: columns and a note by the table's title.
        not_asked: columns of the paper that are not here, and why.
        benchmarks: by the names that columns use, in the order in which they are asked.

    Raises:
        ValueError: there is no such size, or nothing to ask.
    """

    name: ClassVar[str]
    source: ClassVar[str]
    tables: ClassVar[Mapping[str, tuple[Sequence[Column], str]]]
    not_asked: ClassVar[tuple[str, ...]] = ()

    def __init__(self, size: SizeName = "paper", lengths: Sequence[int] | None = None) -> None:
        if size not in get_args(SizeName):
            raise InputError(f"expected a size of {', '.join(get_args(SizeName))}, got {size!r}; correct `size`")
        self.size = SIZES[size] if lengths is None else replace(SIZES[size], lengths=tuple(lengths))
        self.benchmarks = self._benchmarks()

    @abstractmethod
    def _makers(self) -> Mapping[str, tuple[str | None, Callable[[Any], Benchmark], str]]:
        """By name: where the official files are, what makes the benchmark of them, how to get them."""

    def _benchmarks(self) -> dict[str, Benchmark]:
        makers = self._makers()
        named = {name: make(_folder(place)) for name, (place, make, _) in makers.items() if place is not None}
        if not named:
            ways = "; ".join(f"--paper.{name} FOLDER ({how})" for name, (_, _, how) in makers.items())
            raise InputError(f"expected files of at least one benchmark of {self.name}, got none; type {ways}")
        return named

    @property
    def left_out(self) -> tuple[str, ...]:
        """Benchmarks whose files nobody has named, and how to get them."""
        return tuple(
            f"{name}: not asked; --paper.{name} FOLDER ({how})"
            for name, (place, _, how) in self._makers().items()
            if place is None
        )

    def settings(self, benchmark: Benchmark, typed: RunSettings) -> RunSettings:
        """Settings of one of its benchmarks: what was typed goes before what the size says.

        Raises:
            ValueError: tasks were typed, which the paper chooses.
        """
        if typed.tasks is not None:
            raise InputError(f"expected no `tasks`, which {self.name} chooses, got {typed.tasks}; ask a --benchmark")
        cut = None if benchmark.fills_length else typed.max_length or self.size.max_length
        return replace(typed, max_length=cut, limit=typed.limit or self.size.limit)

    def sections(self, reports: Reports) -> list[Section]:
        """The paper's tables.

        Args:
            reports: by the names of `benchmarks`.
        """
        return [columns_section(title, columns, reports, note) for title, (columns, note) in self.tables.items()]


def _folder(place: str) -> str | None:
    """Where a benchmark's own class looks; `None` there means to download."""
    return None if place == DOWNLOAD else place
