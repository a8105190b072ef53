"""Whole weights from any strategy's checkpoint, in one process and without the run."""

import contextlib
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lit_longpo.checkpoints.whole import kind
from lit_longpo.errors import MissingPackageError

_ATTRIBUTE = "model."  # the policy's name inside the LightningModule
_NESTED = "state_dict."  # the weights' name inside torch's folders


def read_weights(path: Path) -> dict[str, Tensor]:
    """The policy's tensors by name, whole and on the CPU; with adapters perhaps only what was trained.

    Args:
        path: file or folder that `ModelCheckpoint` wrote under any strategy.

    Raises:
        ImportError: a DeepSpeed folder, and DeepSpeed is not installed.
        ValueError: it is no checkpoint.
    """
    readers = {"file": _from_file, "torch folder": _from_torch_folder, "DeepSpeed folder": _from_deepspeed_folder}
    weights = readers[kind(path)](path)
    return {name.removeprefix(_ATTRIBUTE): tensor for name, tensor in weights.items()}


def read_record(path: Path) -> dict[str, Any]:
    """What the checkpoint says about its run (see `run_record`); empty if it says nothing."""
    file = path
    if kind(path) == "torch folder":
        file = path / "meta.pt"
    elif kind(path) == "DeepSpeed folder":
        file = next(iter(sorted((path / _tag(path)).glob("*model_states.pt"))))
    # DeepSpeed's files hold objects of its own, and it loads them without this protection, too.
    contents = torch.load(file, map_location="cpu", mmap=True, weights_only=kind(path) != "DeepSpeed folder")
    return contents.get("run", {})


def _from_file(path: Path) -> dict[str, Tensor]:
    return torch.load(path, map_location="cpu", mmap=True, weights_only=True)["state_dict"]


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


def _from_deepspeed_folder(path: Path) -> dict[str, Tensor]:
    try:
        from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint
    except ImportError as missing:
        raise MissingPackageError(
            f'{path} was written by DeepSpeed, which is not installed; type: pip install "lit_longpo[deepspeed]"'
        ) from missing
    with contextlib.redirect_stdout(sys.stderr):  # it prints as it goes
        state: dict[str, Tensor] = get_fp32_state_dict_from_zero_checkpoint(str(path))
    return state


def _tag(path: Path) -> str:
    return (path / "latest").read_text().strip()
