"""Where reference log-probabilities come from, and how they are kept: by a hash of each (prompt, response).

An interrupted pass resumes, and the next run with the same model and data finds everything there.
"""

import hashlib
import itertools
import logging
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from lit_longpo.batch import PackedBatch, Scores, tensor_on
from lit_longpo.engine import score
from lit_longpo.engine.support import coarsest_dtype
from lit_longpo.errors import InputError
from lit_longpo.files.storing import check_writable, storing
from lit_longpo.policy.loading import PolicyConfig

log = logging.getLogger(__name__)

_LOCK = ".lock"
_FLUSH_SECONDS = 60.0
_ELSEWHERE = "--reference.cache_dir FOLDER"
_CHECK_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 2e-2}


@dataclass
class ReferenceConfig:
    """Where reference log-probabilities come from.

    Args:
        mode: "cached" scores every record once before step 1; "online" scores each batch when it is
            trained on (new adapters off, else a frozen copy of what is trained: up to twice the memory, and refused
            where ZeRO-3 or FSDP2 split the policy).
        cache_dir: folder of the cache; `None` means `reference_cache` in the run's root folder.
        policy: another model as reference, of the policy's tokenizer and read as its own `rope` says; `None` means
            the untrained policy.
    """

    mode: Literal["cached", "online"] = "cached"
    cache_dir: str | None = None
    policy: PolicyConfig | None = None

    def holds_a_model(self, policy: PolicyConfig) -> bool:
        """Whether a frozen model stays beside the policy while it is trained, if an objective asks for scores."""
        return self.mode == "online" and (self.policy is not None or not policy.reference_is_inside)


def copy_problem(reference: ReferenceConfig, policy: PolicyConfig) -> str | None:
    """What to type where a strategy splits the parameters and the reference would be a copy of the split policy.

    Args:
        reference: of an objective that asks for reference scores.
        policy: what is trained.
    """
    if not reference.holds_a_model(policy) or reference.policy is not None:
        return None
    trained = "no `policy.lora`" if policy.trained_lora is None else "`policy.lora.also_train`"
    trained = "adapters that are continued" if policy.continues_adapters else trained
    return (
        f"expected `reference.mode: cached` where a strategy splits the parameters, got online with {trained}: "
        "the reference would be a copy of the split policy; type --reference.mode cached"
    )


