"""What records of unknown layout should have been, and the `columns` mapping that names of published data suggest."""

from collections.abc import Container, Iterable, Mapping
from typing import Any

from data_modules.files.record_files import BUILD_FROM_TEXT

_CONTEXTS = ("context", "document", "doc", "article", "passage", "long_prompt", "prompt_long")
_OTHER_NAMES = {
    "prompt": ("question", "query", "instruction", "input", "problem", "trajectory", "prompt_long", "long_prompt"),
    "short_prompt": ("prompt_short", "short_conversations", "short_question"),
    "chosen": (
        *("response_j", "chosen_response", "response_chosen", "preferred", "better", "accepted", "answer", "output"),
        *("winner", "good"),
    ),
    "rejected": (
        *("response_k", "rejected_response", "response_rejected", "dispreferred", "refused", "reject", "worse"),
        *("loser", "bad", "wrong"),
    ),
    "system": ("system_prompt", "system_message"),
}
_LISTS = ("answers", "completions", "responses", "generations", "output")  # the last is Alpaca's, ranked


def expected_instead(record: Mapping[str, object], formats: Iterable[str], options: str | None) -> str:
    """What a record of no known layout should have been, for an error.

    Args:
        record: the first of a file.
        formats: names of the known layouts.
        options: how the error calls the section of `format` and `columns`; `None` where questions are wanted, too, and
            neither can be set.
    """
    mapping, missing = mapping_of(record), without_a_choice(record)
    if {"prompt", "rejected"} <= record.keys() and not mapping:
        return "`chosen`, the better answer, beside `prompt` and `rejected`"
    if options is not None and (pairs := _pairs_instead(record, options)) is not None:
        return pairs
    if missing is None and (around := _around_records(record, options)) is not None:
        return around
    names = ", ".join(formats)
    if options is None:
        return _questions_instead(record, names)
    if missing is not None and not mapping:
        return missing
    example = mapping or {"prompt": "ask", "chosen": "good", "rejected": "bad"}
    return (
        f"the columns of a known format ({names}; set `{options}.format`), or a mapping, "
        f"{'as this seems to be' if mapping else 'for example'} `{options}.columns: {as_yaml(example)}`, with "
        f"`{options}.extra_columns: ignore` if others are left"
    )


def _pairs_instead(record: Mapping[str, object], options: str) -> str | None:
    """What to do with files that are not about pairs; `None` of all others."""
    if record.keys() == {"text"}:  # also what `datasets` makes of .txt files
        return f"preference pairs, not plain text: make pairs of it ({BUILD_FROM_TEXT})"
    if files := _listed_files(record):
        return f"preference pairs, not LLaMA-Factory's list of files: set `{options}.path` to one ({', '.join(files)})"
    return None


def _questions_instead(record: Mapping[str, object], formats: str) -> str:
    """What a record should have been where questions are asked for, too."""
    if "question" in record and "chosen" not in record and isinstance(record.get("context"), str):
        return "questions as JSON Lines, not in a table (pandas: to_json(path, orient='records', lines=True))"
    return f"`question`, `answers` and `context`, a known set of questions, or pairs of a format ({formats})"


def _listed_files(record: Mapping[str, object]) -> list[str]:
    """The files that a `dataset_info.json` names; empty if it is none."""
    entries = [value for value in record.values() if isinstance(value, dict)]
    files = [value["file_name"] for value in entries if isinstance(value.get("file_name"), str)]
    return files[:3] if len(entries) == len(record) else []


def _around_records(record: Mapping[str, Any], options: str | None) -> str | None:
    """What to do with a single object around the list of the records; `None` if it is none."""
    name = next((name for name, value in record.items() if isinstance(value, list) and value), None)
    if name is None or len(record) > 2 or not isinstance(record[name][0], dict):
        return None
    if options is not None and "paragraphs" in record[name][0]:
        return (
            "preference pairs, not a set of questions: make pairs of it (`python -m lit_longpo build --config "
            "build/solopo_chat --source.paths '[FILE]'`), or train on it with --data data/musique"
        )
    return f"a list of records, or one a line, not in a list under {name!r}: take that list out of it"


def mapping_of(record: Mapping[str, object]) -> dict[str, str]:
    """Our name -> the record's, for what it seems to have; empty if a prompt or an answer is not among it."""
    said = {name for name, value in record.items() if isinstance(value, str | list | tuple | dict)}
    if "loser" not in said:
        said.discard("winner")  # which of two it is, not its text
    found = {ours: _first((ours, *theirs), said) for ours, theirs in _OTHER_NAMES.items()}
    found["chosen"] = None if _is_texts(record.get(found["chosen"] or "")) else found["chosen"]
    context = None if "prompt_short" in record else _first(_CONTEXTS, record)
    if context is not None and found["prompt"] not in (None, context):
        found = {"long_context": context, "question": found.pop("prompt"), **found}
        found.pop("short_prompt")
    whole = found["chosen"] is not None and found.get("prompt", context) is not None
    return {ours: theirs for ours, theirs in found.items() if theirs not in (None, ours)} if whole else {}


def mapping_of_extras(extras: Iterable[str], known: Container[str]) -> dict[str, str]:
    """Our name -> that of an extra column which may be meant by it; a document beside the prompt is a context."""
    names = list(extras)
    context = _first(_CONTEXTS, names)
    if context is not None and "prompt" in known:
        return {"long_context": context, "question": "prompt"}
    others = {ours: _first(_OTHER_NAMES[ours], names) for ours in ("short_prompt", "system") if ours in known}
    return {ours: theirs for ours, theirs in others.items() if theirs is not None}


def without_a_choice(record: Mapping[str, object]) -> str | None:
    """What to change in records that do not say which text is better; `None` if nothing is known of them."""
    if tokenised := [name for name in record if str(name).endswith("input_ids")]:
        return f"texts, which any model can read, not token ids as in {tokenised[0]!r}"
    if several := [name for name in _LISTS if isinstance(record.get(name), list | tuple)]:
        return f"the best answer as `chosen` and others as `rejected` (a list), not all of them in {several[0]!r}"
    if "winner" in record:
        return "the better answer as `chosen` and the other one as `rejected`, not which one it is in 'winner'"
    return None


def _is_texts(value: object) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(item, str) for item in value)


def as_yaml(mapping: dict[str, str]) -> str:
    """A mapping as YAML and the command line take it."""
    return "{" + ", ".join(f"{ours}: {theirs}" for ours, theirs in mapping.items()) + "}"


def _first(names: Iterable[str], among: Iterable[str]) -> str | None:
    """The first of some names that is there, in capitals or not, as it is written there."""
    written = {str(name).lower(): name for name in among} | {name: name for name in among}
    return next((written[name] for name in names if name in written), None)
