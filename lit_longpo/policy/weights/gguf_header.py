"""What a gguf file says before its weights: settings, and the names and sizes of its tensors.

The layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. The `gguf` package makes an object of every token
for it, which takes seconds.
"""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from transformers.utils.hub import cached_file

_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _LIST, _FLOAT32 = 8, 9, 0


@dataclass(frozen=True)
class Tensor:
    """Where a tensor lies.

    Args:
        shape: the dimension whose numbers lie side by side comes first.
        kind: how its numbers are stored.
        offset: behind the header.
    """

    shape: tuple[int, ...]
    kind: int
    offset: int


@dataclass(frozen=True)
class GgufHeader:
    """A file's settings and tensors.

    Args:
        path: the file.
        settings: by their whole names; a list of texts is left out.
        tensors: by name.
        end: of the header, where the first tensor begins.
    """

    path: Path
    settings: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    end: int

    @classmethod
    def of_model(cls, source: str, gguf_file: str) -> "GgufHeader":
        """The header of a model's file, which lies in a folder or in the hub's cache."""
        return cls.read(Path(str(cached_file(source, gguf_file))))

    @classmethod
    def read(cls, path: Path) -> "GgufHeader":
        """The header of a file that transformers has read."""
        with path.open("rb") as file:
            _, _, num_tensors, num_settings = struct.unpack("<4sIQQ", file.read(24))
            settings = dict(_setting(file) for _ in range(num_settings))
            tensors = dict(_tensor(file) for _ in range(num_tensors))
            grain = int(settings.get("general.alignment", 32))
            return cls(path, settings, tensors, -(-file.tell() // grain) * grain)

    def said(self, name: str) -> Any:
        """A setting of the architecture; `None` if the file does not say it."""
        return self.settings.get(f"{self.settings['general.architecture']}.{name}")

    def floats(self, name: str) -> tuple[float, ...] | None:
        """A tensor's numbers; `None` if there is no such tensor in single precision."""
        tensor = self.tensors.get(name)
        if tensor is None or tensor.kind != _FLOAT32:
            return None
        count = math.prod(tensor.shape)
        with self.path.open("rb") as file:
            file.seek(self.end + tensor.offset)
            return struct.unpack(f"<{count}f", file.read(4 * count))


def _setting(file: BinaryIO) -> tuple[str, Any]:
    return _text(file), _value(file, _one(file, "I"))


def _tensor(file: BinaryIO) -> tuple[str, Tensor]:
    name, rank = _text(file), _one(file, "I")
    shape = struct.unpack(f"<{rank}Q", file.read(8 * rank))
    return name, Tensor(shape, _one(file, "I"), _one(file, "Q"))


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == _TEXT:
        return _text(file)
    if kind != _LIST:
        return _one(file, _NUMBERS[kind])
    inner, count = _one(file, "I"), _one(file, "Q")
    if inner in _NUMBERS:
        layout = f"<{count}{_NUMBERS[inner]}"
        return list(struct.unpack(layout, file.read(struct.calcsize(layout))))
    for _ in range(count):
        _value(file, inner)
    return None


def _text(file: BinaryIO) -> str:
    return file.read(_one(file, "Q")).decode("utf-8", "replace")


def _one(file: BinaryIO, kind: str) -> Any:
    [value] = struct.unpack(f"<{kind}", file.read(struct.calcsize(f"<{kind}")))
    return value
