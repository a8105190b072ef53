"""What an epoch deals of each source: exact counts, even repetition, every length sooner or later."""

import random
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_modules.rows.dealing.sampling import TokenBudgetBatchSampler
from data_modules.rows.stores.strata import Share, apportioned, strata_of


@given(st.integers(0, 200), st.lists(st.integers(1, 50), min_size=1, max_size=6))
def test_shares_add_up_and_none_is_off_by_one(total, weights):
    counts = apportioned(total, weights)
    assert sum(counts) == total
    for count, weight in zip(counts, weights, strict=True):
        assert abs(count - Fraction(total * weight, sum(weights))) < 1


@st.composite
def mixtures(draw):
    sizes = draw(st.lists(st.integers(1, 30), min_size=1, max_size=3))
    starts = [sum(sizes[:number]) for number in range(len(sizes))]
    shares = [Share(a, a + n, draw(st.integers(1, 70))) for a, n in zip(starts, sizes, strict=True)]
    lengths = draw(st.lists(st.integers(1, 300), min_size=sum(sizes), max_size=sum(sizes)))
    return lengths, shares


@given(mixtures(), st.integers(1, 3), st.integers(0, 2))
@settings(max_examples=50, deadline=None)
def test_every_epoch_has_its_share_of_every_source(mixture, num_replicas, seed):
    lengths, shares = mixture
    options = {"shuffle": True, "seed": seed, "shares": shares, "num_replicas": num_replicas}
    ranks = [TokenBudgetBatchSampler(lengths, 700, 6, rank=rank, **options) for rank in range(num_replicas)]
    sizes = set()
    for epoch in range(3):
        rows = [row for rows in zip(*(rank.batches(epoch) for rank in ranks), strict=True) for row in rows]
        sizes.add(len(rows))
        rows = rows[: len(ranks[0]._layout)]  # what follows makes the ranks' numbers equal
        dealt = [index for row in rows for index in row]
        assert len(dealt) == len(set(dealt))  # a further copy has an index of its own
        seen = Counter(index % len(lengths) for index in dealt)
        for share in shares:
            times = [seen[index] for index in range(share.start, share.stop)]
            assert sum(times) == share.count
            assert max(times) - min(times) <= 1
        for row in rows:
            assert len(row) <= 6
            assert sum(lengths[index % len(lengths)] for index in row) <= 700
    assert len(sizes) == 1


def test_a_part_of_a_source_is_another_one_every_epoch_and_rare_lengths_come_up():
    lengths = [10] * 60 + [300]  # one long example, of which a tenth of the epoch would have none
    sampler = TokenBudgetBatchSampler(lengths, 400, shuffle=True, shares=[Share(0, 61, 6)])
    epochs = [frozenset(index for row in sampler.batches(epoch) for index in row) for epoch in range(200)]
    assert {len(epoch) for epoch in epochs} == {6}
    assert len(set(epochs)) > 150
    assert frozenset.union(*epochs) == frozenset(range(61))
    assert 5 < sum(60 in epoch for epoch in epochs) < 60


def test_a_stratum_repeats_evenly():
    [stratum] = strata_of(np.full(4, 7), [Share(0, 4, 10)])
    drawn = stratum.shuffled(random.Random(0), 4)
    assert sorted(Counter(number % 4 for number in drawn).values()) == [2, 2, 3, 3]
    assert {number // 4 for number in drawn} == {0, 1, 2}


@pytest.mark.parametrize("shares", [[Share(0, 12, 9)], [Share(0, 12, 12)]])
def test_other_shares_are_not_resumed(shares):
    first = iter(TokenBudgetBatchSampler([5] * 12, 10, shuffle=True, shares=[Share(0, 12, 6)]))
    next(first)
    with pytest.raises(ValueError, match="expected the data"):
        iter(TokenBudgetBatchSampler([5] * 12, 10, shuffle=True, shares=shares)).load_state_dict(first.state_dict())
