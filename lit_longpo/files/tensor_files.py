"""Writes files of safetensors that may be read by whom any new file may be read."""

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor


def save_tensors(tensors: Mapping[str, Tensor], path: Path, notes: Mapping[str, str]) -> None:
    """Write tensors and notes on them; safetensors alone lets nobody but the owner read them (its issue 782)."""
    path.touch()
    mode = path.stat().st_mode
    save_file(dict(tensors), path, dict(notes))
    path.chmod(mode)
