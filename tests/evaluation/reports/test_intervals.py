import math
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.reports.intervals import RESAMPLES, ClusteredScores, _draws, estimate, estimate_mean_of, method

some_scores = st.lists(st.floats(0, 1), min_size=2, max_size=40)


@given(some_scores)
@settings(max_examples=30, deadline=None)
def test_intervals_hold_the_mean_of_draws_and_stay_within_the_scores(scores):
    found = estimate(scores)
    least, most = (min(scores), max(scores)) if np.ptp(scores) > 1e-6 else (0, 1)
    assert least - 1e-9 <= found.low <= found.high <= most + 1e-9
    assert found.mean == pytest.approx(np.mean(scores))
    assert found == estimate(scores)


def test_the_interval_of_a_share_is_the_binomial_one():
    """For zeros and ones the bootstrap's draws are binomial, whose quantiles are known."""
    found = estimate([1.0] * 30 + [0.0] * 70)
    spread = 1.96 * math.sqrt(0.3 * 0.7 / 100)
    assert found.low == pytest.approx(0.3 - spread, abs=0.015)
    assert found.high == pytest.approx(0.3 + spread, abs=0.015)


def resampled_means(scores, name=""):
    sample = ClusteredScores.of(scores)
    return _draws(sample.scores, sample.clusters, 0, name)


def test_blocks_of_draws_are_draws_of_the_whole_sample():
    values = np.arange(3000) / 3000  # several blocks
    draws = resampled_means(values)
    assert draws.shape == (RESAMPLES,)
    assert draws.std() == pytest.approx(values.std() / math.sqrt(len(values)), rel=0.1)
    assert len(set(draws)) > RESAMPLES / 2


def test_one_score_has_no_interval():
    found = estimate([0.5])
    assert (found.mean, found.num) == (0.5, 1)
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_a_mean_of_tasks_weighs_tasks_not_examples():
    groups = {"large": [1.0] * 90 + [0.0] * 10, "small": [0.0, 1.0, 0.0, 0.0]}
    found = estimate_mean_of(groups)
    assert found.mean == pytest.approx((0.9 + 0.25) / 2)
    assert found.num == 104
    spread = 1.96 * math.sqrt(0.09 / 100 + 0.1875 / 4) / 2  # variances of independent means add up
    assert found.high - found.low == pytest.approx(2 * spread, rel=0.1)
    assert estimate_mean_of(groups, {"large": 0.8, "small": 0.2}).mean == pytest.approx(0.77)


def test_questions_about_one_context_are_drawn_together():
    """Four copies of every score in a context of their own say no more than one of each."""
    scores = [0.0, 1.0, 1.0, 0.5, 0.0, 1.0]
    copies = ClusteredScores(
        tuple(score for score in scores for _ in range(4)), tuple(f"c{n}" for n in range(6) for _ in "abcd")
    )
    alone, together, apart = estimate(scores), estimate(copies), estimate(copies.scores)
    assert (together.low, together.high) == pytest.approx((alone.low, alone.high))
    assert together.num == 24
    assert apart.high - apart.low < 0.6 * (together.high - together.low)


def test_contexts_of_different_sizes_bring_all_their_scores():
    """The draws by a loop over contexts."""
    sample = ClusteredScores((1.0, 0.0, 0.0, 0.5, 1.0, 1.0), ("a", "b", "b", "b", "c", "c"))
    generator = np.random.default_rng(zlib.crc32(b"task"))
    members = [[1.0], [0.0, 0.0, 0.5], [1.0, 1.0]]
    expected = [
        np.mean([score for context in drawn for score in members[context]])
        for drawn in generator.integers(3, size=(RESAMPLES, 3))
    ]
    assert resampled_means(sample, "task") == pytest.approx(np.array(expected))


def test_a_context_of_its_own_for_every_score_changes_nothing():
    scores = tuple(np.linspace(0, 1, 17))
    assert estimate(ClusteredScores(scores, tuple(map(str, range(17))))) == estimate(scores)
    draws = np.array(scores)[np.random.default_rng(zlib.crc32(b"")).integers(17, size=(RESAMPLES, 17))].mean(axis=1)
    assert (resampled_means(scores) == draws).all()


def test_tasks_about_the_same_contexts_are_drawn_together():
    """LV-Eval asks its questions at five levels: as if they were others, means were said to be 2.2 times as sure."""
    scores, names = tuple(np.linspace(0, 1, 40) ** 3), tuple(f"c{n}" for n in range(40))
    levels = {f"level{n}": ClusteredScores(scores, names) for n in range(5)}
    turned = levels | {"level1": ClusteredScores(scores[::-1], names[::-1])}
    alone = estimate(ClusteredScores(scores, tuple(sorted(names))), "level0")
    for groups in (levels, turned):
        found = estimate_mean_of(groups)
        assert found.high - found.low == pytest.approx(alone.high - alone.low, rel=0.1)
    others = {name: ClusteredScores(scores, tuple(f"{name}-{own}" for own in names)) for name in levels}
    apart = estimate_mean_of(others)
    assert apart.high - apart.low == pytest.approx((alone.high - alone.low) / math.sqrt(5), rel=0.15)


