"""InfiniteBench's records: what a template is filled with, accepted answers, and labels as its results have them."""

import json
import re
from collections.abc import Callable, Mapping, Sequence

from evaluation.benchmark import Example
from evaluation.benchmarks.official_files import Row
from evaluation.metrics.infinitebench import LETTERS, References

_CALL = re.compile(r"func_[0-9]+\(-?[0-9]+\)")
_WANTED = re.compile(r"The .+ of")


def example_of(row: Row, task: str, number: int) -> Example:
    """A record as it is asked and scored.

    Raises:
        OfficialFileError: a field is missing or malformed; the message names file, line and field.
    """
    context, asked = row.text("context"), row.optional_text("input") or ""
    added = _ADDED[task](row) if task in _ADDED else {}
    fields = {"context": context, "input": asked, "question": asked, **added}
    length = len(context) if task.endswith("_chn") else len(context.split())
    return Example(f"{task}/{number}", task, length, asked, _ANSWERS.get(task, _texts)(row), fields)


def official_label(example: Example) -> References:
    """The answers as the official results have them."""
    return _LABELS.get(example.task, list)(example.answers)


def _options(row: Row) -> dict[str, str]:
    return {f"OPTION_{letter}": option for letter, option in zip(LETTERS, _four(row), strict=True)}


def _call(row: Row) -> dict[str, str]:
    """The call that is asked for, and its function."""
    found = _CALL.search(row.text("input"))
    if found is None:
        raise row.error("input", "a question with a call like func_1(2)", row.text("input"))
    return {"func_call": found[0], "func": found[0].partition("(")[0]}


def _target(row: Row) -> dict[str, str]:
    """The question put before the list, from "The ... of" in the one behind it."""
    found = _WANTED.search(row.text("input"))
    if found is None:
        raise row.error("input", 'a question with "The ... of"', row.text("input"))
    return {"prefix": f"What is {found[0].lower().removesuffix(' of')} in the following list?"}


_ADDED: Mapping[str, Callable[[Row], dict[str, str]]] = {
    "longbook_choice_eng": _options,
    "code_debug": _options,
    "code_run": _call,
    "math_find": _target,
}
_LETTERED = tuple(f"OPTION_{letter}" for letter in LETTERS)
ADDED_NAMES = {  # what templates of a task may name beside context, input and question
    "longbook_choice_eng": _LETTERED,
    "code_debug": _LETTERED,
    "code_run": ("func", "func_call"),
    "math_find": ("prefix",),
}


def _four(row: Row) -> tuple[str, ...]:
    options = row.texts("options")
    if len(options) != len(LETTERS):
        raise row.error("options", "four texts", options)
    return options


def _texts(row: Row) -> tuple[str, ...]:
    """Accepted texts; one may stand without a list."""
    value = row.values.get("answer")
    return (row.text("answer"),) if isinstance(value, str) else row.texts("answer")


def _choice(row: Row) -> tuple[str, ...]:
    """Text and letter of the right option, which is the first that has the text."""
    text, *letter = _texts(row)
    if letter and (len(letter) > 1 or letter[0] not in tuple(LETTERS)):
        raise row.error("answer", "the right option, or [option, letter]", row.values["answer"])
    if not letter and text not in _four(row):
        raise row.error("answer", "one of the options", text)
    return (text, *(letter or LETTERS[_four(row).index(text)]))


def _number(row: Row) -> tuple[str, ...]:
    """A number as JSON; it may stand in a list, or be a text."""
    value = row.values.get("answer")
    value = value[0] if isinstance(value, list) and value else value
    try:
        number = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        number = None
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise row.error("answer", "a number", value)
    return (json.dumps(number),)


def _first(answers: Sequence[str]) -> str:
    return answers[0]


def _as_number(answers: Sequence[str]) -> int | float:
    return json.loads(answers[0])  # type: ignore[no-any-return]


_ANSWERS: Mapping[str, Callable[[Row], tuple[str, ...]]] = {
    "longbook_choice_eng": _choice,
    "code_debug": _choice,
    "code_run": _number,
    "math_find": _number,
}
_LABELS: Mapping[str, Callable[[Sequence[str]], References]] = {
    "passkey": _first,
    "number_string": _first,
    "kv_retrieval": _first,
    "code_run": _as_number,
    "math_find": _as_number,
}
