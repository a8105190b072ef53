"""Refuses checkpoints that would run code when torch or DeepSpeed unpickle them.

Every pickle in one is read beforehand by a reader that makes tensors and plain values and nothing else, and refuses
what names another thing. What has passed can be handed to the library, which makes of the same bytes the same things.
"""

import io
import pickle
from collections.abc import Callable, Iterator
from enum import Enum
from importlib import import_module
from pathlib import Path
from types import FunctionType
from typing import IO, Any, ClassVar

import torch

from lit_longpo.checkpoints.whole import deepspeed_tag, kind
from lit_longpo.errors import InputError, error_text
from lit_longpo.files.strict_json import shortened

# Exact names: a module's own imports are attributes of it, too.
_OF_METADATA = {
    "torch": ("Size", *(name for name in dir(torch) if isinstance(getattr(torch, name), torch.dtype))),
    "torch.serialization": ("_get_layout",),
    "torch.distributed.checkpoint.filesystem": ("_StorageInfo",),
    "torch.distributed.checkpoint.metadata": (
        *("BytesStorageMetadata", "ChunkStorageMetadata", "Metadata", "MetadataIndex", "StorageMeta"),
        *("TensorProperties", "TensorStorageMetadata", "_MEM_FORMAT_ENCODING"),
    ),
    "pathlib": ("PosixPath", "PurePosixPath"),
    "collections": ("OrderedDict",),
}
_OF_DEEPSPEED = (
    "deepspeed.runtime.fp16.loss_scaler.DynamicLossScaler",
    "deepspeed.runtime.fp16.loss_scaler.LossScaler",
    "deepspeed.runtime.zero.config.ZeroStageEnum",
    "deepspeed.utils.tensor_fragment.fragment_address",
)


class _MetadataReader(pickle._Unpickler):
    """Makes what torch writes into `.metadata`, and refuses every other name.

    Python's own form of the unpickler, whose steps can be looked at: one of them could give a class other attributes,
    with which torch would read the same bytes otherwise.
    """

    dispatch: ClassVar[dict[int, Callable[[pickle.Unpickler], None]]] = dict(pickle._Unpickler.dispatch)

    def find_class(self, module: str, name: str) -> Any:
        """The class, if torch's folders hold such."""
        if name not in _OF_METADATA.get(module, ()):
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return super().find_class(module, name)

    def load_build(self) -> None:
        """Fill what was made, and nothing that was there before."""
        changed = self.stack[-2]  # type: ignore[attr-defined]
        if isinstance(changed, type | FunctionType | Enum):
            raise pickle.UnpicklingError(f"it changes {changed!r}")
        super().load_build()  # type: ignore[misc]

    dispatch[pickle.BUILD[0]] = load_build  # type: ignore[assignment]


def code_in(path: Path) -> str | None:
    """What of a checkpoint would be run, or cannot be read, in words; `None` if it is tensors and plain values.

    Raises:
        InputError: it is none of these.
    """
    return next(_problems(path), None)


def refuse_code(path: Path, consent: str) -> None:
    """Refuse a checkpoint that holds more than tensors and plain values.

    Raises:
        InputError: naming file and object; or it is no checkpoint.
    """
    if (problem := code_in(path)) is not None:
        raise InputError(
            f"expected tensors and plain values in {path}, but {problem}; loading it could run whatever its writer "
            f"wanted: only if you made it yourself, type {consent}"
        )


def plain_contents(file: Path | IO[bytes], *, of_deepspeed: bool) -> Any:
    """What torch saved, if it is tensors and plain values; of a path no tensor is read yet.

    Args:
        file: written by `torch.save`.
        of_deepspeed: allow the three kinds of settings that DeepSpeed saves beside tensors.

    Raises:
        UnpicklingError: it holds something else.
        Exception: it is broken; of any kind.
    """
    known = [name for name in _foreign(file) if name in _OF_DEEPSPEED] if of_deepspeed else []
    with torch.serialization.safe_globals([_class(name) for name in known]):
        return torch.load(file, map_location="cpu", mmap=isinstance(file, Path), weights_only=True)


def _problems(path: Path) -> Iterator[str]:
    form = kind(path)
    if form == "file":
        yield from _of_file(path, path.name)
    elif form == "torch folder":
        yield from _of_torch_folder(path)
    else:
        yield from _of_deepspeed_folder(path)


def _of_torch_folder(path: Path) -> Iterator[str]:
    if (path / "meta.pt").is_file():
        yield from _of_file(path / "meta.pt", "meta.pt")
    try:
        with (path / ".metadata").open("rb") as file:
            metadata = _MetadataReader(file).load()
        pieces = list(_pickled_pieces(metadata))
    except Exception as error:  # a broken pickle fails in any way
        yield f".metadata is no list of tensors ({shortened(error_text(error))})"
        return
    for name, info in pieces:
        with (path / info.relative_path).open("rb") as file:
            file.seek(info.offset)
            yield from _of_file(io.BytesIO(file.read(info.length)), f"{name} in {info.relative_path}")


def _pickled_pieces(metadata: Any) -> Iterator[tuple[str, Any]]:
    """What is no tensor, by name: torch's planner unpickles it whatever it is."""
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata

    for index, info in metadata.storage_data.items():
        if not isinstance(metadata.state_dict_metadata[index.fqn], TensorStorageMetadata):
            if info.transform_descriptors:
                raise pickle.UnpicklingError(f"{index.fqn} is packed")
            yield index.fqn, info


def _of_deepspeed_folder(path: Path) -> Iterator[str]:
    tag = deepspeed_tag(path)
    if Path(tag).name != tag or not (path / tag).is_dir():
        yield f"`latest` names {tag!r}, which is no folder in it"
        return
    for file in sorted((path / tag).rglob("*.pt")):
        yield from _of_file(file, file.name, of_deepspeed=True)


def _of_file(file: Path | IO[bytes], name: str, *, of_deepspeed: bool = False) -> Iterator[str]:
    try:
        plain_contents(file, of_deepspeed=of_deepspeed)
    except Exception as error:  # a broken pickle fails in any way
        named = [item for item in _foreign(file) if not of_deepspeed or item not in _OF_DEEPSPEED]
        yield f"{name} names {named[0]}" if named else f"{name} cannot be read ({shortened(error_text(error))})"


def _foreign(file: Path | IO[bytes]) -> list[str]:
    """What a file names and torch does not make of its own accord; of no zip file nothing is known."""
    if not isinstance(file, Path):
        file.seek(0)
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(file))
    except Exception:  # no zip file, or no pickle: then torch's reader refuses it
        return []
    finally:
        if not isinstance(file, Path):
            file.seek(0)


def _class(name: str) -> Callable[..., Any]:
    module, _, attribute = name.rpartition(".")
    found: Callable[..., Any] = getattr(import_module(module), attribute)
    return found
