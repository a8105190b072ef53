import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_modules.rows.positions import PositionSynthesis, continuous_chunks, sparse_chunks
from lit_longpo.policy.prompts.encoded_prompt import EncodedPrompt

sizes = st.tuples(st.integers(1, 200), st.integers(1, 64), st.integers(0, 2000), st.integers(0, 99))


@pytest.mark.parametrize("spread", [continuous_chunks, sparse_chunks])
@given(sizes)
@settings(max_examples=80, deadline=None)
def test_ids_increase_and_stay_below_the_target(spread, size):
    count, chunk, spare, seed = size
    ids = spread(count, chunk, count + spare, random.Random(seed))
    assert len(ids) == count
    assert ids[0] >= 0
    assert ids[-1] < count + spare
    assert all(before < after for before, after in pairwise(ids))
    assert ids == spread(count, chunk, count + spare, random.Random(seed))


@given(sizes)
@settings(max_examples=80, deadline=None)
def test_continuous_chunks_have_no_gaps_inside(size):
    count, chunk, spare, seed = size
    ids = continuous_chunks(count, chunk, count + spare, random.Random(seed))
    for start in range(0, count, chunk):
        part = ids[start : start + chunk]
        assert part == list(range(part[0], part[0] + len(part)))


def test_every_position_can_be_reached():
    """Over many records all ids below the target appear: nothing of the long context stays untrained."""
    seen = {position for seed in range(400) for position in continuous_chunks(40, 8, 120, random.Random(seed))}
    assert seen == set(range(120))


prompts = st.tuples(st.integers(0, 5), st.integers(1, 80), st.integers(1, 10)).map(
    lambda size: EncodedPrompt((1,) * size[0], (2,) * size[1], (3,) * size[2])
)


@given(prompts, st.integers(1, 9), st.integers(1, 400), st.sampled_from(["mixed", "continuous", "sparse"]))
@settings(max_examples=150, deadline=None)
def test_head_stays_in_front_and_question_and_answer_at_the_far_end(prompt, answer, target, scheme):
    ids = PositionSynthesis(target, 8, scheme)(prompt, answer, "record")
    total = len(prompt.ids) + answer
    if total >= target:
        assert ids is None
        return
    assert ids is not None
    assert len(ids) == len(prompt.ids)
    assert all(before < after for before, after in pairwise(ids))
    head, tail = len(prompt.head), len(prompt.tail)
    assert ids[:head] == tuple(range(head))
    assert ids[-tail:] == tuple(range(target - answer - tail, target - answer))


def test_records_differ_and_seeds_decide():
    prompt = EncodedPrompt((), (2,) * 64, (3,))
    synthesis = PositionSynthesis(1000, 16)
    assert synthesis(prompt, 2, "a") == synthesis(prompt, 2, "a") != synthesis(prompt, 2, "b")
    assert PositionSynthesis(1000, 16, seed=1)(prompt, 2, "a") != synthesis(prompt, 2, "a")


def test_nine_tenths_are_continuous():
    prompt = EncodedPrompt((), (2,) * 64, (3,))
    synthesis = PositionSynthesis(5000, 16)
    made = [synthesis(prompt, 2, str(number)) for number in range(600)]
    continuous = sum(ids is not None and ids[15] - ids[0] == 15 for ids in made)
    assert 0.86 < continuous / len(made) < 0.94


def test_none_is_the_baseline():
    assert PositionSynthesis(1000, scheme="none")(EncodedPrompt((), (1, 2), (3,)), 1, "a") is None


def test_senseless_sizes_are_refused():
    with pytest.raises(ValueError, match="positions"):
        PositionSynthesis(0)
