"""Two answers and a label that says which one is better: HelpSteer2 and 3, PKU-SafeRLHF, SHP."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from data_modules.files.delimited import as_number
from data_modules.formats.base import Record, RecordFormat, asked, conversation_pair, record_id
from data_modules.formats.trl import answer_alone
from data_modules.messages import Message, check_messages
from data_modules.records import PreferencePair
from lit_longpo.files.strict_json import RecordError, check_text

_TURN = re.compile(r"\n<extra_id_1>(User|Assistant)\n")  # HelpSteer2's prompts of several turns; the user begins
_TURN_ROLES = {"User": "user", "Assistant": "assistant"}


@dataclass(frozen=True)
class _Comparison:
    """One project's names."""

    prompt: str
    first: str
    second: str
    label: str
    first_is_better: Callable[[int], bool]
    labels: tuple[int, ...]

    @property
    def names(self) -> tuple[str, str, str, str]:
        """Names of all columns that are read."""
        return self.prompt, self.first, self.second, self.label


_STRENGTHS = (-3, -2, -1, 1, 2, 3)  # below 0 the first is better; 0 is a tie, of which nothing can be learnt
_COMPARISONS = (
    _Comparison("prompt", "response_1", "response_2", "preference_strength", lambda label: label < 0, _STRENGTHS),
    _Comparison("context", "response1", "response2", "overall_preference", lambda label: label < 0, _STRENGTHS),
    _Comparison("prompt", "response_0", "response_1", "better_response_id", lambda label: label == 0, (0, 1)),
    _Comparison("history", "human_ref_A", "human_ref_B", "labels", lambda label: label == 1, (0, 1)),
)


class Compared(RecordFormat):
    """A prompt, two answers, and which is better; a tie is an error."""

    name = "compared"
    fields = (*dict.fromkeys(name for comparison in _COMPARISONS for name in comparison.names), "id")
    companions = (
        *("split", "preference_statement", "preference_elaboration", "three_most_similar_preferences"),
        *("all_preferences_unprocessed", "domain", "language", "individual_preference"),
        *("is_response_0_safe", "is_response_1_safe", "safer_response_id", "post_id", "score_A", "score_B"),
    )

    def matches(self, record: Record) -> bool:
        """All names of one project's."""
        return _comparison(record) is not None

    def pair(self, record: Record, where: str, name: str) -> PreferencePair:
        """See `RecordFormat`."""
        comparison = _comparison(record)
        if comparison is None:
            expected = " or ".join(" ".join(comparison.names) for comparison in _COMPARISONS)
            raise RecordError.at(where, "record", expected, sorted(map(str, record)))
        answers = [answer_alone(record[field], field, where) for field in (comparison.first, comparison.second)]
        label = as_number(record[comparison.label])
        if isinstance(label, bool) or label not in comparison.labels:
            expected = f"one of {', '.join(map(str, comparison.labels))}; take records without a better answer out"
            raise RecordError.at(where, f"field {comparison.label!r}", expected, record[comparison.label])
        chosen, rejected = answers if comparison.first_is_better(int(label)) else answers[::-1]
        talk = asked(_prompt(record[comparison.prompt], comparison.prompt, where), None, comparison.prompt, where)
        return conversation_pair(record_id(record, "id", where, name), talk, chosen, (rejected,), where)


def _comparison(record: Record) -> _Comparison | None:
    return next((one for one in _COMPARISONS if all(name in record for name in one.names)), None)


def _prompt(value: Any, field: str, where: str) -> tuple[Message, ...]:
    """Messages, or the text of one; HelpSteer2 writes several turns in a text."""
    if not isinstance(value, str):
        return check_messages(value, field, where)
    first, *later = _TURN.split(check_text(value, field, where))
    turns = zip(later[::2], later[1::2], strict=True)
    said = [("user", first), *((_TURN_ROLES[side], text) for side, text in turns)]
    return tuple(Message(role, check_text(text, field, where)) for role, text in said)
