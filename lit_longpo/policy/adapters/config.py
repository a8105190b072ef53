"""Reads peft's adapter_config.json, and refuses settings under which we would not load the adapters as trained."""

import logging
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version

from lit_longpo.errors import InputError
from lit_longpo.files.stored import check_fields, stored_object
from lit_longpo.files.strict_json import RecordError, instead, shortened
from lit_longpo.log_once import log_once

ADAPTER_CONFIG = "adapter_config.json"
LORA_KINDS = ("use_rslora", "use_dora")  # by the name that peft's settings and ours give them
# Without rank and scale the adapters mean nothing, however peft would fill them in.
_NEEDED: dict[str, Any] = {"r": int, "lora_alpha": int | float}
_OPTIONAL: dict[str, Any] = {
    "base_model_name_or_path": str | None,
    "revision": str | None,
    "target_modules": str | list[str] | None,
    "lora_dropout": float,
    "bias": str,
    **dict.fromkeys(LORA_KINDS, bool | None),
}
_ALORA = "alora_invocation_tokens"  # which peft's own forward looks for; layers alone would be on for every token
# Ways to begin that change the base by chance, by data or by code of a GPU: nobody finds that base again.
_LOST_BASES = ("pissa_niter", "corda", "loftq", "lora_ga")
OWN_LOSSES = ("kasa_config", "monteclora_config")  # whose training has terms of its own in the loss
_ROUTER = "arrow_config"  # of adapters that choose among others for every token; those lie in other folders
_BY_INPUT = ("ADAPTION_PROMPT", "POLY", "XLORA")  # whose effect depends on the input, so that peft merges none of them
_MEGATRON = ("megatron_config", "megatron_core")  # the second names a package, which peft imports for the first
_REPEATED = "layer_replication"  # layers that stand in the model more often than in its configuration
_FOLLOWED = Version("0.15")  # from which on peft follows `^` in the keys of patterns
_OF_FILES = ("auto_mapping", "runtime_config")  # that peft reads by itself
_COPY = "copy the whole folder once more, or write its adapter_config.json anew with peft"

log = logging.getLogger(__name__)


def read_adapter_config(path: Path) -> dict[str, Any]:
    """Settings of the adapters in a folder.

    Raises:
        InputError: they are of another kind than LoRA, or say what would not be done.
        RecordError: a setting is missing, or of another type.
    """
    config = path / ADAPTER_CONFIG
    settings = stored_object(config, _COPY)
    kind = settings.get("peft_type")
    if kind != "LORA":
        raise InputError(f"expected LoRA adapters at {path}, got {kind}; {_instead_of(kind)}")
    with instead(_COPY):
        check_fields(settings, _NEEDED, str(config), _OPTIONAL)
        for name in _NEEDED:
            if not settings[name] > 0:  # with 0 they would be read, and do nothing
                raise RecordError.at(str(config), f"field {name!r}", "a number above 0", settings[name])
    _refuse_other_uses(config, settings)
    _refuse_unknown(config, settings)
    _refuse_lost_base(config, settings)
    _refuse_unclear_scale(config, settings)
    return settings


def _instead_of(kind: Any) -> str:
    from peft import PromptLearningConfig
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    known = PEFT_TYPE_TO_CONFIG_MAPPING.get(kind) if isinstance(kind, str) else None  # type: ignore[call-overload]
    if known is not None and issubclass(known, PromptLearningConfig):
        return "trained prompts are no weights and cannot be merged into their base: set `policy.source` to another"
    if kind in _BY_INPUT:
        return "what they add depends on the input and cannot be merged into their base: set `policy.source` to another"
    how = "with PEFT (`merge_and_unload`)" if known else "where they were trained (MLX's with `mlx_lm.fuse`)"
    return f"merge them into their base {how} and set `policy.source` to the result"


