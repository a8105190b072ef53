"""Whole weights from any strategy's checkpoint, in one process and without the run."""

import contextlib
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lit_longpo.checkpoints.progress import taken
from lit_longpo.checkpoints.record import Settings, contradictions
from lit_longpo.checkpoints.unpickling import plain_contents, refuse_code
from lit_longpo.checkpoints.whole import contents_hash, deepspeed_tag, kind, refuse_broken
from lit_longpo.errors import InputError, MissingPackageError
from lit_longpo.optimization import Taken

log = logging.getLogger(__name__)

_ATTRIBUTE = "model."  # the policy's name inside the LightningModule
_NESTED = "state_dict."  # the weights' name inside torch's folders
_SCALES = ".quant_state."  # in a name below that of a 4-bit weight


def read_weights(path: Path, *, trusted: bool = False) -> dict[str, Tensor]:
    """The policy's tensors by name, whole and on the CPU; with adapters perhaps only what was trained.

    Args:
        path: file or folder that `ModelCheckpoint` wrote under any strategy.
        trusted: whether it may hold more than tensors and plain values, and loading it may run code.

    Raises:
        MissingPackageError: a DeepSpeed folder, and DeepSpeed is not installed.
        InputError: it is no checkpoint, or holds more than it may.
    """
    form = kind(path)
    if not trusted:
        refuse_code(path, f"python -m lit_longpo export --checkpoint {path} --output FOLDER --trust_checkpoint")
    refuse_bare(path)
    if form == "file":
        weights = torch.load(path, map_location="cpu", mmap=True, weights_only=not trusted)["state_dict"]
    else:
        weights = _from_torch_folder(path) if form == "torch folder" else _from_deepspeed_folder(path, trusted)
    return {name.removeprefix(_ATTRIBUTE): tensor for name, tensor in weights.items()}


def read_record(path: Path) -> dict[str, Any]:
    """What the checkpoint says about its run (see `run_record`); empty if it says nothing, or holds foreign objects."""
    record = _contents(path).get("run", {})
    return record if isinstance(record, dict) else {}


def taken_before(path: Path) -> Taken:
    """The steps, epochs and rows before a checkpoint."""
    return taken(_contents(path))


def holds_weights_alone(path: Path) -> bool:
    """Whether Lightning has left the optimizer's state and all else out (`save_weights_only`), so no run goes on."""
    contents = _contents(path)
    return "pytorch-lightning_version" in contents and "lr_schedulers" not in contents


def _contents(path: Path) -> dict[str, Any]:
    """What Lightning has written beside what a strategy splits; empty where nobody can read it."""
    file = path
    if kind(path) == "torch folder":
        file = path / "meta.pt"
    elif kind(path) == "DeepSpeed folder":
        file = next(iter(sorted((path / deepspeed_tag(path)).glob("*model_states.pt"))), path)
    try:
        contents = plain_contents(file, of_deepspeed=kind(path) == "DeepSpeed folder")
    except Exception:  # foreign or broken in any way: whoever loads it says so
        return {}
    return contents if isinstance(contents, dict) else {}


def refuse_bare(path: Path) -> None:
    """Refuse a file of weights and nothing else, as `torch.save` of them and DeepSpeed's `zero_to_fp32` leave one."""
    contents = _contents(path) if kind(path) == "file" else {}
    if contents and "state_dict" not in contents:
        raise InputError(
            f"expected a checkpoint of a training at {path}, got a file without `state_dict`, of weights alone; name "
            "the checkpoint that it was made from (zero_to_fp32 is not needed), or export that and set `policy.source`"
        )


def load_initial_weights(model: nn.Module, path: Path, settings: Settings) -> None:
    """Start from a checkpoint's weights, and from nothing else that it holds.

    Raises:
        InputError: the checkpoint is broken, or its weights mean another model here.
    """
    refuse_broken(path, "--initial_weights")
    if any(hasattr(parameter, "ds_id") for parameter in model.parameters()):
        raise InputError(
            "expected no `initial_weights` under ZeRO-3, which has split the policy by now; type instead: "
            f"{by_export(path)}"
        )
    record = read_record(path)
    meant = _decides_the_model(record.get("settings") or {}, settings)
    for name, (then, now) in contradictions(record, settings).items():
        if name.startswith(meant) and name != "policy.lora.dropout":
            raise InputError(
                f"expected `{name}: {then}` with the weights of {path}, which mean another model otherwise, got {now}; "
                "set it, or export the checkpoint and set `policy.source` to the folder"
            )
    advice = "set the `policy` section that it was trained with (config.yaml of its run)"
    fill_policy(model, read_weights(path), path, advice, everything=settings.get("policy.weights") == "random")
    log.info("initial weights: those of %s", path)  # also of a run that goes on


