"""What records of questions say about answers: which are accepted, and lists of texts that were printed."""

import re
from collections.abc import Iterable, Mapping

from lit_longpo.files.strict_json import RecordError, check_texts

_LIST_OF_TEXTS = re.compile(r"""\s*\[\s*(["']).*\1\s*\]\s*""", re.DOTALL)
# What sets of questions say about their answers, and the values with which it says nothing.
_ABOUT_ANSWERS: dict[str, tuple[object, ...]] = {
    "answerable": (True, None),
    "is_impossible": (False, None),
    "unanswerable": (False, None),
    **dict.fromkeys(("answer_aliases", "aliases", "possible_answers"), ([], None)),
    **dict.fromkeys(("choices", "options", "choice_A", "A"), ([], {}, "", None)),  # of which an answer may be a letter
}


def prints_texts(value: str) -> bool:
    """Whether a text looks like the print of a list of texts, which tables have in the list's place."""
    return bool(_LIST_OF_TEXTS.fullmatch(value))


def is_bracketed(value: str) -> bool:
    """Whether a text is written as a list, of whatever: beside it a list of texts is what was asked for."""
    text = value.strip()
    return text.startswith("[") and text.endswith("]")


def refuse_unread_answers(record: Mapping[str, object], names: Iterable[str], where: str) -> None:
    """Refuse what another format says about the answers, and nobody would read here: the record would mean another."""
    known = {name for field in names for name in field.split("|")}
    answers = record.get("answers")
    for name, nothing in _ABOUT_ANSWERS.items():
        value = record.get(name)
        is_said = isinstance(value, list) and isinstance(answers, list) and all(item in answers for item in value)
        if name in record and name not in known and value not in nothing and not is_said:
            told = (
                "aliases belong into `answers`, choices with their letters into `question`, a question without an "
                "answer has none"
            )
            expected = f"what questions of this format say about their answers ({told})"
            raise RecordError.at(where, f"field {name!r}", expected, value)


def accepted_answers(record: Mapping[str, object], where: str) -> tuple[str, ...]:
    """Different accepted answers of a plain question: `answers` or `answer`, a text, texts, or a row of SQuAD's.

    Raises:
        RecordError: there are both fields or neither, or something else than texts is in them.
    """
    if "answers" in record and "answer" in record:
        raise RecordError.at(where, "field 'answer'", "this field or 'answers', not both", record["answer"])
    name = "answers" if "answers" in record else "answer"
    value = record.get(name)
    if isinstance(value, dict) and isinstance(value.get("text"), list):  # as `datasets` has SQuAD's
        value = value["text"]
    if not isinstance(value, str | list):
        raise RecordError.at(where, f"field {name!r}", "accepted answers, a text or a list of texts", value)
    if isinstance(value, str) and prints_texts(value):
        expected = "a list of texts, not one that is printed (in a list of its own, if it is an answer)"
        raise RecordError.at(where, f"field {name!r}", expected, value)
    return tuple(dict.fromkeys(check_texts([value] if isinstance(value, str) else value, name, where)))