def _refuse_other_uses(config: Path, settings: dict[str, Any]) -> None:
    """Settings that peft's own forward, other folders or another package would heed, and layers alone do not."""
    if settings.get(_ALORA):
        raise InputError(
            f"expected adapters that apply to every token in {config}, got activated LoRA (`{_ALORA}: "
            f"{shortened(str(settings[_ALORA]))}`), which applies to some; set `policy.source` to other adapters"
        )
    if settings.get(_REPEATED):
        raise InputError(
            f"expected adapters on the layers of their base model in {config}, got `{_REPEATED}: "
            f"{shortened(str(settings[_REPEATED]))}`, which repeats some layers; save the deeper model as a whole "
            "where it was trained, and set `policy.source` to it"
        )
    if settings.get(_ROUTER) is not None:
        raise InputError(
            f"expected adapters that are whole by themselves in {config}, got a router (`{_ROUTER}`), which chooses "
            "among adapters of other folders; set `policy.source` to one of those"
        )
    if settings.get(_MEGATRON[0]):
        raise InputError(
            f"expected adapters of a model of transformers in {config}, got those of Megatron, whose package it names "
            f"({shortened(str(settings.get(_MEGATRON[1])))}): nothing that a file names is imported; merge them where "
            "they were trained, and set `policy.source` to the result"
        )


def _refuse_unknown(config: Path, settings: dict[str, Any]) -> None:
    """Settings that this peft does not know: the adapters would be others than were trained.

    Raises:
        InputError: a switch that is on, or settings of its own; a mere number is said in the log.
    """
    from peft import LoraConfig, __version__

    known = {*_OF_FILES, *(item.name for item in fields(LoraConfig))}
    unread = {name: value for name, value in sorted(settings.items()) if value and name not in known}  # 0, "": off
    if not unread:
        return
    listed = shortened(", ".join(f"`{name}: {value}`" for name, value in unread.items()))
    got = f"{listed} (of peft {shortened(str(settings.get('peft_version') or 'unknown'))})"
    if any(value is True or isinstance(value, dict | list) for value in unread.values()):
        raise InputError(
            f"expected settings that peft {__version__} knows in {config}, got {got}, which would be left out; type "
            "pip install -U peft, or take out what changes nothing"
        )
    # Most often a number beside a switch that is off.
    log_once(log.warning, "%s: peft %s does not know %s and leaves it out", config, __version__, got)


def _refuse_lost_base(config: Path, settings: dict[str, Any]) -> None:
    """Adapters that began by changing their base's weights, in a way that no reader repeats.

    peft changes them again when it reads adapters, exactly for "pissa", "olora" and "mica"; for these it draws other
    numbers, or leaves the base as it was, without a word (peft#2184).
    """
    start = str(settings.get("init_lora_weights")).lower()
    if start.startswith(_LOST_BASES):
        raise InputError(
            f"expected adapters whose base can be restored in {config}, got `init_lora_weights: {shortened(start)}`, "
            "which changed the base's weights in a way that cannot be repeated; save them with peft's "
            "`path_initial_model_for_weight_conversion`, or merge them where they were trained, and set "
            "`policy.source` to the result"
        )


def _refuse_unclear_scale(config: Path, settings: dict[str, Any]) -> None:
    """Refuse scales of layers by keys that peft before 0.15 left out, unless the file says that a later one wrote it.

    peft#2419 gave `^` a meaning; ranks show by their shapes who has followed it, scales do not.
    """
    scales = settings.get("alpha_pattern")
    keys = [key for key in scales if key.startswith("^")] if isinstance(scales, dict) else []
    if keys and version_of(settings) < _FOLLOWED:
        raise InputError(
            f"expected an `alpha_pattern` that means one thing in {config}, got the key {shortened(keys[0])}, which "
            "peft left out before 0.15 and follows since; write there which later version trained them "
            "(`peft_version`), or take the keys out if it was an earlier one"
        )


def version_of(settings: Mapping[str, Any]) -> Version:
    """The version of peft that wrote adapters; 0 for one that did not say (before 0.18)."""
    try:
        return Version(str(settings.get("peft_version")))
    except InvalidVersion:
        return Version("0")
