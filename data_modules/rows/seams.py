"""Compares prompt and answer tokenised separately with their joint text.

Responses share their prompt's tokens, so context, question and answers are tokenised separately. A tokenizer that
merges across those seams would give other tokens for the whole text, and some chat templates write earlier turns
differently from the last one. Training and evaluation use the same seams, so nothing breaks; but a checkpoint served
with joint tokenisation would see other ids. Comparing takes as long as tokenising, so of large data only a part is
compared, large enough to find a kind of text that differs.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from data_modules.records import PreferencePair
from data_modules.rows.encoding import PairEncoder
from data_modules.rows.truncation import LengthPolicy, SplitLengths
from data_modules.rows.unfitted import surroundings
from lit_longpo.batch import Group, Response, View, Views
from lit_longpo.policy import PromptFormat

_ALL_OF, _THEN_EVERY = 500, 8  # pairs that are compared: the first 500, then every eighth
_ENDS = 200  # characters kept at either end of a context: no merge reaches from a seam beyond its words


@dataclass(frozen=True)
class SeamReport:
    """Rows compared and rows that differ.

    Args:
        checked: pairs whose every sequence was tokenised both ways: the first 500, and every eighth behind them.
        differing: how many gave other tokens in at least one sequence.
        first: record of the first difference; `None` if there is none.
        by_view: differing sequences of each view, for example `{"long.rejected": 3}`.
    """

    checked: int
    differing: int
    first: str | None
    by_view: Mapping[str, int] = field(default_factory=dict)


class SeamComparison:
    """Compares pairs on their way: every sequence that the views ask for, all turns included, joint against apart.

    Args:
        long_from_short: whether long prompts hold the short context's tokens.
    """

    def __init__(self, prompt_format: PromptFormat, views: Views, *, long_from_short: bool = False) -> None:
        self._encoder = PairEncoder(prompt_format, views, LengthPolicy(), long_from_short=long_from_short)
        self._checked = self._differing = 0
        self._first: str | None = None
        self._by_view = Counter[str]()

    def compared(self, pairs: Iterable[PreferencePair]) -> Iterator[PreferencePair]:
        """The pairs as they come, those that are compared by the two ends of their contexts."""
        for number, pair in enumerate(pairs):
            if number < _ALL_OF or number % _THEN_EVERY == 0:
                self._compare(pair)
            yield pair

    def _compare(self, pair: PreferencePair) -> None:
        views_that_differ = _differences(self._encoder, _shortened(pair))
        self._checked += 1
        self._by_view.update(map(str, views_that_differ))
        if views_that_differ:
            self._differing += 1
            self._first = self._first or pair.id

    def report(self) -> SeamReport:
        """What the comparison of the pairs so far has found."""
        return SeamReport(self._checked, self._differing, self._first, dict(self._by_view))


def _differences(encoder: PairEncoder, pair: PreferencePair) -> list[View]:
    encoded = encoder.encode_texts(pair, SplitLengths())
    assert encoded is not None  # without a limit nothing is left out
    groups = dict.fromkeys((*encoded.policy, *encoded.reference))
    return [
        View(group.context, response.role)
        for group in groups
        for response in group.responses
        if group.prompt_ids + response.token_ids != _joint(encoder, pair, group, response)
    ]


def _joint(encoder: PairEncoder, pair: PreferencePair, group: Group, response: Response) -> tuple[int, ...]:
    turns, text = pair.all_turns, pair.long_context
    if group.context == "short" or encoder.long_from_short:
        turns = turns[group.turn : group.turn + 1]
        text = turns[0].short_context
    conversation = [(turn.question, turn.answer(response.role, response.index)) for turn in turns]
    return encoder.prompt_format.encode_jointly(text, conversation, surroundings(pair))


def _shortened(pair: PreferencePair) -> PreferencePair:
    turns = tuple(replace(turn, short_context=_ends_of(turn.short_context)) for turn in pair.turns)
    short, long = _ends_of(pair.short_context), _ends_of(pair.long_context)
    shorter = replace(pair, short_context=short, long_context=long, turns=turns, supporting=())
    return shorter.read_from(pair.origin)


def _ends_of(text: str) -> str:
    return text if len(text) <= 2 * _ENDS else text[:_ENDS] + text[-_ENDS:]
