"""A recipe is a coroutine that yields requests, receives their answers and returns a pair.

So a recipe reads from top to bottom like the paper's list of steps, while the runner answers the requests of many
records at a time.
"""

import random
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from data_modules.builders.generators.requests import Completion, Decoding, Request, RequestTemplate, seed_of
from data_modules.builders.sources.base import Document
from data_modules.builders.sources.tokens import TextTokens
from data_modules.records import Passage, PreferencePair, QARecord
from lit_longpo.policy import PromptTemplate
from lit_longpo.policy.prompts.thoughts import without_thoughts

# In the report.
CHOSEN_CUT_OFF = "chosen answers cut off at max_new_tokens"
REJECTED_HOLDS_GOLD = "rejected answers that hold a gold answer"
Result = TypeVar("Result", covariant=True)
Steps = Generator[list[Request], list[Completion], Result]


class DroppedError(Exception):
    """A record gives no pair; the message is the reason, the same for every record with that cause."""


@dataclass
class Workbench:
    """What a recipe works with on one record.

    Args:
        item: identifier of the record.
        tokens: measures and cuts.
        template: the policy's; what is generated is laid out as `fit` will lay it out.
        seed: of the build.
        pool: passages to draw distractors from.
        counts: what happened to candidates on the way; goes into the report.
        opened: whether prompts open thoughts, with which what is generated goes on.
    """

    item: str
    tokens: TextTokens
    template: PromptTemplate
    seed: int = 0
    pool: Sequence[Passage] = ()
    counts: Counter[str] = field(default_factory=Counter)
    opened: bool = False

    def said(self, text: str) -> str:
        """What a generated text says behind its last thoughts; empty if it was cut off within them."""
        return without_thoughts(text, opened=self.opened)

    def says_same(self, one: str, other: str) -> bool:
        """Whether two generated texts say the same behind their thoughts, whatever their case and spacing."""
        said, again = (self.said(text).casefold().split() for text in (one, other))
        return said == again

    def rng(self, name: str) -> random.Random:
        """Random numbers of one step of this record."""
        return random.Random(f"{self.seed}/{self.item}/{name}")

    def ask(self, name: str, context: str, question: str, decoding: Decoding, sample: int = 0) -> Request:
        """A request with context and question in the policy's own template."""
        before, after = self.template.around(question)
        return self._request(f"{name}/{sample}", before + context + after, decoding, self.template.system)

    def request(
        self,
        name: str,
        template: RequestTemplate,
        decoding: Decoding,
        fields: dict[str, str],
        *,
        stand_in: str = "an answer",
    ) -> Request:
        """A request from a recipe's own template."""
        return self._request(name, template.render(**fields), decoding, template.system, stand_in)

    def count_cut_off(self, replies: Iterable[Completion]) -> None:
        """Count answers that ran into their limit; they stay in, and the report says how many."""
        self.counts["answers cut off at max_new_tokens"] += sum(not reply.finished for reply in replies)

    def count_chosen(self, *, finished: bool) -> None:
        """Count a chosen answer if it ran into its limit: `fit` would teach to end there."""
        self.counts[CHOSEN_CUT_OFF] += not finished

    def _request(
        self, name: str, text: str, decoding: Decoding, system: str | None, stand_in: str = "an answer"
    ) -> Request:
        name = f"{self.item}/{name}"
        return Request(name, text, decoding, system, seed_of(self.seed, name), stand_in)


class Recipe(ABC):
    """Turns one record into one pair; a subclass is a dataclass whose fields are its settings."""

    accepts: tuple[type[Any], ...] = (QARecord, Document)
    instruction = RequestTemplate("{question}")

    def open(self) -> None:  # noqa: B027  (most load nothing)
        """Load what it works with; called before anybody is asked for an answer."""

    def asked(self, question: str) -> str:
        """The question itself of a pair's `question`, without the words of `instruction` around it."""
        before, after = (self.instruction.user.split("{question}")[place] for place in (0, -1))
        return question.removeprefix(before).removesuffix(after)

    @abstractmethod
    def steps(self, item: Any, bench: Workbench) -> Steps[PreferencePair]:
        """Coroutine from record to pair.

        Args:
            item: one of the types in `accepts`.
            bench: tokens, seed, template and counts.

        Raises:
            DroppedError: there is no pair in the record.
        """
