"""RULER's official templates and settings, read from the files that the user names."""

import ast
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from evaluation.benchmarks.official_files import OfficialFileError, Row, parse_literals, read_json, read_text
from lit_longpo.files.plain_yaml import check_plain
from lit_longpo.ranges import MOST_ANSWERED

LAYOUT = "synthetic.yaml; data/synthetic/constants.py or templates.json, as in NVIDIA/RULER/scripts"
_CONSTANTS, _TEMPLATES, _JSON = "data/synthetic/constants.py", "templates.json", "data/synthetic/json"
# Where the official scripts keep three sentences outside their templates, and sentences of our own where a folder has
# templates only.
_SENTENCES = {
    "needle": (
        "data/synthetic/niah.py",
        "needle",
        "Remember: the special magic {type_needle_v} for {key} include: {value}.",
    ),
    "noise": (
        *("data/synthetic/niah.py", "haystack"),
        "The lake is calm. The road is dry. The tea is warm. Off we walk. Up and down again.",
    ),
    "document": ("data/synthetic/qa.py", "DOCUMENT_PROMPT", "Document {i}:\n{document}"),
}
_PLACEHOLDERS = {"needle": ("{type_needle_v}", "{key}", "{value}"), "noise": (), "document": ("{i}", "{document}")}
_DIGESTS = {  # sha256, first 16 digits
    "niah": ("b373c00e238df12b", "994f3a46e763414f"),
    "variable_tracking": ("fcfaf2eab2bc3e35", "4a4e9010ec4141a3"),
    "common_words_extraction": ("45fff5d17627b65a", "8ee526599bbc7372"),
    "freq_words_extraction": ("a0c7b873cf500d6c", "9a72271c5762c96d"),
    "qa": ("18a659c9723f24f1", "255204f061d7e266"),
    "needle": ("8b1728a938426e42",),
    "noise": ("c2fcf70de6081e6f",),
    "document": ("ce8bd2851618becf",),
}
_SETTINGS_DIGEST = "34bc71dcacdc"  # of synthetic.yaml


@dataclass(frozen=True)
class TaskTemplate:
    """How a kind of task is asked.

    Args:
        text: of the user's message, with `{context}`.
        answer_prefix: first words of the answer, which the model goes on from.
    """

    text: str
    answer_prefix: str
    max_new_tokens: int


@dataclass(frozen=True)
class OfficialTasks:
    """The official settings.

    Args:
        templates: by the kind of task, as "niah".
        kinds: kind of each task.
        arguments: of each task's generator.
        sentences: "needle", "noise" and "document".
        own: which of the sentences are ours, as the folder has no official ones.
    """

    templates: Mapping[str, TaskTemplate]
    kinds: Mapping[str, str]
    arguments: Mapping[str, Row]
    sentences: Mapping[str, str]
    own: tuple[str, ...]

    @property
    def texts(self) -> dict[str, tuple[str, ...]]:
        """Template and answer prefix of each kind, and the sentences, by name."""
        kinds = {kind: (item.text, item.answer_prefix) for kind, item in self.templates.items()}
        return kinds | {name: (text,) for name, text in self.sentences.items()}

    @property
    def digest(self) -> str:
        """Hash of all texts, settings and limits."""
        limits = {kind: item.max_new_tokens for kind, item in self.templates.items()}
        arguments = {task: dict(row.values) for task, row in self.arguments.items()}
        return digest_of(json.dumps([self.texts, limits, arguments], sort_keys=True))


def read_tasks(folder: Path, tasks: Sequence[str]) -> OfficialTasks:
    """Templates and settings from the official files; nothing is executed.

    Raises:
        MissingFileError: one of them is missing.
        OfficialFileError: a task or a template is not there, or is not what it must be.
    """
    path = folder / "synthetic.yaml"
    check_plain(path)
    try:
        settings = yaml.safe_load(read_text(path, LAYOUT))
    except yaml.YAMLError as error:
        raise OfficialFileError.at(str(path), "file", "YAML", str(error)) from error
    settings = mapping(settings, str(path), "file")
    rows = {task: Row(f"{path}: {task}", mapping(settings.get(task), str(path), task)) for task in tasks}
    arguments = {task: Row(row.where, mapping(row.values.get("args"), row.where, "args")) for task, row in rows.items()}
    found = {name: _sentence(folder, name) for name in _SENTENCES}
    sentences = {name: text or _SENTENCES[name][2] for name, text in found.items()}
    own = tuple(name for name, text in found.items() if text is None)
    return OfficialTasks(
        _templates(folder), {task: row.text("task") for task, row in rows.items()}, arguments, sentences, own
    )


def _templates(folder: Path) -> dict[str, TaskTemplate]:
    python, plain = folder / _CONSTANTS, folder / _TEMPLATES
    if python.is_file() or not plain.is_file():
        path, values = python, parse_literals(read_text(python, LAYOUT), str(python), ["TASKS"]).get("TASKS")
    else:
        path, values = plain, read_json(plain, LAYOUT)
    kinds = mapping(values, str(path), "TASKS")
    return {kind: _template(Row(f"{path}: {kind}", mapping(item, str(path), kind))) for kind, item in kinds.items()}


def _template(row: Row) -> TaskTemplate:
    text = row.text("template")
    if "{context}" not in text:
        raise row.error("template", "a template with {context}", text)
    return TaskTemplate(text, row.text("answer_prefix"), row.count("tokens_to_generate", 1, MOST_ANSWERED))


def _sentence(folder: Path, name: str) -> str | None:
    """The first text that the official script assigns to a name, wherever; `None` without that script."""
    script, variable, _ = _SENTENCES[name]
    path = folder / script
    if not path.is_file():
        return None
    try:
        nodes = list(ast.walk(ast.parse(read_text(path, LAYOUT))))
    except (SyntaxError, ValueError, RecursionError) as error:
        raise OfficialFileError.at(str(path), "file", "Python", str(error)) from error
    assigned = sorted((node for node in nodes if isinstance(node, ast.Assign)), key=lambda node: node.lineno)
    for node in assigned:
        is_named = any(isinstance(target, ast.Name) and target.id == variable for target in node.targets)
        if is_named and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            text = node.value.value.rstrip("\n")
            if all(mark in text for mark in _PLACEHOLDERS[name]):
                return text
    raise OfficialFileError.at(str(path), variable, f"a text with {', '.join(_PLACEHOLDERS[name]) or 'words'}", None)


def changed_texts(tasks: OfficialTasks, folder: Path) -> tuple[str, ...]:
    """Texts and settings that are not the official ones, for a report."""
    names = {*tasks.kinds.values(), *_SENTENCES}
    changed = [
        f"{name}: {'our own sentence, as the folder has none' if name in tasks.own else 'not the official text'}"
        for name, texts in tasks.texts.items()
        if name in names and tuple(map(digest_of, texts)) != _DIGESTS.get(name)
    ]
    settings = digest_of(read_text(folder / "synthetic.yaml", LAYOUT))
    return (*changed, *([] if settings.startswith(_SETTINGS_DIGEST) else ["synthetic.yaml is not the official file"]))


def digest_of(text: str) -> str:
    """The first 16 digits of its sha256."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def mapping(value: object, where: str, name: str) -> dict:
    """The value, if it is an object.

    Raises:
        OfficialFileError: it is something else.
    """
    if not isinstance(value, dict):
        raise OfficialFileError.at(where, name, "an object", value)
    return value


def official_file(folder: Path, name: str) -> Path | None:
    """A file that the official scripts download beside themselves, where it is there."""
    path = folder / _JSON / name
    return path if path.is_file() else None
