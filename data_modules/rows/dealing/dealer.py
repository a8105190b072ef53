"""Examples of a split dealt into packed rows, and the loaders of these rows."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torchdata.stateful_dataloader import StatefulDataLoader

from data_modules.rows.dealing.bundles import Bundle, BundleSampler, SharePrompts, bundles_of, log_bundles
from data_modules.rows.dealing.collating import collate
from data_modules.rows.dealing.pipes import Piped, check_room_for_workers
from data_modules.rows.dealing.reference_rows import budget_of, fullest_row, reference_rows
from data_modules.rows.dealing.sampling import TokenBudgetBatchSampler
from data_modules.rows.encoding import EncodedPair
from data_modules.rows.stores.token_store import Examples
from lit_longpo.batch import PackedBatch, PreferenceBatch
from lit_longpo.engine import SHARED_FROM
from lit_longpo.errors import InputError


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
        return StatefulDataLoader(
            examples,
            batch_sampler=self.sampler(split, examples, trainer, shuffle=shuffle),
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
