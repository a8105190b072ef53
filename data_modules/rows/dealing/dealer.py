"""Examples of a split dealt into packed rows, and the loaders of these rows."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torchdata.stateful_dataloader import StatefulDataLoader

from data_modules.rows.dealing.bundles import Bundle, BundleSampler, SharePrompts, bundles_of, log_bundles
from data_modules.rows.dealing.pipes import Piped, check_room_for_workers
from data_modules.rows.dealing.reference_rows import budget_of, fullest_row, reference_rows
from data_modules.rows.dealing.sampling import TokenBudgetBatchSampler
from data_modules.rows.encoding import EncodedPair
from data_modules.rows.stores.token_store import Examples
from lit_longpo.batch import PackedBatch, PreferenceBatch
from lit_longpo.engine import SHARED_FROM, pack
from lit_longpo.errors import InputError
from lit_longpo.log_once import log_once

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RowDealer:
    """Deals the examples of every split by the same settings; see `PairDataModule`."""

    max_tokens: int
    max_examples: int | None
    share_prompts: SharePrompts | None
    prefix_sharing: bool
    seed: int
    num_workers: int
    _bundles: dict[str, Sequence[Bundle]] = field(default_factory=dict, init=False)  # found once for a split

    @property
    def fills_by_sharing(self) -> bool:
        """Whether rows only keep their budget because prompts in them share their beginnings."""
        return self.share_prompts == "together"

    @property
    def shared_from(self) -> int | None:
        """The least number of common first tokens that are stored once; `None` to share nothing."""
        return SHARED_FROM if self.share_prompts and self.prefix_sharing else None

    def loader(self, split: str, examples: Examples, trainer: Any, *, shuffle: bool) -> StatefulDataLoader:
        """Rows of this rank; with `shuffle` in another order every epoch.

        Raises:
            InputError: there is no example.
        """
        if not examples:
            raise InputError(
                f"expected examples in the {split} split, got none; see the counts in the log above, and "
                "the paths and sizes under `data.init_args`"
            )
        check_room_for_workers(self.num_workers)
        sampler = self.sampler(split, examples, trainer, shuffle=shuffle)
        if shuffle and _is_whole(getattr(trainer, "limit_train_batches", 1.0), len(sampler)):
            _warn_of_repeated(split, sampler)
        return StatefulDataLoader(
            examples,
            batch_sampler=sampler,
            collate_fn=Piped(self.collator(examples)),
            num_workers=self.num_workers,
            # Of its own, so that making an iterator draws nothing from the generator that dropout uses.
            generator=torch.Generator().manual_seed(self.seed),
            pin_memory=trainer is not None and trainer.strategy.root_device.type == "cuda",
        )

    def sampler(self, split: str, examples: Examples, trainer: Any, *, shuffle: bool) -> TokenBudgetBatchSampler:
        """Which examples each row of this rank holds; arguments as in `loader`."""
        limits = (self.max_tokens, self.max_examples)
        order: dict[str, Any] = {"shuffle": shuffle, "seed": self.seed, **ranks_of(trainer)}
        if self.fills_by_sharing:
            return BundleSampler(self._bundles_of(split, examples), *limits, names=examples.names, **order)
        shares = examples.shares if shuffle else None
        return TokenBudgetBatchSampler(examples.lengths, *limits, names=examples.names, shares=shares, **order)

    def collator(self, examples: Examples) -> Callable[[list[EncodedPair]], PreferenceBatch]:
        """What makes a row of some of these examples."""
        return partial(collate, sources=examples.sources, shared_from=self.shared_from)

    def reference_rows(self, splits: Mapping[str, Examples], trainer: Any) -> Iterator[PackedBatch]:
        """Every row that the reference has to score, once; each rank gets its share."""
        full = {name: examples for name, examples in splits.items() if len(examples)}
        examples = list(full.values())
        budget, stated = budget_of(trainer, fullest_row(examples, self.max_tokens, self.max_examples))
        bundles = [self._bundles_of(*split) for split in full.items()] if self.fills_by_sharing else None
        return reference_rows(
            examples, ranks_of(trainer), budget, stated=stated, shared_from=self.shared_from, bundles=bundles
        )

    def _bundles_of(self, split: str, examples: Examples) -> Sequence[Bundle]:
        if split not in self._bundles:
            self._bundles[split] = bundles_of(examples, self.max_tokens, self.max_examples)
            log_bundles(split, self._bundles[split], examples.lengths)
        return self._bundles[split]


def _is_whole(limit: int | float, rows: int) -> bool:
    """Whether a limit as Lightning has it, a number of a rank's rows or a share of them, reaches the last one."""
    return limit >= rows if isinstance(limit, int) else limit >= 1


