"""Reference log-probabilities as sorted tables: 20 bytes a response, looked up by bisection.

A pass writes a small file every minute. When it is over, these are merged into one table, which is mapped from its
file and never written again: processes share its pages, and a row reads a few of them. A mapped file is deleted by
nobody, as its pages would be gone for whoever has mapped it on another machine.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lit_longpo.errors import InputError
from lit_longpo.files.tensor_files import save_tensors

Keys = NDArray[np.bytes_]

DAMAGE = (SafetensorError, OSError, KeyError, TypeError, ValueError)  # that reading a table may meet
_KEY = np.dtype("S16")
_MERGED = {"merged": "yes"}  # in a file's metadata: it is mapped, and stays


def table_keys(fingerprints: Sequence[str]) -> Keys:
    """Fingerprints of 32 hex digits as numbers of 16 bytes. Shape: (fingerprints,)."""
    return np.array([bytes.fromhex(fingerprint) for fingerprint in fingerprints], dtype=_KEY)


@dataclass(frozen=True)
class ValueTable:
    """Values by key.

    Args:
        keys: ascending, none twice. Shape: (values,).
        log_probs: of the keys. Shape: (values,).
        merged: whether it is mapped from a file that stays.
    """

    keys: Keys
    log_probs: NDArray[np.float32]
    merged: bool = False

    @classmethod
    def of(cls, values: Mapping[str, float]) -> "ValueTable":
        """Values by fingerprint, in any order."""
        return _ascending(table_keys(list(values)), np.fromiter(values.values(), np.float32, len(values)))

    @classmethod
    def read(cls, path: Path) -> "ValueTable":
        """A file's values; those of a merged one are mapped.

        Raises:
            InputError: they are not what was stored.
        """
        with safe_open(path, framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in ("keys", "log_probs")}
            notes = opened.metadata() or {}
        keys, log_probs = tensors["keys"].numpy(), tensors["log_probs"].numpy()
        if notes.get("sha256") != _sha256(tensors):
            raise InputError("its checksum is another")
        if keys.shape != (len(log_probs), _KEY.itemsize) or keys.dtype != np.uint8:
            raise InputError("its keys are none of responses")
        if not np.isfinite(log_probs).all():
            raise InputError("it holds what is no number")
        names = keys.view(_KEY)[:, 0]
        merged = notes.get("merged") == _MERGED["merged"] and bool((names[1:] > names[:-1]).all())
        return cls(names, log_probs, merged) if merged else _ascending(names, log_probs)

    def save(self, path: Path, *, merged: bool = False) -> None:
        """Write a file that `read` understands."""
        numbers = np.ascontiguousarray(self.keys).view(np.uint8).reshape(-1, _KEY.itemsize)
        tensors = {"keys": torch.from_numpy(numbers), "log_probs": torch.from_numpy(self.log_probs)}
        save_tensors(tensors, path, {"sha256": _sha256(tensors), **(_MERGED if merged else {})})

    def __len__(self) -> int:
        return len(self.keys)

    def find(self, keys: Keys) -> NDArray[np.float32]:
        """Values of the keys, NaN where there is none. Shape of both: (keys,)."""
        found = np.full(len(keys), np.nan, dtype=np.float32)
        if len(self):
            places = np.searchsorted(self.keys, keys).clip(max=len(self) - 1)
            there = self.keys[places] == keys
            found[there] = self.log_probs[places[there]]
        return found


def merged_table(tables: Iterable[ValueTable], beside: Iterable[ValueTable]) -> ValueTable:
    """All values that are not beside them already, in one table in memory.

    Args:
        tables: of values; of a key in several, the first one's counts.
        beside: tables that stay.
    """
    parts = [*tables, _ascending(np.empty(0, _KEY), np.empty(0, np.float32))]
    whole = _ascending(np.concatenate([part.keys for part in parts]), np.concatenate([p.log_probs for p in parts]))
    known = np.zeros(len(whole), dtype=np.bool_)
    for table in beside:
        known |= ~np.isnan(table.find(whole.keys))
    return ValueTable(whole.keys[~known], whole.log_probs[~known]) if known.any() else whole


def _ascending(keys: Keys, log_probs: NDArray[np.float32]) -> ValueTable:
    """A table of copies in order."""
    ordered, places = np.unique(keys, return_index=True)
    return ValueTable(ordered, log_probs[places])


def _sha256(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in ("keys", "log_probs"):
        digest.update(tensors[name].numpy().reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
