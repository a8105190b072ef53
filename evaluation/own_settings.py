"""Fills in how an evaluated model is loaded and prompted from its own files, unless the user says otherwise.

What a configuration says about one model is not true of another. So if the command line (or a later configuration)
names another model than a configuration does, the `policy` of that configuration is ignored, and a message says so.
"""

import argparse
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser, Namespace

from evaluation.origins import origin_of
from lit_longpo.command_line.parser import SuggestingParser
from lit_longpo.command_line.precedence import options_of
from lit_longpo.files.plain_yaml import LOADER
from lit_longpo.policy import PolicyConfig
from lit_longpo.policy.locations import locate

log = logging.getLogger(__name__)


def with_policy(arguments: Sequence[str]) -> list[str]:
    """`--model X` as `--policy X` if X is YAML, else as `--policy.source X`; `--model.key` as `--policy.key`."""
    words = [
        word
        for pair in (item.split("=", 1) if item.startswith("--model") else [item] for item in arguments)
        for word in pair
    ]
    for number, word in enumerate(words):
        if word == "--model" and number + 1 < len(words):
            words[number] = "--policy" if words[number + 1].endswith((".yaml", ".yml")) else "--policy.source"
        elif word.startswith("--model."):
            words[number] = word.replace("--model.", "--policy.", 1)
    return words


def parse_with_own(parser: SuggestingParser, words: Sequence[str], *, needs_model: bool = True) -> Namespace:
    """Parse a command line whose `policy` starts from the model's own settings.

    Args:
        parser: with the arguments of `PolicyConfig` under `policy`; no defaults of theirs are left in it.
        words: of the command line.
        needs_model: look into the model's files; not where no model will be loaded.

    Raises:
        MissingFileError: the model is not where `policy.source` says.
    """
    if {"-h", "--help"} & set(words):
        parser.parse_args(words)
    _without_defaults(parser)
    values, stated, left = _stated(parser, words)
    values.policy = _filled(parser.prog, stated, own_settings(stated) if needs_model else {})
    if needs_model:
        _warn_of_what_is_left(left, values.policy)
    return values


def own_settings(stated: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in a model's files, by option: precision, 4 bits beneath adapters, the template of the training.

    Raises:
        MissingFileError: there is no model.
    """
    names = ("source", "gguf_file", "trust_remote_code")
    policy = PolicyConfig(**{name: stated[name] for name in names if stated.get(name) is not None})
    locate(policy.source, policy.gguf_file)
    known = {} if policy.gguf_file is not None else origin_of(policy.source).settings
    own = {} if "dtype" in stated else {"policy.dtype": known.get("dtype") or policy.files.dtype()}
    if known.get("quantization") and "quantization" not in stated:
        own["policy.quantization"] = known["quantization"]
    return own | {f"policy.template.{name}": value for name, value in known.get("template", {}).items()}


def _stated(parser: SuggestingParser, words: Sequence[str]) -> tuple[Namespace, dict[str, Any], dict[str, Any]]:
    """(all values, policy values stated about the evaluated model, policy values stated about another model)."""
    options = options_of(words)
    typed = [word for option in options if _is_policy(option[0]) for word in option]
    said = ("--policy.trust_remote_code",)  # holds for what a file asks, too
    others = [word for option in options if option[0].startswith(said) or not _is_policy(option[0]) for word in option]
    if typed and not any(word.startswith("--print_config") for word in words):
        values = parser.parse_args(others)
        of_files, named = _plain(values), _plain(_stating_parser(parser.prog).parse_args(typed))
        if named.get("source", _source(of_files)) != _source(of_files):
            return values, named, of_files
    values = parser.parse_args(words)
    last, before = _by_models(parser.prog, values.get("config") or ())
    if not before:
        return values, _plain(values), {}
    return values, _merged(last, _plain(_stating_parser(parser.prog).parse_args(typed)) if typed else {}), before


def _by_models(prog: str, files: Sequence[Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The files' policy values for the model that is named last, and the values for the models before it."""
    last, before = dict[str, Any](), dict[str, Any]()
    for section in (_section(prog, Path(file)) for file in files if file is not None):
        if last and section.get("source", _source(last)) != _source(last):
            last, before = {}, _merged(before, last)
        last = _merged(last, section)
    return last, before


def _section(prog: str, file: Path) -> dict[str, Any]:
    """The `policy` values of a file, its own or those of the fragment that it names."""
    values = yaml.load(file.read_text(encoding="utf-8"), LOADER)
    section = values.get("policy") if isinstance(values, Mapping) else None
    if isinstance(section, str):
        beside = file.parent / section
        words = ["--policy", str(beside if beside.is_file() else section)]
        return _plain(_stating_parser(prog).parse_args(words))
    if not isinstance(section, Mapping):
        return {}
    return _plain(_stating_parser(prog).parse_object({"policy": dict(section)}))


def _merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """The first values overwritten by the second ones, sections name by name."""
    both = dict(first)
    for name, value in second.items():
        within = isinstance(value, Mapping) and isinstance(both.get(name), Mapping)
        both[name] = {**both[name], **value} if within else value
    return both


def _source(stated: Mapping[str, Any]) -> str:
    return str(stated.get("source", PolicyConfig.source))


def _is_policy(option: str) -> bool:
    return option.partition("=")[0].partition(".")[0] == "--policy"


def _plain(values: Namespace) -> dict[str, Any]:
    """The policy's values as YAML has them."""
    policy = values.get("policy")
    found = {} if policy is None else policy.as_dict()
    return {name: value for name, value in found.items() if name != "__path__"}


def _policy_parser(prog: str) -> SuggestingParser:
    """Of the policy alone."""
    parser = SuggestingParser(prog=prog)
    parser.add_argument("--config", action="config")  # without which names of fragments are not looked for
    parser.add_class_arguments(PolicyConfig, "policy")
    return parser


@cache
def _stating_parser(prog: str) -> SuggestingParser:
    """Of the policy alone, as somebody states it; made once, however many files do."""
    return _without_defaults(_policy_parser(prog))


def _without_defaults(parser: SuggestingParser) -> SuggestingParser:
    """The parser, whose values of the policy are then those that somebody stated."""
    for action in parser._actions:
        if action.dest.startswith("policy."):
            action.default = argparse.SUPPRESS
    return parser


def _filled(prog: str, stated: Mapping[str, Any], own: Mapping[str, Any]) -> Namespace:
    """Stated values over the model's own ones over the defaults."""
    parser: ArgumentParser = _policy_parser(prog)
    parser.set_defaults(dict(own))
    filled = parser.parse_object({"policy": dict(stated)}).policy
    assert isinstance(filled, Namespace)
    return filled


def _warn_of_what_is_left(left: Mapping[str, Any], policy: Namespace) -> None:
    """What the configuration says about its own model, and what does not hold for the one that is named."""
    holds = dict(_leaves(policy.as_dict()))
    lost = [
        f"{name} {json.dumps(value, ensure_ascii=False, default=str)}"
        for name, value in _leaves(left)
        if name != "source" and holds.get(name) != value
    ]
    if lost:
        log.warning(
            "%s is asked with its own settings, not with the configuration's, which are for %s (%s); type those that "
            "you want, for example --policy.dtype bfloat16",
            *(policy.source, _source(left), ", ".join(lost)),
        )


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value by its dotted name."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
