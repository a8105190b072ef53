"""InfiniteBench's official templates: two scripts ask in their own words, cut and wrap prompts in their own ways."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from evaluation.benchmarks.infinitebench.records import ADDED_NAMES
from evaluation.benchmarks.official_files import OfficialFileError, parse_literals, read_json, read_text
from evaluation.benchmarks.placeholders import placeholders
from evaluation.prompting import Style
from lit_longpo.errors import MissingFileError

LAYOUT = "<task>.jsonl, for example longbook_qa_eng.jsonl, and prompt.py"
Templates = Literal["gpt4", "yarn_mistral"]
_PROMPT_FILES = ("prompt.py", "src/prompt.py", "prompts.json")


@dataclass(frozen=True)
class Family:
    """How one of the official scripts asks.

    Args:
        digest: sha256 of its templates of all tasks that are asked, as JSON with sorted keys and no blanks.
        style: truncation rule.
        length: tokens that longer prompts are cut to.
        chat: models are asked in a chat.
        differences: what is otherwise in that script, in words.
    """

    digest: str
    style: Style
    length: int
    chat: bool
    differences: tuple[str, ...] = ()


FAMILIES: Mapping[Templates, Family] = {
    "gpt4": Family(
        "fb06d76887ce4eaa94e0d56b66a8f52dc9aafe5bfa0954f9dc3a291d1d804184",
        *("longbench_v2", 127_000, True),
        (
            "tokens of the model's own tokenizer, where the official GPT-4 client cuts by GPT-4's",
            "most likely tokens up to the limits of the scripts for local models, where the official GPT-4 client "
            "samples without a limit",
            "no system message, where the official client sends that of a helpful assistant",
        ),
    ),
    "yarn_mistral": Family(
        "60fe9d05a61e7a6fc6be1212d745edab707f88fc51b5102937cf592b4828c0d9", "infinitebench", 131_072, False
    ),
}


def find_prompts(folder: Path) -> Path:
    """The file with the templates, in the folder of the data.

    Raises:
        MissingFileError: there is none.
    """
    found = next((folder / name for name in _PROMPT_FILES if (folder / name).is_file()), None)
    if found is None:
        raise MissingFileError(
            f"expected InfiniteBench's prompt.py in {folder}, got none; download src/prompt.py of "
            "OpenBMB/InfiniteBench there, or type --benchmark.prompts FILE"
        )
    return found


def read_templates(path: Path, family: Templates, tasks: Collection[str]) -> dict[str, str]:
    """Templates of some tasks.

    Raises:
        MissingFileError: there is no such file.
        OfficialFileError: it lacks one, or one has other fields to fill in.
    """
    name = f"{family}_templates"
    is_python = path.suffix == ".py"
    values = parse_literals(read_text(path, LAYOUT), str(path), (name,)) if is_python else read_json(path, LAYOUT)
    table = values.get(name) if isinstance(values, dict) else None
    if not isinstance(table, dict):
        raise OfficialFileError.at(str(path), name, "templates by task", table)
    for task in tasks:
        _check_template(table.get(task), task, f"{path}: {name}")
    return {task: table[task] for task in tasks}


def _check_template(template: object, task: str, where: str) -> None:
    allowed = {"context", "input", "question", *ADDED_NAMES.get(task, ())}
    names = placeholders(str(template))
    if not isinstance(template, str) or "context" not in names or not names <= allowed:
        expected = f"a template with {{context}} and others of {', '.join(sorted(allowed))}"
        raise OfficialFileError.at(where, task, expected, template)
