"""The interface of a paper's tables: its benchmarks at its lengths, and how their numbers become columns."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, NamedTuple, get_args

from evaluation.benchmark import Benchmark
from evaluation.benchmarks.ruler.averages import LENGTHS
from evaluation.papers.columns import Column, Reports, columns_section
from evaluation.reports.table import Section
from evaluation.running.settings import RunSettings
from lit_longpo.errors import InputError

SizeName = Literal["paper", "cpu"]
DOWNLOAD = "download"
# Where the files of benchmarks lie that are not downloaded here.
INFINITEBENCH = "of hub xinrongzhang2022/InfiniteBench and src/prompt.py of OpenBMB/InfiniteBench"
RULER_SCRIPTS = "scripts of https://github.com/NVIDIA/RULER at c3f5e3b"


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


class Maker(NamedTuple):
    """How one of a paper's benchmarks is made.

    Args:
        place: folder of its official files, or "download"; `None` leaves the benchmark out.
        make: the benchmark of that folder; of `None` where they are to be downloaded.
        how: to come by the files, in words.
    """

    place: str | None
    make: Callable[[Any], Benchmark]
    how: str

    def benchmark(self) -> Benchmark:
        """The benchmark, which reads its files."""
        return self.make(None if self.place == DOWNLOAD else self.place)


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
        InputError: there is no such size, or nothing to ask.
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
    def _makers(self) -> Mapping[str, Maker]:
        """What makes its benchmarks, by name."""

    def _benchmarks(self) -> dict[str, Benchmark]:
        makers = self._makers()
        named = {name: maker.benchmark() for name, maker in makers.items() if maker.place is not None}
        if not named:
            ways = "; ".join(f"--paper.{name} FOLDER ({maker.how})" for name, maker in makers.items())
            raise InputError(f"expected files of at least one benchmark of {self.name}, got none; type {ways}")
        return named

    @property
    def left_out(self) -> tuple[str, ...]:
        """Benchmarks whose files nobody has named, and how to get them."""
        return tuple(
            f"{name}: not asked; --paper.{name} FOLDER ({maker.how})"
            for name, maker in self._makers().items()
            if maker.place is None
        )

    def settings(self, benchmark: Benchmark, typed: RunSettings) -> RunSettings:
        """Settings of one of its benchmarks: what was typed goes before what the size says.

        Raises:
            InputError: tasks were typed, which the paper chooses.
        """
        if typed.tasks is not None:
            raise InputError(f"expected no `tasks`, which {self.name} chooses, got {typed.tasks}; ask a --benchmark")
        cut = None if benchmark.fills_length else typed.max_length or self.size.max_length
        return replace(typed, max_length=cut, limit=typed.limit or self.size.limit)

    def sections(self, reports: Reports) -> list[Section]:
        """The paper's tables."""
        return [columns_section(title, columns, reports, note) for title, (columns, note) in self.tables.items()]
