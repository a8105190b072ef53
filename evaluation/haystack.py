"""Sources of needles: a secret code in plain prose, or whatever follows the protocol."""

import random
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from evaluation.hay import CountTokens, lay, sentences

_NAMES = ("Alba", "Bruno", "Clara", "Dario", "Elena", "Felix", "Greta", "Hugo", "Irma", "Jonas", "Karin", "Leo")


@runtime_checkable
class Haystack(Protocol):
    """Where needles and hay come from."""

    def needle(
        self, length: int, depth: float, index: int, num_tokens: CountTokens
    ) -> tuple[str, str, tuple[str, ...]]:
        """Context of about `length` tokens with the needle at `depth`, question, accepted answers.

        Question and answers must not depend on `num_tokens`: they are needed before there is a tokenizer.
        """


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
        """Context of `length` tokens with the needle at `depth`, question, accepted answers.

        Args:
            length: tokens of the context; less than a sentence may be missing.
            depth: 0 is the start of the context, 1 its end.
            index: number of the example.
            num_tokens: counts a text's tokens.

        Raises:
            FileNotFoundError: `path` is not there.
        """
        draw = random.Random(f"{self.seed}-{length}-{depth}-{index}")
        name, code = draw.choice(_NAMES), str(draw.randrange(1000, 10000))
        fact = f"The secret code of {name} is {code}."
        context = lay(sentences(draw, self.path), [(depth, fact)], length, num_tokens)
        return context, f"What is the secret code of {name}?", (code,)
