"""Folders that hold a tensor twice: transformers reads one of them, perhaps an older model's, and says nothing.

Of one file and an index of shards it takes the file; of shards all that is in them, whatever the index says, so that
the last shard wins (mlx-vlm#1329, vllm#54230). Shards of ranks hold parts of tensors, and are read otherwise.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from safetensors import safe_open
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, WEIGHTS_INDEX_NAME, WEIGHTS_NAME

from lit_longpo.errors import InputError

_OF_RANKS = "shard-?????-model-?????-of-?????.safetensors"


def refuse_shards_of_ranks(source: str) -> None:
    """Refuse weights of which each rank has saved its part, by `distributed_checkpoint=True` or torch's own writer.

    transformers has another way to read those. Without a word, it passes over tensors that the model lacks (layers,
    heads, scales of 8-bit weights), takes integers for numbers, and mixes them with other files of the folder.
    """
    if found := next(Path(source).glob(_OF_RANKS), None):
        raise InputError(
            f"expected whole tensors at {source}, got what each rank has saved of them ({found.name}); put them "
            'together in another folder, type: python -c "from transformers.distributed.checkpoint import '
            f"consolidate_distributed_checkpoint as whole; whole('{source}', 'WHOLE')\", copy config.json and the "
            "tokenizer there, and set `policy.source` to it"
        )


def refuse_twice(source: str) -> None:
    """Refuse a folder that holds a tensor twice."""
    folder = Path(source)
    for whole, index in ((SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME), (WEIGHTS_NAME, WEIGHTS_INDEX_NAME)):
        shards = _shards_of(folder / index)
        if (folder / whole).is_file() and shards - {whole}:  # MLX writes an index of the one file
            raise InputError(
                f"expected the weights of one model at {source}, got {whole}, which would be read, and the shards of "
                f"{index}; move away those that are not meant"
            )
        if index == SAFE_WEIGHTS_INDEX_NAME:
            _refuse_in_two_shards(folder, sorted(shards))
        if shards or (folder / whole).is_file():
            return  # what comes later is not read


def files_read(folder: Path, named: str | None) -> list[Path]:
    """The files of weights in a folder that transformers reads, whatever others lie beside them.

    `named` is `transformers_weights` of its configuration: a file, or an index of shards, that is read in their place.
    """
    if named is not None:
        return [folder / name for name in sorted(_shards_of(folder / named)) or [named]]
    for whole, index in ((SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME), (WEIGHTS_NAME, WEIGHTS_INDEX_NAME)):
        names = [whole] if (folder / whole).is_file() else sorted(_shards_of(folder / index))
        if names:
            return [folder / name for name in names]
    return []


def _shards_of(index: Path) -> set[str]:
    if index.suffix != ".json" or not index.is_file():
        return set()
    return set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())


def _refuse_in_two_shards(folder: Path, shards: Iterable[str]) -> None:
    found = dict[str, str]()
    for shard in shards:
        with safe_open(folder / shard, "pt") as tensors:  # type: ignore[no-untyped-call]
            names = list(tensors.keys())
        for name in names:
            if found.setdefault(name, shard) != shard:
                raise InputError(
                    f"expected each tensor once in the shards at {folder}, got {name} in {found[name]} and in {shard}, "
                    "whose would be read; write it out of the one that is not meant"
                )
