"""Writes config.json with transformers 4's names beside those of transformers 5, for readers that only know the old.

transformers 5 writes rotary positions as `rope_parameters` alone. Who does not know that name (transformers 4, and what
builds on it: vLLM, converters) takes a base of 10,000 without scaling, and says nothing (vllm#44158, marin#7156).
"""

import json
import logging
import tempfile
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig

from lit_longpo.files.stored import write_json

log = logging.getLogger(__name__)

_ROPE = "rope_parameters"
_BASE, _SHARE = "rope_theta", "partial_rotary_factor"  # fields of it, which stood beside `rope_scaling`
_RENAMED = {"dtype": "torch_dtype", "num_local_experts": "num_experts"}
_NAMES = {  # of models that call the base, or the share of a head that turns, otherwise
    "gpt_neox": {_BASE: "rotary_emb_base", _SHARE: "rotary_pct"},
    "modernbert": {_BASE: "global_rope_theta"},
    "modernbert-decoder": {_BASE: "global_rope_theta"},
}
_LONG_ROPE_OF_THREE = ("phi3", "phi4_multimodal")  # which took a type and the two lists of factors alone
_LOCAL_BASES = {  # of models whose layers with a window turn otherwise; `None` if they differ in scaling alone
    "gemma3_text": "rope_local_base_freq",
    "gemma3n_text": "rope_local_base_freq",
    "modernbert": "local_rope_theta",
    "modernbert-decoder": "local_rope_theta",
    "olmo3": None,
}


def write_earlier_names(folder: Path, config_class: type[PreTrainedConfig]) -> None:
    """Add them to a saved model; whoever reads both names, or the earlier ones alone, reads the same.

    Models whose code is not transformers' are left as their code writes them.
    """
    if not config_class.__module__.startswith("transformers."):
        return
    path = folder / "config.json"
    saved = json.loads(path.read_text(encoding="utf-8"))
    told = with_earlier_names(saved)
    if told == saved:
        return
    meant = _read(config_class, saved)
    if all(_says(_read(config_class, each), meant) for each in (told, _without_rope(told))):
        write_json(path, told, indent=2, sort_keys=True)
    else:
        log.warning(
            "transformers 4, and what builds on it, reads other rotary positions from %s, which have no names there; "
            "read the folder with transformers 5",
            path,
        )


def with_earlier_names(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration, and those inside it, with the names of transformers 4 beside those of 5.

    Layers that turn in different ways had no names there but in a few models.
    """
    parts = {name: with_earlier_names(part) for name, part in config.items() if _is_configuration(part)}
    told = {**config, **parts, **{earlier: config[name] for name, earlier in _RENAMED.items() if name in config}}
    rope, kind = config.get(_ROPE) or {}, str(config.get("model_type"))
    if "full_attention" not in rope:
        return told if any(isinstance(part, dict) for part in rope.values()) else told | _earlier_rope(kind, rope)
    if kind not in _LOCAL_BASES:
        return told
    told |= _earlier_rope(kind, rope["full_attention"])
    if local := _LOCAL_BASES[kind]:
        told[local] = rope["sliding_attention"][_BASE]
    return told


def _earlier_rope(kind: str, rope: dict[str, Any]) -> dict[str, Any]:
    names = {_BASE: _BASE, _SHARE: _SHARE, **_NAMES.get(kind, {})}
    said = {name: rope[field] for field, name in names.items() if field in rope}
    if rope.get("rope_type", "default") == "default":
        return said
    scaling = {name: value for name, value in rope.items() if name not in names}
    if kind in _LONG_ROPE_OF_THREE:
        scaling = {"type": scaling["rope_type"], **{name: scaling[name] for name in ("short_factor", "long_factor")}}
    return {**said, "rope_scaling": scaling}


def _is_configuration(part: Any) -> bool:
    return isinstance(part, dict) and "model_type" in part


def _without_rope(config: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _without_rope(part) if _is_configuration(part) else part for name, part in config.items() if name != _ROPE
    }


def _read(config_class: type[PreTrainedConfig], config: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.json"
        path.write_text(json.dumps(config), encoding="utf-8")
        return config_class.from_json_file(path).to_dict()


def _says(read: Any, meant: Any) -> bool:
    """Whether everything that is meant was read; what was read may have more names for it."""
    if isinstance(read, dict) and isinstance(meant, dict):
        return all(name in read and _says(read[name], value) for name, value in meant.items())
    return bool(read == meant)
