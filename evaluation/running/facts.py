"""The facts that a report states about its answers: the model as it ran, the software, the command, the date."""

import datetime
import hashlib
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path

import torch
import transformers
from torch import nn

from lit_longpo.engine import base_model, end_ids
from lit_longpo.policy import PromptFormat
from lit_longpo.servers import without_passwords

OF_SERVER = "the server's own"  # chat template
CHAT, IN_CHAT = "chat template", "in the chat template"
ROTARY = "rotary positions"
DEVIATIONS = "deviations of the run"  # moves to those of the report
_ROOT = Path(__file__).resolve().parents[2]
_MODULE = "python -m lit_longpo"


def run_facts(about: Mapping[str, object], prompt_format: PromptFormat, command: str) -> dict[str, object]:
    """What answers depend on beside the benchmark, and how they were asked for, as plain values.

    Args:
        about: who answers: see `model_facts`.
        prompt_format: its tokenizer and chat template.
        command: that was typed; empty means that of this process.
    """
    now = datetime.datetime.now(datetime.UTC)
    return {
        CHAT: chat_fact(prompt_format),
        **_chat_settings(prompt_format),
        **about,
        "versions": versions(),
        "commit": commit(),
        "date": now.strftime("%Y-%m-%d %H:%M UTC"),
        "command": command or this_command(sys.argv),
    }


def model_facts(model: nn.Module, prompt_format: PromptFormat) -> dict[str, object]:
    """What answers of a model depend on, as it was loaded."""
    return {
        "dtype": ", ".join(sorted({str(item.dtype).removeprefix("torch.") for item in model.parameters()})),
        "device": _device(model),
        "end tokens": shown_tokens((*prompt_format.stop_ids, *end_ids(model)), prompt_format),
        **_rotary(model),
    }


def _rotary(model: nn.Module) -> dict[str, object]:
    """Rotary settings as they are used, which a run may have changed; nothing of models without."""
    settings = getattr(base_model(model).config.get_text_config(), "rope_parameters", None)
    return {ROTARY: _in_words(settings)} if settings else {}


def _in_words(settings: Mapping[str, object]) -> str:
    """Names and values; of settings by kind of layer each kind's, of lists the hash."""
    parts = []
    for name, value in sorted(settings.items()):
        if isinstance(value, Mapping):
            parts.append(f"{name} ({_in_words(value)})")
        elif isinstance(value, Sequence) and not isinstance(value, str):
            parts.append(f"{name} sha256 {hashlib.sha256(repr(value).encode()).hexdigest()[:8]}")
        else:
            parts.append(f"{name} {value}")
    return ", ".join(parts)


def chat_fact(prompt_format: PromptFormat) -> str:
    """Which chat template prompts are wrapped in, or why in none."""
    template = prompt_format.tokenizer.chat_template
    if prompt_format.uses_chat:
        return f"sha256 {chat_hash(prompt_format)}"
    return "none: the tokenizer has none" if template is None else "not used, though the tokenizer has one"


def chat_hash(prompt_format: PromptFormat) -> str:
    """Hash of the chat template's source, 16 hex digits."""
    source = str(prompt_format.tokenizer.get_chat_template())  # type: ignore[no-untyped-call]
    return hashlib.sha256(source.encode()).hexdigest()[:16]


def _chat_settings(prompt_format: PromptFormat) -> dict[str, object]:
    """What the chat template is told, if that is anything."""
    template = prompt_format.template
    if not prompt_format.uses_chat:
        return {}
    dated = "strftime_now" in str(prompt_format.tokenizer.get_chat_template())  # type: ignore[no-untyped-call]
    told = {
        "system message": template.system,
        "chat template options": template.options or None,
        "chat template date": (template.date or "of the day") if dated else None,
    }
    return {name: value for name, value in told.items() if value is not None}


def shown_tokens(ids: Sequence[int], prompt_format: PromptFormat) -> str:
    """Ids with their texts, ascending."""
    texts = prompt_format.tokenizer.convert_ids_to_tokens(sorted(set(ids)))
    return ", ".join(f"{number} {text}" for number, text in zip(sorted(set(ids)), texts, strict=True))


def _device(model: nn.Module) -> str:
    device = next(model.parameters()).device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def versions() -> str:
    """Versions of the libraries that compute answers."""
    return f"torch {torch.__version__}, transformers {transformers.__version__}, Python {platform.python_version()}"


@cache
def commit() -> str:
    """Commit of this checkout, and whether files of it are changed; where the package is installed, its version."""
    if not (_ROOT / ".git").exists():
        return _installed_version()
    words = ["git", "-C", str(_ROOT), "describe", "--always", "--exclude", "*", "--dirty=, changed", "--abbrev=12"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return f"unknown ({type(error).__name__})"
    return done.stdout.strip()


def _installed_version() -> str:
    """Of the package; files that were copied without their history, and run from where they lie, have none."""
    try:
        return f"lit_longpo {metadata.version('lit_longpo')}"
    except metadata.PackageNotFoundError:
        return "unknown (neither installed nor a checkout)"


def this_command(words: Sequence[str]) -> str:
    """The command as it was typed."""
    program = _MODULE if Path(words[0]).name == "__main__.py" else Path(words[0]).name
    return without_passwords(" ".join([program, shlex.join(words[1:])]).strip())


def typed(command: str, arguments: Sequence[str]) -> str:
    """A command of ours as it was typed, for example `evaluate`."""
    return without_passwords(" ".join([_MODULE, command, shlex.join(arguments)]))
