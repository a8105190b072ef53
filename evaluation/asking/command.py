"""`python -m lit_longpo ask`: questions about a document to a trained model and its base, side by side."""

import json
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import yaml
from lightning.fabric import Fabric
from rich.console import Console

from evaluation.asking.documents import read_document
from evaluation.asking.questions import DocumentQuestions, PromptRules
from evaluation.asking.sides import Prepared, Side
from evaluation.asking.tables import ModelReplies, as_json, tables
from evaluation.origins import Origin, origin_of
from evaluation.own_settings import with_policy
from evaluation.running.batching import Batching
from lit_longpo.command_line.parser import SuggestingParser
from lit_longpo.errors import InputError
from lit_longpo.files.storing import check_writable, storing
from lit_longpo.policy import PolicyConfig, PromptTemplate
from lit_longpo.strategies import check_devices, check_processes, own_launcher

log = logging.getLogger(__name__)

_NO_BASE = "none"
_NAMES_MODEL = ("--policy", "--config", "-c")
_LISTS = ("--document", "--question", "--answers")


def ask_parser() -> SuggestingParser:
    """Top-level keys: document, questions, answers, `policy` and how it is asked."""
    parser = SuggestingParser(
        prog="python -m lit_longpo ask",
        description="Ask a trained model and its base about a document, side by side. --model X is short for "
        "--policy.source X: a folder, a run's folder, a checkpoint, a hub name, or embedded. Prompt and base are those "
        "of its run, if that is known. What you type of `policy` applies to both.",
    )
    parser.shorthands = ("model",)
    parser.add_argument("--config", action="config", help="YAML file; a later one wins")
    _add_questions(parser)
    parser.add_class_arguments(PolicyConfig, "policy")
    parser.add_class_arguments(Batching, "batching")
    parser.add_argument("--accelerator", type=str, default="auto", help="auto, cpu, gpu, ...")
    parser.add_argument("--json", type=str | None, default=None, help="file that gets the same output as JSON")
    return parser


def _add_questions(parser: SuggestingParser) -> None:
    """What is asked, of whom else, and how it is put."""
    parser.add_argument(
        "--document", type=list[str], default=[], help="text files, read as one context; - reads standard input"
    )
    parser.add_argument("--question", type=list[str], default=[], help="the question; several may follow each other")
    parser.add_argument(
        "--answers",
        type=list[list[str]],
        default=[],
        help="after a question: answers whose log-probabilities are compared, the right one first",
    )
    parser.add_argument(
        "--base", type=str | None, default=None, help="the model to compare with, as --model; none for no comparison"
    )
    parser.add_argument("--question_template", type=str, default="{question}", help="how the question is worded")
    parser.add_argument("--max_new_tokens", type=int, default=64, help="tokens of an answer at most")
    parser.add_argument(
        "--max_length",
        type=int | None,
        default=None,
        help="tokens of a prompt at most; null means what the window leaves",
    )
    parser.add_argument(
        "--on_overlength",
        type=Literal["truncate", "error"],
        default="truncate",
        help="cut a longer document in the middle, or refuse it",
    )


def ask(arguments: Sequence[str]) -> None:
    """Ask as the arguments say, print the answers side by side.

    Raises:
        InputError: an argument means nothing, or a document or question does not fit.
    """
    words = with_lists(with_policy(arguments))
    values = _parsed(words, None)
    check_processes(1, "ask")
    check_devices(values.accelerator, 1)
    document = read_document(values.document)
    asked = DocumentQuestions(document.text, tuple(values.question), tuple(map(tuple, values.answers)))
    rules = PromptRules(values.question_template, values.max_new_tokens, values.max_length, values.on_overlength)
    if values.json is not None:
        check_writable(Path(values.json).parent, "--json FILE")
        if Path(values.json).is_dir():
            raise InputError(
                f"expected a file for --json, got the folder {values.json}; type --json FOLDER/answers.json"
            )
    prepared = [Prepared.of(side, asked, rules) for side in _sides(words, values)]
    _log_asked(prepared, document.name)
    device = Fabric(accelerator=values.accelerator, devices=1, plugins=own_launcher()).device
    columns = [ModelReplies(one, one.replies(asked, device, values.batching)) for one in reversed(prepared)]
    columns.reverse()
    for table in tables(asked, columns):
        Console().print(table)
    if values.json is not None:
        text = json.dumps(as_json(document.name, asked, columns), indent=1, ensure_ascii=False)
        with storing(Path(values.json).parent, "--json FILE"):
            Path(values.json).write_text(text + "\n", encoding="utf-8")
        log.info("written: %s", values.json)