def test_groups_that_share_some_contexts_have_those_drawn_together():
    """A limited run asks other contexts at each level: of intervals that drew each level for itself 90 % held the mean.

    Against the spread of the mean over many samples of contexts, each level of 40 of 60.
    """
    generator = np.random.default_rng(3)

    def sample() -> dict[str, ClusteredScores]:
        right = generator.beta(0.3, 0.3, size=60)
        asked = [generator.permutation(60)[:40] for _ in range(3)]
        scores = [tuple(np.float64(generator.random(40) < right[numbers])) for numbers in asked]
        names = [tuple(f"c{number}" for number in numbers) for numbers in asked]
        return {f"level{n}": ClusteredScores(scores[n], names[n]) for n in range(3)}

    samples = [sample() for _ in range(200)]
    means = [np.mean([np.mean(level.scores) for level in levels.values()]) for levels in samples]
    widths = [found.high - found.low for found in map(estimate_mean_of, samples)]
    assert np.mean(widths) == pytest.approx(2 * 1.96 * np.std(means), rel=0.1)


def test_groups_that_share_contexts_through_a_third_one_are_drawn_together():
    """The draws by a loop over the contexts of all three."""
    groups = {
        "one": ClusteredScores((0.0, 1.0, 1.0, 0.5), ("b", "a", "a", "c")),
        "other": ClusteredScores((1.0, 0.0, 0.25), ("e", "d", "f")),
        "third": ClusteredScores((0.5, 0.0, 0.75, 1.0), ("c", "d", "g", "a")),
    }
    scores = {
        name: {c: [s for s, own in zip(group.scores, group.contexts, strict=True) if own == c] for c in "abcdefg"}
        for name, group in groups.items()
    }
    generator = np.random.default_rng(zlib.crc32(b"one"))
    expected = []
    for drawn in generator.integers(7, size=(RESAMPLES, 7)):
        found = [[score for number in drawn for score in scores[name]["abcdefg"[number]]] for name in groups]
        if all(found):
            expected.append(np.mean([np.mean(scores) for scores in found]))
    found = estimate_mean_of(groups)
    assert 0 < RESAMPLES - len(expected) < RESAMPLES / 10  # some draw nothing of a group
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(expected, [0.025, 0.975])))


@pytest.mark.parametrize("num", [2, 5, 10, 55])
def test_answers_that_are_all_right_leave_room_for_wrong_ones(num):
    """Ten of ten were said to be 100.00 to 100.00; at Clopper and Pearson's bound so many are 2.5 times in 100."""
    right, wrong = estimate([1.0] * num), estimate([0.0] * num)
    assert (right.low**num, right.high) == pytest.approx((0.025, 1.0))
    assert (wrong.low, (1 - wrong.high) ** num) == pytest.approx((0.0, 0.025))


def test_groups_of_which_draws_seldom_hold_anything_have_no_interval():
    """Sixty groups of two contexts each, in a ring: hardly a draw holds some of all of them."""
    parts = {f"t{n}": ClusteredScores((1.0, 0.0), (f"{n}", f"{(n + 1) % 60}")) for n in range(60)}
    assert math.isnan(estimate_mean_of(parts).low)


def test_contexts_not_questions_are_what_is_all_right():
    """Forty right answers about two contexts."""
    found = estimate(ClusteredScores((1.0,) * 40, ("a", "b") * 20))
    assert (found.low, found.high) == pytest.approx((math.sqrt(0.025), 1.0))


def test_no_difference_may_be_one_in_either_direction():
    found = estimate(ClusteredScores((0.0,) * 10, least=-1.0))
    assert (found.low, found.high) == pytest.approx((0.025**0.1 - 1, 1 - 0.025**0.1))


def test_tasks_that_are_all_right_have_the_mean_of_their_bounds():
    found = estimate_mean_of({"a": [1.0] * 4, "b": [0.5] * 9})
    one, other = 0.025 ** (1 / 4), 0.025 ** (1 / 9)
    assert (found.low, found.high) == pytest.approx(((one + other / 2) / 2, (1 + 1 - other / 2) / 2))


@pytest.mark.parametrize(("num", "share"), [(10, 0.9), (10, 1e-3), (30, 0.98)])
def test_intervals_of_nearly_all_right_answers_hold_the_true_share(num, share):
    """69 of 100 did for ten questions of which nine in ten are right."""
    generator = np.random.default_rng(5)
    found = [estimate(tuple(np.float64(generator.random(num) < share)), str(n)) for n in range(200)]
    assert np.mean([item.low <= share <= item.high for item in found]) >= 0.95


def test_one_context_has_no_interval():
    assert math.isnan(estimate(ClusteredScores((0.0, 1.0), ("a", "a"))).low)


def test_the_method_says_what_is_drawn():
    assert "over 2 contexts, each drawn with all" in method(ClusteredScores((0.0, 1.0, 1.0), ("a", "a", "b")))
    assert "over examples;" in method(ClusteredScores((0.0, 1.0), ("a", "b")))
    assert "Over fewer than 20 contexts they are too narrow" in method(ClusteredScores((0.0, 1.0) * 20))
