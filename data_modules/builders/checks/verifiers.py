"""Optional verifiers that label whether a pair's chosen answer is really better; the report counts how often not."""

import logging
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

from data_modules.builders.generators.margins import margins_of
from data_modules.builders.generators.requests import Decoding, Request, RequestTemplate
from data_modules.builders.recipes.base import Steps, Workbench
from data_modules.builders.recipes.judges import ContainsGold, Judge
from data_modules.records import PreferencePair, Turn
from lit_longpo.choices import decided, without_denied
from lit_longpo.errors import InputError, UserError
from lit_longpo.policy import PolicyConfig
from lit_longpo.policy.prompts.thoughts import without_thoughts
from lit_longpo.ranges import MOST_TOKENS, check_numbers

log = logging.getLogger(__name__)

Verdict = bool | None

_NORMAL_95 = NormalDist().inv_cdf(0.975)
_LETTER = re.compile(r"(?<![A-Za-z])[AB](?![A-Za-z'])")


class Verifier(ABC):
    """Labels a pair: chosen is better (True), worse (False), or neither: both are equal, or it cannot tell (None)."""

    def check(self) -> None:  # noqa: B027  (most load nothing)
        """Refuse what could not be loaded, without loading it; called by a dry run."""

    def open(self, policy: PolicyConfig) -> None:  # noqa: B027
        """Load what it reads pairs with; called before anybody is asked for an answer.

        Args:
            policy: of the build.
        """

    @abstractmethod
    def steps(self, pair: PreferencePair, bench: Workbench) -> Steps[Verdict]:
        """Coroutine that yields requests and returns the verdict on all turns."""


@dataclass
class GoldAnswer(Verifier):
    """Chosen scores higher than every rejected answer against the gold answers.

    `None` if the gold answers are unknown or the scores are equal. Later turns have no gold answers.

    Args:
        judge: how answers are scored.
    """

    judge: Judge = field(default_factory=ContainsGold)

    def steps(self, pair: PreferencePair, bench: Workbench) -> Steps[Verdict]:
        """No request."""
        yield from ()
        if not pair.answers:
            return None
        chosen, *rejected = (
            self.judge.score(_without_thoughts(text, pair, bench), pair.answers)
            for text in (pair.chosen, *pair.rejected)
        )
        return _all([_compare(chosen, score) for score in rejected])


@dataclass
class LogProbGap(Verifier):
    """A model finds chosen likelier than rejected, per token, given the short context.

    A pair of several turns is worse if any turn is, and better only if all are.

    Args:
        policy: the model that is asked; a stronger one than the policy says more.
        min_gap: nats per token below which it cannot tell.
    """

    policy: PolicyConfig = field(default_factory=PolicyConfig)
    min_gap: float = 0.0

    def __post_init__(self) -> None:
        check_numbers(self, "verifiers.init_args.", min_gap=(0, MOST_TOKENS))
        self._loaded: Any = None

    def check(self) -> None:
        """Read the model's configuration and tokenizer.

        Raises:
            InputError: they cannot be read.
        """
        with _of_log_prob_gap():
            self.policy.config()
            self.policy.prompt_format()

    def open(self, policy: PolicyConfig) -> None:
        """Load the model, if that is not done yet; warns if it is the policy's in another dtype.

        Raises:
            InputError: it cannot be loaded.
        """
        if self.policy.source == policy.source and self.policy.dtype != policy.dtype:
            log.warning(
                "verifier LogProbGap loads %s once more in %s, as its own `policy.dtype` says, the policy is in %s; "
                "for the same in both, type --verifiers.init_args.policy.dtype %s",
                *(policy.source, self.policy.dtype, policy.dtype, policy.dtype),
            )
        self._load()

    def _load(self) -> None:
        if self._loaded is None:
            with _of_log_prob_gap():
                self._loaded = self.policy.load_base(), self.policy.prompt_format()

    def steps(self, pair: PreferencePair, bench: Workbench) -> Steps[Verdict]:
        """No request: the model runs here."""
        yield from ()
        return _all([verdict for turn in pair.all_turns for verdict in self._verdicts(turn)])

    def _verdicts(self, turn: Turn) -> list[Verdict]:
        self._load()
        model, prompt_format = self._loaded
        gaps = margins_of(model, prompt_format, turn)
        return [None if abs(gap) <= self.min_gap else gap > 0 for gap in gaps]


