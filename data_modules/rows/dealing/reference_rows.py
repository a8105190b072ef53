"""Rows of the reference's pass: without gradients they may be longer than those that are trained on."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from lightning.pytorch import Trainer

from data_modules.rows.dealing.bundles import Bundle, BundleSampler
from data_modules.rows.dealing.sampling import TokenBudgetBatchSampler
from data_modules.rows.stores.token_store import Examples
from lit_longpo.batch import PackedBatch
from lit_longpo.engine import pack
from lit_longpo.errors import InputError
from lit_longpo.objectives import PreferenceModule


def reference_rows(
    splits: Sequence[Examples],
    ranks: Mapping[str, Any],
    max_tokens: int,
    *,
    stated: bool = False,
    shared_from: int | None = None,
    bundles: Sequence[Sequence[Bundle]] | None = None,
) -> Iterator[PackedBatch]:
    """Every example of every split once, in its order, cut by the tokens that the reference reads.

    Args:
        splits: what has been tokenised.
        ranks: the number of data-parallel ranks, and which of them this is.
        max_tokens: budget of a row.
        stated: whether someone has named it; else an example that is longer has a row of its own.
        shared_from: as `pack` takes it.
        bundles: examples that are dealt as one, of each split; `None` deals each by itself.

    Raises:
        InputError: an example is longer than the stated budget.
    """
    if bundles is None:
        lengths = [split.reference_lengths for split in splits]
    else:
        lengths = [np.array([bundle.length for bundle in of_split]) for of_split in bundles]
    longest = max((int(of_split.max(initial=0)) for of_split in lengths), default=0)
    if stated and longest > max_tokens:
        raise InputError(
            f"expected `reference.max_tokens` to hold every example, got {max_tokens:,} tokens for one of {longest:,}; "
            f"type --reference.max_tokens {longest}, or auto"
        )
    budget = max(max_tokens, longest)
    for number, split in enumerate(splits):
        if bundles is None:
            rows = TokenBudgetBatchSampler(lengths[number], budget, names=split.names, **ranks)
        else:
            rows = BundleSampler(bundles[number], budget, names=split.names, **ranks)
        for row in rows:
            yield pack([group for index in row for group in split[index].reference], shared_from=shared_from)


def fullest_row(splits: Sequence[Examples], max_tokens: int, max_examples: int | None) -> int:
    """Tokens of the longest row that examples can be dealt into, which may be far from its budget."""
    most = (int(np.sort(split.lengths)[-(max_examples or len(split)) :].sum()) for split in splits)
    return min(max_tokens, max(most, default=max_tokens))


def budget_of(trainer: Trainer | None, fullest: int) -> tuple[int, bool]:
    """Tokens of a row of the reference's pass, and whether someone has named them.

    Args:
        trainer: of the objective; without one the pass has the rows of the training.
        fullest: tokens of the longest row that is trained on.
    """
    module = getattr(trainer, "lightning_module", None)
    if not isinstance(module, PreferenceModule):
        return fullest, False
    return module.reference.row_tokens(fullest), module.reference.config.max_tokens != "auto"