def _warn_of_repeated(split: str, sampler: TokenBudgetBatchSampler) -> None:
    """Say so where equal shares of the ranks make pairs count twice, one row in fifty or more."""
    again, rows, ranks = sampler.num_repeated, len(sampler) * sampler.num_replicas, sampler.num_replicas
    if 50 * again >= rows:
        log_once(
            log.warning,
            "%s: %d of the %d rows of an epoch repeat others, so that each of %d ranks has %d: their pairs count "
            "again; other --trainer.devices, or other rows (data.init_args.max_tokens, max_examples), repeat fewer",
            *(split, again, rows, ranks, len(sampler)),
        )


def ranks_of(trainer: Any) -> dict[str, Any]:
    """The strategy's data-parallel ranks, fewer than its processes with tensor or sequence parallelism.

    Returns:
        `num_replicas` and `rank`, as samplers take them; a single one where `trainer` is `None`.

    Raises:
        InputError: Lightning is told to deal the rows to the processes, too.
    """
    connector = getattr(trainer, "_accelerator_connector", None)
    if connector is not None and connector.use_distributed_sampler and connector.is_distributed:
        raise InputError(
            "expected `trainer.use_distributed_sampler: false`, as rows are dealt to the processes here already, got "
            "true; leave it out of what you type (Trainer(use_distributed_sampler=False) in Python)"
        )
    return (trainer and trainer.distributed_sampler_kwargs) or {"num_replicas": 1, "rank": 0}


@dataclass(frozen=True)
class DealtRows:
    """What a sampler deals of its examples.

    Args:
        sampler: of the training.
        examples: that it deals; it numbers on where an example comes again.
    """

    sampler: TokenBudgetBatchSampler
    examples: Examples

    def names(self, epoch: int, start: int, end: int) -> Iterator[str]:
        """Names of the examples in this rank's rows of an epoch, from row `start` to before row `end`."""
        rows = self.sampler.batches(epoch)[start:end]
        return (self.examples.name_of(number) for row in rows for number in row)

    def num_trained(self, rows: Mapping[int, int]) -> int:
        """How many different examples have been trained on, after so many rows of each rank in each epoch."""
        trained = np.zeros(len(self.examples), dtype=np.bool_)
        for epoch, count in rows.items():
            if trained.all():
                break
            trained[[number % len(trained) for row in self.sampler.first(epoch, count) for number in row]] = True
        return int(trained.sum())


def collate(
    examples: Iterable[EncodedPair], sources: Sequence[str] = (), shared_from: int | None = None
) -> PreferenceBatch:
    """Pack examples into one row, and what the reference needs into another (often the same) one.

    Args:
        examples: of the row.
        sources: where there are several, all that examples may come from.
        shared_from: see `pack`.
    """
    examples = list(examples)
    masks = {name: torch.tensor([float(example.source == name) for example in examples]) for name in sources} or None
    policy = pack([group for example in examples for group in example.policy], shared_from=shared_from)
    weights = _unless_all([example.weight for example in examples], 1.0)
    margins = _unless_all([example.margin for example in examples], 0.0)
    if all(example.same_row for example in examples):
        return PreferenceBatch(policy, policy, weights, margins, masks)
    groups = [group for example in examples for group in example.reference]
    reference = pack(groups, shared_from=shared_from) if groups else None
    return PreferenceBatch(policy, reference, weights, margins, masks)


def _unless_all(numbers: Sequence[float], default: float) -> torch.Tensor | None:
    """The examples' numbers, if one of them says something. Shape: (B,)."""
    return torch.tensor(numbers) if any(number != default for number in numbers) else None