@dataclass
class ModelJudge(Verifier):
    """The generator reads both answers with the short context and says which is better.

    Asked twice, the answers swapped; only a judge that names the same answer both times has decided.

    Args:
        prompt: placeholders {context}, {question}, {first} and {second}; the reply has to hold A or B.
        decoding: of the reply.
    """

    prompt: RequestTemplate = field(
        default_factory=lambda: RequestTemplate(
            "{context}\n\nQuestion: {question}\n\nAnswer A: {first}\n\nAnswer B: {second}\n\n"
            "Which answer is better supported by the text above? Reply with the letter A or B only."
        )
    )
    decoding: Decoding = field(default_factory=lambda: Decoding(max_new_tokens=8))

    def __post_init__(self) -> None:
        self.prompt.check("verifiers.init_args.prompt", {"context", "question", "first", "second"})

    def steps(self, pair: PreferencePair, bench: Workbench) -> Steps[Verdict]:
        """Two requests for every rejected answer of every turn."""
        contests = [(turn, text) for turn in pair.all_turns for text in turn.rejected]
        requests = list[Request]()
        for number, (turn, rejected) in enumerate(contests):
            both = tuple(_without_thoughts(text, pair, bench) for text in (turn.chosen, rejected))
            for order, texts in enumerate((both, both[::-1])):
                fields = {"context": turn.short_context, "question": turn.question}
                fields |= {"first": texts[0], "second": texts[1]}
                requests.append(bench.request(f"judge{number}/{order}", self.prompt, self.decoding, fields))
        replies = [parse_letter(bench.said(reply.text)) for reply in (yield requests)]
        bench.counts["judge's replies that name neither A nor B, or both"] += replies.count(None)
        return _all([_agreed(*replies[start : start + 2]) for start in range(0, len(replies), 2)])


def parse_letter(text: str) -> str | None:
    """The single A or B in a reply; of several the one named as the answer ("Answer: A. Option B is wrong").

    `None` if there is none, or both: "A says more than B". A letter that is denied ("not A") is none.

    Args:
        text: of a judge; what it thinks before its reply does not count.
    """
    reply = without_denied(without_thoughts(text))
    for letters in (set(_LETTER.findall(reply)), decided(reply) & {"A", "B"}):
        if len(letters) == 1:
            return str(letters.pop())
    return None


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """95 % confidence interval of a share (Wilson score); (0, 1) without trials."""
    if not trials:
        return 0.0, 1.0
    share, z = successes / trials, _NORMAL_95
    centre = share + z * z / (2 * trials)
    width = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - width) / scale), min(1.0, (centre + width) / scale)


def combined(verdicts: list[Verdict]) -> Verdict:
    """False if any verifier says worse, True if the others that could tell say better, else `None`."""
    return _all([verdict for verdict in verdicts if verdict is not None])


@contextmanager
def _of_log_prob_gap() -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise InputError(f"verifier LogProbGap: {error}") from error


def _without_thoughts(text: str, pair: PreferencePair, bench: Workbench) -> str:
    """An answer without its thoughts; gold answers are not generated and have none."""
    return text if text in pair.answers else bench.said(text)


def _compare(chosen: float, rejected: float) -> Verdict:
    return None if chosen == rejected else chosen > rejected


def _agreed(straight: str | None, swapped: str | None) -> Verdict:
    return {("A", "B"): True, ("B", "A"): False}.get((straight or "", swapped or ""))


def _all(verdicts: list[Verdict]) -> Verdict:
    if any(verdict is False for verdict in verdicts):
        return False
    return True if verdicts and all(verdicts) else None
