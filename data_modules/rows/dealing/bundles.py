"""Bundles examples whose prompts begin alike, so that they are dealt into one row.

Bundles are found once, before anything is dealt, so an epoch has the same bundles on every rank and after a resume.
Examples are bundled for a common document, not for a common system prompt: an example joins a bundle only if it adds
less than half of its own tokens.
"""

import hashlib
import logging
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from data_modules.rows.dealing.sampling import TokenBudgetBatchSampler
from data_modules.rows.encoding import EncodedPair
from data_modules.rows.stores.token_store import Examples
from lit_longpo.engine import SHARED_FROM, num_row_tokens
from lit_longpo.errors import InputError

log = logging.getLogger(__name__)

RowsBy = Literal["objective", "all_views"]
SharePrompts = Literal["auto", "together"]

_STEP = 1.25  # between the lengths whose tokens a key tells apart
_DIGEST = 8  # bytes of each


@dataclass(frozen=True)
class Bundle:
    """Examples that are dealt together.

    Args:
        members: their numbers, ascending.
        length: tokens that they occupy in a row.
    """

    members: tuple[int, ...]
    length: int


def bundles_of(examples: Examples, max_tokens: int, max_examples: int | None) -> list[Bundle]:
    """The bundles that hold every example once, in the order of their first members; most hold a single example."""
    bundles, most = list[Bundle](), max_examples or sys.maxsize
    for alike in _alike(examples):
        bundles += _filled(alike, examples, max_tokens, most)
    bundles.sort(key=lambda bundle: bundle.members[0])
    return bundles


def log_bundles(split: str, bundles: Sequence[Bundle], lengths: NDArray[np.int64]) -> None:
    """Log how many tokens the bundles save.

    Args:
        split: its name.
        bundles: of its examples.
        lengths: tokens that each occupies in a row of its own. Shape: (examples,).
    """
    before, after = int(lengths.sum()), sum(bundle.length for bundle in bundles)
    log.info(
        f"{split}: {len(lengths):,} examples in {len(bundles):,} bundles, {after:,} tokens in place of {before:,} "
        f"(1 to {before / max(1, after):.2f})"
    )


class BundleSampler(TokenBudgetBatchSampler):
    """Deals bundles in place of examples; rows name the examples.

    Args:
        bundles: every example in one.
        names: what errors call the examples.
        **options: of the order and of the ranks, as `TokenBudgetBatchSampler` takes them.
    """

    def __init__(
        self,
        bundles: Sequence[Bundle],
        max_tokens: int,
        max_examples: int | None = None,
        *,
        names: Sequence[str],
        **options: Any,
    ) -> None:
        self.bundles = bundles
        lengths, firsts = [b.length for b in bundles], [names[b.members[0]] for b in bundles]
        counts = [len(bundle.members) for bundle in bundles]
        super().__init__(lengths, max_tokens, max_examples, names=firsts, counts=counts, **options)
        members = np.array(list(chain.from_iterable(b.members for b in bundles)), dtype="<i8")
        self.digest = zlib.crc32(members.tobytes() + np.array(counts, dtype="<i8").tobytes(), self.digest)

    def _deal(self, epoch: int) -> list[list[int]]:
        """Rows of examples."""
        return [[member for n in row for member in self.bundles[n].members] for row in super()._deal(epoch)]


def _alike(examples: Examples) -> Iterator[list[int]]:
    """Examples whose first tokens are the same, those that have most in common beside each other."""
    keys = [_key(examples[number]) for number in range(len(examples))]
    run = list[int]()
    for number in sorted(range(len(examples)), key=lambda number: (keys[number], number)):
        if run and (not keys[number] or keys[run[-1]][:_DIGEST] != keys[number][:_DIGEST]):
            yield run
            run = []
        run.append(number)
    if run:
        yield run


def _key(example: EncodedPair) -> bytes:
    """Hashes of more and more first tokens of the longest prompt: examples sorted by them lie as in a tree of prompts.

    Without any, the prompt is too short to be shared.
    """
    group = max(example.policy, key=lambda group: len(group.prompt_ids))
    tokens = np.column_stack([group.prompt_ids, *([group.position_ids] if group.position_ids else [])]).astype("<i8")
    digest, parts, size, hashed = hashlib.sha256(), list[bytes](), SHARED_FROM, 0
    while size <= len(tokens):
        digest.update(tokens[hashed:size].tobytes())
        parts.append(digest.copy().digest()[:_DIGEST])
        size, hashed = int(size * _STEP), size
    return b"".join(parts)


def _filled(alike: Sequence[int], examples: Examples, max_tokens: int, most: int) -> Iterator[Bundle]:
    """Bundles of neighbours, each as long as a row allows and the next one has more than half of it in common."""
    lengths, members, joined, length = examples.lengths, list[int](), list[EncodedPair](), 0
    for number in alike:
        own = int(lengths[number])
        example = examples[number] if len(alike) > 1 else None
        together = _num_tokens([*joined, example]) if joined and example is not None else 0
        fits = len(members) < most and together <= max_tokens
        if members and fits and 2 * (together - length) < own:
            length = together
        else:
            if members:
                yield Bundle(tuple(sorted(members)), length)
            members, joined, length = [], [], own
        members.append(number)
        if example is not None:
            joined.append(example)
    yield Bundle(tuple(sorted(members)), length)


def _num_tokens(examples: Sequence[EncodedPair]) -> int:
    """Room that examples take in a row together: of the longer of the two rows."""
    rows = ([group for e in examples for group in e.policy], [group for e in examples for group in e.reference])
    return max(num_row_tokens(groups, SHARED_FROM) if groups else 0 for groups in rows)


def check_share_prompts(share_prompts: SharePrompts | None, *, prefix_sharing: bool, rows_by: RowsBy) -> None:
    """Refuse `share_prompts: together` beside settings that rule it out."""
    if share_prompts not in (None, *get_args(SharePrompts)):
        expected = ", ".join(get_args(SharePrompts))
        raise InputError(f"expected `data.init_args.share_prompts` of {expected} or null, got {share_prompts!r}")
    if share_prompts != "together":
        return
    if not prefix_sharing:
        raise InputError(
            "expected `data.init_args.prefix_sharing: true` with `share_prompts: together`, got false, which gives "
            "every response a prompt of its own; type --data.init_args.share_prompts null"
        )
    if rows_by == "all_views":
        raise InputError(
            "expected `data.init_args.rows_by: objective` with `share_prompts: together`, got all_views: what examples "
            "share depends on what the objective reads; type --data.init_args.rows_by objective"
        )