class ReferenceCache:
    """Summed reference log-probabilities on disk, keyed by content.

    Args:
        directory: folder of one model's values; made when the first value is stored.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._values: dict[str, float] = {}
        self._new: dict[str, float] = {}
        self._damaged: set[Path] = set()  # told once

    def __len__(self) -> int:
        return len(self._values)

    def load(self) -> None:
        """Read what any run and any rank has stored so far; a damaged file is left out with a word."""
        self._remove_half_written()
        for path in sorted(set(self.directory.glob("*.safetensors")) - self._damaged):
            try:
                self._values.update(_read(path))
            except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
                self._damaged.add(path)
                log.warning("reference: %s is damaged (%s), its rows are scored again; delete it", path, error)

    def has(self, batch: PackedBatch) -> bool:
        """Whether every response of the row is there."""
        return all(key in self._values for key in batch.fingerprints)

    def add(self, batch: PackedBatch, sums: Tensor) -> None:
        """Remember the row's values; `flush` stores them.

        Raises:
            InputError: a value is no number.
        """
        finite = torch.isfinite(sums).tolist()
        if not all(finite):
            name = batch.examples[batch.slots[finite.index(False)].example]
            raise InputError(
                f"expected finite reference log-probabilities, got {sums[finite.index(False)]} for record {name!r}; "
                "set `policy.dtype` (`reference.policy.dtype`) to bfloat16 or float32"
            )
        fresh = dict(zip(batch.fingerprints, sums.tolist(), strict=True))
        self._values.update(fresh)
        self._new.update(fresh)

    def flush(self) -> None:
        """Store new values in a file of their own, under a temporary name first."""
        if not self._new:
            return
        keys = torch.tensor([list(bytes.fromhex(key)) for key in self._new], dtype=torch.uint8)
        tensors = {"keys": keys, "log_probs": torch.tensor(list(self._new.values()), dtype=torch.float32)}
        name = uuid.uuid4().hex
        with storing(self.directory, _ELSEWHERE):
            self.directory.mkdir(parents=True, exist_ok=True)
            with FileLock(self.directory / _LOCK):
                save_file(tensors, self.directory / f"{name}.partial", {"sha256": _sha256(tensors)})
                (self.directory / f"{name}.partial").rename(self.directory / f"{name}.safetensors")
        self._new.clear()

    def _remove_half_written(self) -> None:
        """What killed runs have left; while the lock is to be had, nobody writes."""
        left = list(self.directory.glob("*.partial"))
        if not left:
            return
        try:
            with FileLock(self.directory / _LOCK, blocking=False):
                for path in left:
                    path.unlink(missing_ok=True)
        except Timeout:  # a run is storing values; it or the next one removes them
            return
        except OSError as error:  # another user's cache serves as well
            log.warning("reference: half-written files stay in %s (%s)", self.directory, error)

    def scores(self, batch: PackedBatch) -> Scores:
        """The row's stored scores, on the row's device.

        Raises:
            InputError: a response was never scored.
        """
        missing = [number for number, key in enumerate(batch.fingerprints) if key not in self._values]
        if missing:
            name = batch.examples[batch.slots[missing[0]].example]
            raise InputError(
                f"no reference log-probability for record {name!r} in {self.directory}; the data changed after the "
                "reference pass: start `fit` again, or delete the folder"
            )
        values = [self._values[key] for key in batch.fingerprints]
        sums = tensor_on(batch.score_owners.device, values, torch.float32)
        return Scores(sums=sums, counts=batch.num_scored, slots=batch.slots)


def _read(path: Path) -> dict[str, float]:
    """The file's values by key.

    Raises:
        ValueError: it is not what was stored.
    """
    with safe_open(path, framework="pt") as opened:
        tensors = {name: opened.get_tensor(name) for name in ("keys", "log_probs")}
        stored = (opened.metadata() or {}).get("sha256")
    if stored != _sha256(tensors):
        raise InputError("its checksum is another")
    if not torch.isfinite(tensors["log_probs"]).all():
        raise InputError("it holds what is no number")
    keys = [bytes(row).hex() for row in tensors["keys"].numpy()]
    return dict(zip(keys, tensors["log_probs"].tolist(), strict=True))


def _sha256(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in ("keys", "log_probs"):
        digest.update(tensors[name].numpy().tobytes())
    return digest.hexdigest()


def fill(
    cache: ReferenceCache,
    reference: Callable[[], AbstractContextManager[nn.Module]],
    batches: Iterable[PackedBatch],
    device: torch.device,
    needed: Callable[[bool], bool] = bool,
    scored_by: Callable[[nn.Module, PackedBatch], Scores] = score,
    *,
    verify: bool = True,
) -> int:
    """Score every row that the cache lacks, and one that it has; rows are streamed, none is kept.

    Args:
        cache: loaded cache; grows, and is stored at least every minute.
        reference: enters the model that scores; called once, and not at all if no row is missing and not `verify`.
        batches: every row that training and validation will ask for.
        device: where the model runs.
        needed: whether a row is scored, given whether this rank lacks it. With a sharded model or a shared row
            every forward is a collective call, so a row that one rank lacks is scored by all.
        scored_by: scores of a row by the model.
        verify: compare a stored row with the model even if none is missing, because the model is at hand.

    Returns:
        Number of rows that were missing and scored.

    Raises:
        InputError: a stored row is not what the model gives.
    """
    pending = iter(batches)
    stored, missing = _first_of_each(cache, pending, needed)
    if not missing and (stored is None or not verify):
        return 0
    if missing:
        check_writable(cache.directory, _ELSEWHERE)
        log.info("reference: scoring the rows that %s lacks", cache.directory)
    with reference() as model:

        def scores(batch: PackedBatch) -> Scores:
            return scored_by(model, batch.to(device))

        if stored is not None:
            _verify(cache, scores, stored, _CHECK_TOLERANCE[coarsest_dtype(model)])
        return _score_missing(cache, scores, itertools.chain(missing, pending), needed)


def _first_of_each(
    cache: ReferenceCache, batches: Iterator[PackedBatch], needed: Callable[[bool], bool]
) -> tuple[PackedBatch | None, list[PackedBatch]]:
    """The first row that the cache has, before the first that it lacks, which is consumed with those before it."""
    stored: PackedBatch | None = None
    for batch in batches:
        if needed(not cache.has(batch)):
            return stored, [batch]
        stored = stored or batch
    return stored, []


def _score_missing(
    cache: ReferenceCache,
    scores: Callable[[PackedBatch], Scores],
    batches: Iterable[PackedBatch],
    needed: Callable[[bool], bool],
) -> int:
    flushed, scored = time.monotonic(), 0
    try:
        for batch in batches:
            if not needed(not cache.has(batch)):
                continue
            cache.add(batch, scores(batch).sums)
            scored += 1
            if time.monotonic() - flushed > _FLUSH_SECONDS:
                cache.flush()
                flushed = time.monotonic()
    finally:  # an interrupted pass keeps what it has
        cache.flush()
    return scored


def _verify(
    cache: ReferenceCache, scores: Callable[[PackedBatch], Scores], batch: PackedBatch, tolerance: float
) -> None:
    """Recompute one stored row: a cache that does not belong to this model must not be used."""
    fresh = scores(batch).sums
    stored = cache.scores(batch).sums.to(fresh.device)
    error = float((fresh - stored).abs().max() / stored.abs().max().clamp_min(1.0))
    if not error <= tolerance:
        raise InputError(
            f"stored reference log-probabilities in {cache.directory} differ from this model's by {error:.1e}; "
            "delete that folder and start again"
        )
