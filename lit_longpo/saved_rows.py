"""Packed rows in a file: tensors and plain values, so that whoever gets one runs no code by reading it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from lit_longpo.batch import PackedBatch, PreferenceBatch, Segment, SegmentTable, Sharing, Slot
from lit_longpo.errors import InputError, error_text
from lit_longpo.files.tensor_files import save_tensors

_TENSORS = ("input_ids", "position_ids", "score_index", "score_targets", "score_owners")
_ROWS = "rows"


def save_rows(path: Path, rows: Sequence[PreferenceBatch]) -> None:
    """Write what an objective was handed.

    Args:
        path: of the file, in safetensors' form; the rest of the rows is JSON in its metadata.
        rows: in the order in which they were trained on.
    """
    tensors, described = dict[str, Tensor](), list[dict[str, Any]]()
    for number, row in enumerate(rows):
        described.append(_described(row))
        tensors |= {f"{number}.{name}": value.detach().cpu().contiguous() for name, value in _tensors(row)}
    save_tensors({name: tensor.clone() for name, tensor in tensors.items()}, path, {_ROWS: json.dumps(described)})


def read_rows(path: Path) -> list[PreferenceBatch]:
    """The rows of a file that `save_rows` wrote.

    Raises:
        InputError: it is another file, or damaged.
    """
    try:
        with safe_open(path, framework="pt") as opened:
            described = json.loads((opened.metadata() or {})[_ROWS])
            return [_row(number, one, opened.get_tensor) for number, one in enumerate(described)]
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"expected rows as `NonFiniteGuard` saves them at {path}, got another file ({type(error).__name__}: "
            f"{error_text(error)}); name a non_finite*.safetensors of a run's folder"
        ) from error


def _tensors(row: PreferenceBatch) -> Iterator[tuple[str, Tensor]]:
    for part in ("policy",) if row.same_row else ("policy", "reference"):
        packed = getattr(row, part)
        if packed is not None:
            yield from ((f"{part}.{name}", getattr(packed, name)) for name in _TENSORS)
    yield from ((name, value) for name in ("weights", "margins") if (value := getattr(row, name)) is not None)
    yield from ((f"sources.{name}", mask) for name, mask in (row.sources or {}).items())


def _described(row: PreferenceBatch) -> dict[str, Any]:
    """Everything that is no tensor."""
    parts = {"policy": row.policy, "reference": None if row.same_row else row.reference}
    return {
        **{name: None if part is None else _values(part) for name, part in parts.items()},
        "same_row": row.same_row,
        "has": [name for name in ("weights", "margins") if getattr(row, name) is not None],
        "sources": None if row.sources is None else sorted(row.sources),
    }


def _values(packed: PackedBatch) -> dict[str, Any]:
    return {
        "pieces": packed.table.pieces,
        "segments": [(segment.query_length, segment.key_pieces) for segment in packed.table.segments],
        "slots": [asdict(slot) for slot in packed.slots],
        "fingerprints": packed.fingerprints,
        "examples": packed.examples,
        "leaps": packed.leaps,
        "scored_tails": packed.scored_tails,
        "sharing": None if packed.sharing is None else asdict(packed.sharing),
    }


def _row(number: int, described: Mapping[str, Any], tensor: Any) -> PreferenceBatch:
    def packed(part: str) -> PackedBatch | None:
        values = described[part]
        return None if values is None else _packed(values, lambda name: tensor(f"{number}.{part}.{name}"))

    policy = packed("policy")
    assert policy is not None
    own = {name: tensor(f"{number}.{name}") for name in described["has"]}
    sources = described["sources"]
    masks = None if sources is None else {name: tensor(f"{number}.sources.{name}") for name in sources}
    return PreferenceBatch(policy, policy if described["same_row"] else packed("reference"), **own, sources=masks)


def _packed(values: Mapping[str, Any], tensor: Any) -> PackedBatch:
    segments = tuple(Segment(length, tuple(pieces)) for length, pieces in values["segments"])
    return PackedBatch(
        **{name: tensor(name) for name in _TENSORS},
        table=SegmentTable(tuple(values["pieces"]), segments),
        slots=tuple(Slot(**slot) for slot in values["slots"]),
        fingerprints=tuple(values["fingerprints"]),
        examples=tuple(values["examples"]),
        leaps=values["leaps"],
        scored_tails=tuple(values["scored_tails"]),
        sharing=_sharing(values["sharing"]),
    )


def _sharing(values: Mapping[str, Any] | None) -> Sharing | None:
    if values is None:
        return None
    groups, scored, tails = (tuple(values[name]) for name in ("groups", "scored", "first_tails"))
    return Sharing(groups, scored, tails, values["num_tokens"])
