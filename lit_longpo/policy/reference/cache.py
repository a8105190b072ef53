"""Stores reference log-probabilities on disk by a hash of each (prompt, response), and fills the store in one pass.

An interrupted pass resumes, and the next run with the same model and data finds everything there.
"""

import itertools
import logging
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor, nn

from lit_longpo.batch import PackedBatch, Scores, tensor_on
from lit_longpo.engine import score
from lit_longpo.engine.startup.probe import coarsest_dtype
from lit_longpo.errors import InputError
from lit_longpo.files.storing import check_writable, storing
from lit_longpo.policy.reference.tables import DAMAGE, ValueTable, merged_table, table_keys

log = logging.getLogger(__name__)

_LOCK = ".lock"
_FLUSH_SECONDS = 60.0
_MERGE_SECONDS = 30.0  # that merging waits for another run's lock
_ELSEWHERE = "--reference.cache_dir FOLDER"
_CHECK_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 2e-2}


class ReferenceCache:
    """Summed reference log-probabilities on disk, keyed by content.

    During a pass the values of each minute are stored in a file of their own. At its end `merge` makes one file of
    them, which later runs map into memory.

    Args:
        directory: folder of one model's values; made when the first value is stored.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._tables: list[ValueTable] = []
        self._new: dict[str, float] = {}  # of the last minute
        self._damaged: set[Path] = set()  # told once

    def __len__(self) -> int:
        return sum(map(len, self._tables)) + len(self._new)

    def load(self) -> None:
        """Find what all runs and ranks have stored so far; a damaged file is left out with a warning."""
        self._remove_half_written()
        tables = list(self._stored().values())
        stay = [table for table in tables if table.merged]
        passing = merged_table([table for table in tables if not table.merged], beside=stay)
        self._tables = [*stay, passing] if len(passing) else stay

    def merge(self) -> None:
        """Join the files of single minutes into one; a folder that is not writable stays as it is."""
        if not self.directory.is_dir():
            return
        try:
            with FileLock(self.directory / _LOCK, timeout=_MERGE_SECONDS):
                self._merge()
        except (Timeout, OSError, SafetensorError) as error:  # another user's cache, or a full disk
            log.info("reference: the files in %s are not merged (%s)", self.directory, error)

    def _merge(self) -> None:
        stored = self._stored()
        stay = [table for table in stored.values() if table.merged]
        passing = {path: table for path, table in stored.items() if not table.merged}
        table = merged_table(passing.values(), beside=stay)
        if len(table):
            self._write(table, merged=True)
        for path in passing:
            path.unlink(missing_ok=True)

    def _stored(self) -> dict[Path, ValueTable]:
        """The values of every file; starts over if another run merges files meanwhile."""
        tables = dict[Path, ValueTable]()
        for path in sorted(set(self.directory.glob("*.safetensors")) - self._damaged):
            try:
                tables[path] = ValueTable.read(path)
            except DAMAGE as error:
                if isinstance(error, FileNotFoundError) and not path.is_symlink():  # a link may lead nowhere for ever
                    return self._stored()
                self._damaged.add(path)
                log.warning("reference: %s is damaged (%s), its rows are scored again; delete it", path, error)
        return tables

    def has(self, fingerprints: Sequence[str]) -> bool:
        """Whether every one of these responses is there."""
        return not np.isnan(self._find(fingerprints)).any()

    def add(self, batch: PackedBatch, sums: Tensor) -> None:
        """Remember the row's values that are not stored yet; `flush` stores them.

        Args:
            batch: the row.
            sums: summed log-probabilities, one for each slot. Shape: (slots,).

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
        missing = np.isnan(self._find(batch.fingerprints)).tolist()
        fresh = zip(batch.fingerprints, sums.tolist(), missing, strict=True)
        self._new.update({fingerprint: value for fingerprint, value, is_new in fresh if is_new})

    def flush(self) -> None:
        """Store new values in a file of their own, under a temporary name first."""
        if not self._new:
            return
        table = ValueTable.of(self._new)
        with storing(self.directory, _ELSEWHERE):
            self.directory.mkdir(parents=True, exist_ok=True)
            with FileLock(self.directory / _LOCK):
                self._write(table)
        self._tables.append(table)
        self._new.clear()

    def _write(self, table: ValueTable, *, merged: bool = False) -> None:
        name = uuid.uuid4().hex
        table.save(self.directory / f"{name}.partial", merged=merged)
        (self.directory / f"{name}.partial").rename(self.directory / f"{name}.safetensors")

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
        values = self._find(batch.fingerprints)
        if np.isnan(values).any():
            name = batch.examples[batch.slots[int(np.isnan(values).argmax())].example]
            raise InputError(
                f"no reference log-probability for record {name!r} in {self.directory}; the data changed after the "
                "reference pass: start `fit` again, or delete the folder"
            )
        sums = tensor_on(batch.score_owners.device, values.tolist(), torch.float32)
        return Scores(sums=sums, counts=batch.num_scored, slots=batch.slots)

    def _find(self, fingerprints: Sequence[str]) -> NDArray[np.float32]:
        """Their values, NaN where there is none. Shape: (fingerprints,)."""
        values = np.array([self._new.get(name, np.nan) for name in fingerprints], dtype=np.float32)
        keys = table_keys(fingerprints)
        for table in self._tables:
            missing = np.isnan(values)
            values[missing] = table.find(keys[missing])
        return values


def fill_cache(
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
        log.info("reference: scoring the pairs that %s lacks", cache.directory)
    with reference() as model:

        def scores(batch: PackedBatch) -> Scores:
            return scored_by(model, batch.to(device))

        if stored is not None:
            _verify(cache, scores, stored, _CHECK_TOLERANCE[coarsest_dtype(model)])
        return _score_missing(cache, scores, itertools.chain(missing, pending), needed)


def _first_of_each(
    cache: ReferenceCache, batches: Iterator[PackedBatch], needed: Callable[[bool], bool]
) -> tuple[PackedBatch | None, list[PackedBatch]]:
    """The first row that the cache has, and the first that it lacks, if any; rows are consumed up to the latter."""
    stored: PackedBatch | None = None
    for batch in batches:
        if needed(not cache.has(batch.fingerprints)):
            return stored, [batch]
        stored = stored or batch
    return stored, []


def _score_missing(
    cache: ReferenceCache,
    scores: Callable[[PackedBatch], Scores],
    batches: Iterable[PackedBatch],
    needed: Callable[[bool], bool],
) -> int:
    begun = flushed = time.monotonic()
    scored = pairs = 0
    try:
        for batch in batches:
            if not needed(not cache.has(batch.fingerprints)):
                continue
            cache.add(batch, scores(batch).sums)
            scored, pairs = scored + 1, pairs + len(batch.examples)
            if time.monotonic() - flushed > _FLUSH_SECONDS:
                cache.flush()
                flushed = time.monotonic()
                log.info("reference: %d pairs scored so far%s, in %.0f s", pairs, _by_whom(), flushed - begun)
    finally:  # an interrupted pass keeps what it has
        cache.flush()
    if pairs:
        log.info("reference: %d pairs scored%s in %.0f s", pairs, _by_whom(), time.monotonic() - begun)
    return scored


def _by_whom() -> str:
    processes = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    return f" by one of {processes} processes" if processes > 1 else ""


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
