"""README.md of an exported policy: what it is, how it was made, how to prompt it."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lit_longpo.markdown import code, escape, table
from lit_longpo.policy.prompts.trained_prompt import TEMPLATE_KEY

_HUB_NAME = re.compile(r"\w[\w.-]*/[\w.-]+")
_ODD = re.compile(r"[^\w.-]")  # in a YAML list
_SECTIONS = ("policy", "reference", "optimization")  # shown elsewhere, not as arguments of the objective


def model_card(config: Mapping[str, Any], record: Mapping[str, Any], *, adapters: bool, single: bool = False) -> str:
    """Text of the model card.

    Args:
        config: the run's resolved config.yaml.
        record: what the checkpoint says about the run (`checkpoints.run_record`); may be empty.
        adapters: whether the folder holds adapters instead of a model.
        single: whether it holds fp32 weights, whatever the training's were.
    """
    policy, objective = config["policy"], _short_name(config.get("model"), record.get("objective"))
    parts = [
        _front_matter(policy, objective, adapters),
        f"# {escape(f'{objective} on {_base_name(policy)}')}\n\nTrained with lit_longpo.",
        "## How it was made\n\n" + _table(_facts(config, record, objective, single)),
        *_last_metrics(record),
        "## Use\n\n" + _use(policy, adapters),
    ]
    return ("\n\n".join(parts) + "\n").encode("utf-8", "replace").decode("utf-8")  # no file takes half a character


def _facts(config: Mapping[str, Any], record: Mapping[str, Any], objective: str, single: bool) -> list[tuple[str, Any]]:
    policy, data = config["policy"], config.get("data") or {}
    facts = {
        "objective": objective,
        "objective's arguments": _chosen(_arguments(config.get("model")), record.get("settings") or {}),
        "base model": _base_name(policy),
        "base weights": policy.get("weights"),
        "dtype": policy.get("dtype"),
        "dtype of the files": "float32" if single else None,
        "4-bit base weights": policy.get("quantization"),
        "rotary positions": policy.get("rope") or "unchanged",
        "LoRA": policy.get("lora") or "none",
        "reference": config.get("reference"),
        "data": _short_name(data),
        "data's arguments": _arguments(data),
        "hash of the tokenised training examples": record.get("data_fingerprint"),
        "optimization": config.get("optimization"),
        "optimizer steps": record.get("step"),
        "epoch": record.get("epoch"),
        "processes": record.get("processes"),
        "seed": config.get("seed_everything"),
    }
    return [(name, value) for name, value in facts.items() if value is not None]


def _last_metrics(record: Mapping[str, Any]) -> list[str]:
    """The section with the last metrics; empty if nothing was logged, as in a finished run that is started again."""
    metrics = sorted((record.get("metrics") or {}).items())
    return ["## Last metrics\n\n" + _table((name, f"{value:.6g}") for name, value in metrics)] if metrics else []


def _front_matter(policy: Mapping[str, Any], objective: str, adapters: bool) -> str:
    source = str(policy["source"])
    lines = ["library_name: peft" if adapters else "library_name: transformers", "pipeline_tag: text-generation"]
    if _HUB_NAME.fullmatch(source) and not Path(source).exists():
        lines.append(f"base_model: {source}")
    if template := policy.get("template"):
        lines.append(f"{TEMPLATE_KEY}: {json.dumps(template, ensure_ascii=False, default=str)}")
    tag = json.dumps(objective.lower()) if _ODD.search(objective) else objective.lower()
    return "\n".join(["---", *lines, f"tags: [lit_longpo, {tag}]", "---"])


def _use(policy: Mapping[str, Any], adapters: bool) -> str:
    template = policy.get("template") or {}
    chat = {True: "as a chat message", False: "as plain text", None: "as a chat message if there is a chat template"}
    needs = (
        " (the base model must be where it was; transformers alone may leave out a part of the adapters; generate with "
        "`generation_config=GenerationConfig.from_pretrained(FOLDER)`, which ends answers as in training)"
        if adapters
        else ""
    )
    if adapters and policy.get("quantization"):
        needs += " (trained over 4-bit weights of the base: read it with `quantization_config` for the same answers)"
    reader = "peft.AutoPeftModelForCausalLM" if adapters else "transformers.AutoModelForCausalLM"
    return (
        f"`{reader}.from_pretrained(FOLDER)`{needs}. Trained on prompts of the form "
        f"{code(json.dumps(template.get('user', ''), ensure_ascii=False))}, {chat[template.get('chat')]}."
    )


def _table(rows: Iterable[tuple[str, Any]]) -> str:
    return "\n".join(table(("what", "value"), ((name, _shown(value)) for name, value in rows)))


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _base_name(policy: Mapping[str, Any]) -> str:
    """The base model without the machine's folders: `owner/name`, or the last component of a path."""
    source = str(policy["source"])
    name = Path(source).name if Path(source).expanduser().is_absolute() or source.startswith((".", "~")) else source
    return f"{name}/{policy['gguf_file']}" if policy.get("gguf_file") else name


def _arguments(section: Any) -> dict[str, Any]:
    arguments = (section or {}).get("init_args") or {} if isinstance(section, Mapping) else {}
    return {name: _without_folders(value) for name, value in arguments.items() if name not in _SECTIONS}


def _chosen(arguments: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The objective's arguments; where none is typed, what the objective took in its place."""
    return {name: settings.get(f"model.{name}") if value is None else value for name, value in arguments.items()}


def _without_folders(value: Any) -> Any:
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def _short_name(section: Any, otherwise: str | None = None) -> str:
    path = section.get("class_path", "") if isinstance(section, Mapping) else str(section or "")
    return str(path).rpartition(".")[2] or otherwise or "unknown"
