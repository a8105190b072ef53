"""Warns of model-specific settings that a configuration keeps when `--policy.source` names another model.

`--policy.source X` on a recipe replaces the source and nothing else. Some of the other settings belong to the run
(LoRA, checkpointing). Those about a model's files and prompts were written for the model that the recipe names; they
are listed once.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace

from lit_longpo.errors import UserError
from lit_longpo.policy.loading import PolicyConfig
from lit_longpo.policy.model_files import ModelFiles
from lit_longpo.policy.prompts.prompt_template import PromptTemplate

# Of `policy`: what belongs to one model. The template's fields are all of that kind.
_OF_MODEL = ("gguf_file", "dtype", "rope", "trust_remote_code", "added_tokens", "added_special_tokens")
_AS_USUAL = {"chat": (True,)}  # as without it, for models that have a chat template


def stale_settings(values: Namespace, words: Sequence[str]) -> str | None:
    """A warning about values that were written for another model, unless they were typed; `None` if there are none."""
    policy = values.policy.as_dict()
    stated = _stated(values)
    source = stated.get("source", policy["source"])
    if source == policy["source"]:
        return None
    typed = {word.partition("=")[0].removeprefix("--policy.") for word in words if word.startswith("--policy.")}
    lost = [name for name in _names(stated, policy) if name.partition(".")[0] not in typed and name not in typed]
    if not lost:
        return None
    shown = ", ".join(f"{name} {json.dumps(_value(policy, name), ensure_ascii=False)}" for name in lost)
    return (
        f"`policy.source` is {policy['source']}, with the configuration's settings for {source}: {shown}; type those "
        f"that it needs, for example --policy.{lost[0]} ..."
    )


def _stated(values: Namespace) -> Mapping[str, Any]:
    """The settings stated beside the name of a model, in fragments and in sections of files; the last one wins."""
    fragment = values.policy.get("__path__")
    sections = [] if fragment is None else [_read(fragment)]
    sections += [_mapping(_read(path).get("policy")) for path in values.get("config") or ()]
    stated: dict[str, Any] = {}
    for section in sections:
        if "source" in section:
            stated = {
                **stated,
                **section,
                "template": {**stated.get("template", {}), **_mapping(section.get("template"))},
            }
    return stated


def _read(path: Any) -> Mapping[str, Any]:
    return _mapping(yaml.safe_load(Path(path).read_text(encoding="utf-8")))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _names(stated: Mapping[str, Any], policy: Mapping[str, Any]) -> Iterator[str]:
    """Values that hold, because a file says so, and are not what holds without it."""
    template, default = _mapping(stated.get("template")), PromptTemplate()
    for item in fields(PromptTemplate):
        usual_ones = (getattr(default, item.name), *_AS_USUAL.get(item.name, ()))
        holds = item.name in template and template[item.name] == policy["template"][item.name]
        if holds and template[item.name] not in usual_ones:
            yield f"template.{item.name}"
    usual = PolicyConfig()
    for name in _OF_MODEL:
        holds = name in stated and bool(policy[name]) and policy[name] != getattr(usual, name)
        if holds and name != "dtype":
            yield name
    if "dtype" in stated and stated["dtype"] == policy["dtype"] != _dtype(policy):
        yield "dtype"


def _dtype(policy: Mapping[str, Any]) -> str:
    """Of the model's files; the one that is asked for where they cannot be read here: loading says why."""
    names = ("source", "gguf_file", "trust_remote_code")
    try:
        return ModelFiles(*(policy[name] for name in names)).dtype()
    except (UserError, OSError):
        return str(policy["dtype"])


def _value(policy: Mapping[str, Any], name: str) -> Any:
    section, _, key = name.partition(".")
    return policy[section][key] if key else policy[section]