def _decides_the_model(then: Mapping[str, Any], now: Settings) -> tuple[str, ...]:
    """Settings without which a checkpoint's weights mean another model: what they sit on, where they are a part."""
    is_part = now.get("policy.lora") is not None or then.get("policy.train_only") or then.get("policy.freeze")
    base = ("policy.source", "policy.gguf_file", "policy.quantization") if is_part else ()
    return ("policy.lora", "policy.added_tokens", "policy.added_special_tokens", *base)


def start_settings(path: Path | None) -> Settings:
    """The checkpoint whose weights a training starts with, as the run's record names it, and their hash."""
    return {
        "initial_weights": path and str(path.resolve()),
        "initial_weights.files": path and contents_hash(path),
    }


def by_export(path: Path) -> str:
    """What to type to start from a checkpoint's weights where `initial_weights` cannot; the reference stays."""
    return (
        f"python -m lit_longpo export --checkpoint {path} --output FOLDER, then --policy.source FOLDER and, if the "
        "objective has a reference, --reference.policy.source with the old source"
    )


def fill_policy(model: nn.Module, weights: Mapping[str, Tensor], path: Path, advice: str, *, everything: bool) -> None:
    """Copy a checkpoint's weights into the policy.

    Args:
        model: built as it was trained.
        weights: everything that was trained, by name; frozen weights may be missing.
        path: the checkpoint, for the error.
        advice: what to type otherwise.
        everything: frozen weights may not be missing either: they were random, nobody has them.

    Raises:
        InputError: names or shapes are not the policy's.
    """
    known = dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers())
    shapes = {name: tuple(tensor.shape) for name, tensor in known.items()}
    needed = {name for name, tensor in model.named_parameters() if tensor.requires_grad or everything}
    lost = sorted(needed - set(weights))
    odd = sorted(name for name, tensor in weights.items() if shapes.get(name) != tuple(tensor.shape))
    if lost or odd:
        raise InputError(
            f"{path} does not hold the policy of its config.yaml: {len(lost)} tensors are missing and "
            f"{len(odd)} are unknown or of another shape, for example {(lost + odd)[0]!r}; {advice}"
        )
    model.load_state_dict(weights, strict=False)


def _from_torch_folder(path: Path) -> dict[str, Tensor]:
    """Read every tensor of the model and none of the optimizer."""
    from torch.distributed.checkpoint.filesystem import FileSystemReader
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata
    from torch.distributed.checkpoint.state_dict_loader import load

    reader = FileSystemReader(path)
    sizes = reader.read_metadata().state_dict_metadata
    state: dict[str, Any] = {
        name: torch.empty(entry.size, dtype=entry.properties.dtype)
        for name, entry in sizes.items()
        if name.startswith(_NESTED) and isinstance(entry, TensorStorageMetadata)
    }
    load(state, storage_reader=reader, no_dist=True)
    return {name.removeprefix(_NESTED): tensor for name, tensor in state.items()}


def _from_deepspeed_folder(path: Path, trusted: bool) -> dict[str, Tensor]:
    try:
        from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint
    except ImportError as missing:
        raise MissingPackageError(
            f'{path} was written by DeepSpeed, which is not installed; type: pip install "lit_longpo[deepspeed]"'
        ) from missing
    with contextlib.redirect_stdout(sys.stderr):  # it prints as it goes
        state: dict[str, Tensor] = get_fp32_state_dict_from_zero_checkpoint(str(path))
    return _whole_on_first_rank(path, trusted) | state


def _whole_on_first_rank(path: Path, trusted: bool) -> dict[str, Tensor]:
    """The model's own state, where ZeRO-1 leaves frozen weights: DeepSpeed's reader passes over them there.

    Scales of 4-bit weights are in it, too, which have no place in a policy's names: they are the base's. So is the
    second name of a tied weight whose first one was left out with what is frozen.
    """
    file = path / deepspeed_tag(path) / "mp_rank_00_model_states.pt"  # of ZeRO-3 every rank has one of another name
    if not file.is_file():
        return {}
    contents = (
        torch.load(file, map_location="cpu", mmap=True, weights_only=False)
        if trusted
        else plain_contents(file, of_deepspeed=True)
    )
    held = contents["module"]
    scaled = tuple(name.partition(_SCALES)[0] + "." for name in held if _SCALES in name)
    left_out = {name for name, first in (contents.get("shared_params") or {}).items() if first not in held}
    own = (name for name in held if name.startswith(_ATTRIBUTE) and name not in left_out)
    return {name: held[name] for name in own if held[name].numel() and not name.startswith(scaled)}
