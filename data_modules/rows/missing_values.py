"""Texts that are no texts: what a program has printed where a table had nothing, `None`, `nan`, `null`."""

from collections.abc import Iterable, Iterator

from data_modules.records import PreferencePair

# As Python, pandas, numpy, JSON and JavaScript write it; `NA` and `N/A` are people's words.
_PRINTED = {"None", "none", "nan", "NaN", "null", "NULL", "<NA>", "NaT", "undefined"}


def counted_missing(pairs: Iterable[PreferencePair], counts: dict[str, int]) -> Iterator[PreferencePair]:
    """The pairs, such texts in them counted on their way; they may be meant, so nothing is changed.

    Args:
        pairs: of a split.
        counts: number by field, filled.
    """
    for pair in pairs:
        for name, text in _texts(pair):
            if text in _PRINTED:
                counts[name] = counts.get(name, 0) + 1
        yield pair


def _texts(pair: PreferencePair) -> Iterator[tuple[str, str]]:
    yield "system", pair.system or ""
    yield "long_context", pair.long_context
    for message in (*pair.history, *pair.followup):
        yield "messages", message.content
    for turn in pair.all_turns:
        yield "question", turn.question
        yield "short_context", turn.short_context
        yield "chosen", turn.chosen
        for answer in turn.rejected:
            yield "rejected", answer
