"""Needle in a haystack: one fact hidden at a depth of a context of some length, scored by substring."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from torch import nn

from evaluation.benchmark import BenchmarkReport, Prediction
from evaluation.generation import Progress, greedy
from evaluation.metrics import sub_em
from lit_longpo.policy import PromptFormat

CountTokens = Callable[[str], int]

_NAMES = (
    "Alba",
    "Bruno",
    "Clara",
    "Dario",
    "Elena",
    "Felix",
    "Greta",
    "Hugo",
    "Irma",
    "Jonas",
    "Karin",
    "Leo",
)
# Filler of our own: plain sentences that answer nothing.
_SUBJECTS = (
    "The old bridge",
    "A small garden",
    "The night train",
    "Our library",
    "The harbour",
    "A quiet street",
)
_VERBS = (
    "was painted",
    "stayed open",
    "changed very little",
    "could be heard",
    "seemed larger",
    "was repaired",
)
_TIMES = (
    "last spring",
    "after the storm",
    "during the long summer",
    "before the market began",
    "one cold morning",
)


@runtime_checkable
class Haystack(Protocol):
    """Where needles and hay come from."""

    def needle(
        self, length: int, depth: float, index: int, num_tokens: CountTokens
    ) -> tuple[str, str, tuple[str, ...]]:
        """Context of about `length` tokens with the needle at `depth`, question, accepted answers."""


@dataclass
class TextHaystack:
    """A secret code in plain prose, for models that read English.

    Args:
        path: text file that serves as hay; `None` means simple made-up sentences.
        seed: of names, codes and hay.
    """

    path: str | None = None
    seed: int = 0

    def needle(
        self, length: int, depth: float, index: int, num_tokens: CountTokens
    ) -> tuple[str, str, tuple[str, ...]]:
        """Context of about `length` tokens with the needle at `depth`, question, accepted answers.

        Args:
            length: tokens of the context, kept within one sentence.
            depth: 0 is the start of the context, 1 its end.
            index: number of the example.
            num_tokens: counts a text's tokens.

        Raises:
            FileNotFoundError: `path` is not there.
        """
        draw = random.Random(f"{self.seed}-{length}-{depth}-{index}")
        name, code = draw.choice(_NAMES), str(draw.randrange(1000, 10000))
        fact = f"The secret code of {name} is {code}."
        sentences, used = [], num_tokens(fact)
        for sentence in self._hay(draw):
            if used >= length:
                break
            sentences.append(sentence)
            used += num_tokens(" " + sentence)
        sentences.insert(round(depth * len(sentences)), fact)
        return " ".join(sentences), f"What is the secret code of {name}?", (code,)

    def _hay(self, draw: random.Random) -> Iterator[str]:
        if self.path is None:
            while True:
                yield f"{draw.choice(_SUBJECTS)} {draw.choice(_VERBS)} {draw.choice(_TIMES)}."
        text = " ".join(Path(self.path).expanduser().read_text(encoding="utf-8").split())
        sentences = [part + "." for part in text.split(". ") if part]
        start = draw.randrange(len(sentences))
        while True:
            yield from sentences[start:]
            start = 0


@dataclass(frozen=True)
class NeedleBenchmark:
    """A grid of lengths and depths.

    Args:
        haystack: source of contexts and questions.
        lengths: tokens of the context, one column each.
        depths: relative positions of the needle, one row each.
        num_examples: questions in every cell.
        max_new_tokens: tokens of an answer at most.
        max_batch_tokens: padded prompt tokens of one generation batch.
    """

    name = "needle"

    haystack: Haystack
    lengths: Sequence[int]
    depths: Sequence[float]
    num_examples: int
    max_new_tokens: int = 16
    max_batch_tokens: int = 16384

    @property
    def num_prompts(self) -> int:
        """Questions in the whole grid."""
        return len(self.lengths) * len(self.depths) * self.num_examples

    def run(
        self, model: nn.Module, prompt_format: PromptFormat, *, step: int, progress: Progress | None = None
    ) -> BenchmarkReport:
        """Ask every question and score the answers."""
        cells = [(n, d, i) for n in self.lengths for d in self.depths for i in range(self.num_examples)]

        def num_tokens(text: str) -> int:
            return len(prompt_format.encode(text))

        asked = [self.haystack.needle(*cell, num_tokens) for cell in cells]
        generated = greedy(
            model,
            [prompt_format.encode_prompt(context, question).ids for context, question, _ in asked],
            max_new_tokens=self.max_new_tokens,
            eos_token_id=prompt_format.end_id,
            max_batch_tokens=self.max_batch_tokens,
            progress=progress,
        )
        rows = zip(cells, asked, map(prompt_format.decode, generated), strict=True)
        return BenchmarkReport(
            self.name,
            step,
            tuple(
                Prediction(
                    f"{length}-{depth:g}-{index}",
                    length,
                    depth,
                    question,
                    answers,
                    text,
                    sub_em(text, answers),
                )
                for (length, depth, index), (_, question, answers), text in rows
            ),
        )