def with_lists(arguments: Sequence[str]) -> list[str]:
    """The same words, but values that follow `--document`, `--question` and `--answers`, however often, as lists.

    Raises:
        InputError: one of them is followed by nothing.
    """
    rest, lists = _parted(arguments)
    for name, groups in lists.items():
        if not all(groups):
            raise InputError(f"expected a value behind {name}, got none; type {name} VALUE")
        together = groups if name == "--answers" else list(chain.from_iterable(groups))
        rest.append(f"{name}={json.dumps(together)}")
    return rest


def _parted(arguments: Sequence[str]) -> tuple[list[str], dict[str, list[list[str]]]]:
    """Words that belong to no list, and the values behind every mention of an option that takes one."""
    rest, lists = list[str](), dict[str, list[list[str]]]()
    current: list[str] | None = None
    for word in arguments:
        name, equals, value = word.partition("=")
        if name in _LISTS:
            current = [value] if equals else []
            lists.setdefault(name, []).append(current)
        elif word.startswith("--") or current is None:
            current = None
            rest.append(word)
        else:
            current.append(word)
    return rest, lists


def _parsed(words: Sequence[str], origin: Origin | None) -> Any:
    """All values; what an origin knows comes first, so that files and typed words go before it."""
    parser = ask_parser()
    if origin is None:
        return parser.instantiate_classes(parser.parse_args(list(words)))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "policy.yaml"
        file.write_text(yaml.safe_dump(dict(origin.settings)), encoding="utf-8")
        return parser.instantiate_classes(parser.parse_args(["--policy", str(file), *words]))


def _sides(words: Sequence[str], values: Any) -> list[Side]:
    """The base, if there is one, and the model."""
    if not any(word.partition("=")[0].partition(".")[0] in _NAMES_MODEL for word in words):
        raise InputError("expected a model to ask, got none; type --model FOLDER_OR_CHECKPOINT, or --model embedded")
    origin = _precise(origin_of(values.policy.source, values.policy.gguf_file), values.policy)
    base = _base(values.base, origin)
    if base is None:
        return [_side("model", words, origin)]
    return [_side("base", words, _precise(base, values.policy)), _side("trained", words, origin)]


def _precise(origin: Origin, policy: PolicyConfig) -> Origin:
    """With the precision of its files where nothing is known of a training, as `evaluate` reads them."""
    if "dtype" in origin.settings:
        return origin
    own = replace(policy, source=origin.source).files.dtype()
    return replace(origin, settings={**origin.settings, "dtype": own})


def _base(wanted: str | None, origin: Origin) -> Origin | None:
    if wanted == _NO_BASE:
        return None
    if wanted is not None and (origin.base is None or wanted != origin.base.source):
        base = origin_of(wanted)
        known = base.settings or {name: value for name, value in origin.settings.items() if name == "template"}
        return replace(base, settings=known)
    if origin.base is None and origin.source != "embedded":
        log.info("asked alone: what %s was trained from is not known here; type --base FOLDER_OR_HUB_NAME", origin.name)
    return origin.base


def _side(role: str, words: Sequence[str], origin: Origin) -> Side:
    policy: PolicyConfig = _parsed(words, origin).policy
    policy = replace(policy, source=origin.source)
    return Side(role, origin.name, policy, origin.checkpoint, origin.beneath, origin.told_by)


def _log_asked(prepared: Sequence[Prepared], document: str) -> None:
    """Document, and the prompt that each model gets: answers to another form than it was trained on are worse."""
    for one in prepared:
        form = one.side.policy.template
        how = "its chat template" if one.prompt_format.uses_chat else "plain text"
        is_guess = one.side.told_by is None and form == PromptTemplate()
        hint = ", the default; if it was trained on another: --policy.template.user" if is_guess else ""
        log.info("%s reads %s as %s in %s%s", one.side.role, document, json.dumps(form.user), how, hint)
