"""Finds the longest example of a split without tokenising all of it, for `plan`."""

import heapq
from collections.abc import Callable, Iterable

from data_modules.records import PreferencePair
from data_modules.rows.encoding import EncodedPair
from lit_longpo.batch import Group
from lit_longpo.planning.inputs.row import LongestExample

_TOKENISED = 8  # of the largest pairs; texts of one size may take more or fewer tokens


def lengths_of(example: EncodedPair, num_examples: int, source: str) -> LongestExample:
    """A tokenised example as `plan` reads it."""
    prompts = {context: _longest(example.policy, context) for context in ("long", "short")}
    long, short = prompts["long"] or prompts["short"], prompts["short"] if prompts["long"] else 0
    responses = (len(response.token_ids) for group in example.policy for response in group.responses)
    return LongestExample(source, num_examples, long, short, max(responses))


def longest_of(
    pairs: Iterable[PreferencePair],
    tokenise: Callable[[list[PreferencePair]], Iterable[EncodedPair]],
    source: str,
) -> LongestExample | None:
    """Tokens of the largest pair; `None` if there is none."""
    count = 0

    def counted() -> Iterable[PreferencePair]:
        nonlocal count
        for count, pair in enumerate(pairs, 1):  # noqa: B007
            yield pair

    largest = heapq.nlargest(_TOKENISED, counted(), key=_num_bytes)
    example = max(tokenise(largest), key=lambda made: sum(group.num_tokens for group in made.policy), default=None)
    return None if example is None else lengths_of(example, count, f"the largest of {count:,} pairs in {source}")


def _longest(groups: Iterable[Group], context: str) -> int:
    return max((len(group.prompt_ids) for group in groups if group.context == context), default=0)


def _num_bytes(pair: PreferencePair) -> int:
    said = (message.content for message in pair.other_messages)
    texts = (pair.question, pair.short_context, pair.long_context, pair.chosen, *pair.rejected, *said)
    return sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
