import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.benchmark import Example
from evaluation.prompting import Prompt
from evaluation.running.batching import Batching, plan_rounds, portion, shareable_length


def prompt(ids, max_new_tokens=4):
    return Prompt(tuple(ids), max_new_tokens, (2,), num_tokens=len(ids), uses_chat=False)


prompts = st.lists(
    st.builds(prompt, st.lists(st.integers(3, 5), min_size=1, max_size=12), st.sampled_from([4, 8])), max_size=12
)


@given(prompts, st.integers(1, 40), st.integers(0, 3), st.integers(1, 3), st.sampled_from([None, 0]))
def test_every_prompt_is_asked_once_and_rounds_are_alike(asked, budget, min_shared, num_ranks, seed):
    rounds = plan_rounds(asked, Batching(budget, None, min_shared), num_ranks, seed)
    numbers = [number for step in rounds for batch in step.batches for number in batch.numbers]
    assert sorted(numbers) == list(range(len(asked)))
    for step in rounds:
        members = [asked[number] for batch in step.batches for number in batch.numbers]
        assert len(step.batches) <= num_ranks
        assert len({member.max_new_tokens for member in members}) == 1
        assert step.width == max(len(member.ids) for member in members)
        for batch in step.batches:
            check(batch, [asked[number].ids for number in batch.numbers], budget, min_shared)


def check(batch, rows, budget, min_shared):
    longest = max(map(len, rows))
    if not batch.shared:
        assert len(rows) == 1 or len(rows) * longest <= budget
        return
    assert len(rows) > 1
    assert len({row[: batch.shared] for row in rows}) == 1
    assert batch.shared >= max(min_shared, longest / 2)
    assert all(len(row) > batch.shared for row in rows)


def test_the_longest_come_first():
    rounds = plan_rounds([prompt([3] * size) for size in (2, 9, 5)], Batching(1, None, 0), 1)
    assert [step.width for step in rounds] == [9, 5, 2]


def test_a_short_common_beginning_is_not_worth_it():
    """A chat template's own words, for example."""
    asked = [prompt([3] * 8 + [number] * 20) for number in range(10, 13)]
    assert all(not batch.shared for step in plan_rounds(asked, Batching(min_shared=4), 1) for batch in step.batches)


@pytest.mark.parametrize(
    ("first", "second", "length"),
    [([3, 4, 5], [3, 4, 6], 2), ([3, 4], [3, 4], 1), ([3, 4], [3, 4, 5], 1), ([3], [3, 4], 0), ([4, 3], [3, 3], 0)],
)
def test_shared_length_leaves_each_a_token(first, second, length):
    assert shareable_length(first, second) == length


@pytest.mark.parametrize("wrong", [{"max_batch_tokens": 0}, {"prefill_chunk": 0}, {"min_shared": -1}])
def test_impossible_batching_is_refused(wrong):
    with pytest.raises(ValueError, match="type a number in that range"):
        Batching(**wrong)


def examples(contexts):
    return [
        Example(f"e{number}", "t", 0, "?", ("a",), {} if context is None else {"context": context})
        for number, context in enumerate(contexts)
    ]


def prompts_of(sizes):
    return [prompt(range(size)) for size in sizes]


@pytest.mark.parametrize(("sizes", "expected"), [([10] * 9, [4, 4, 1]), ([99] * 5, [4, 1]), ([3] * 30, [14, 14, 2])])
def test_a_portion_is_four_rounds_of_prompts(sizes, expected):
    asked = iter(list(zip(examples([None] * len(sizes)), prompts_of(sizes), strict=True)))
    found = []
    while part := portion(asked, Batching(10), 1):
        found.append(len(part))
    assert found == expected


def test_every_process_has_its_share_of_a_portion():
    asked = iter(list(zip(examples([None] * 20), prompts_of([10] * 20), strict=True)))
    assert len(portion(asked, Batching(10), 3)) == 12


def test_prompts_are_built_when_they_are_taken():
    built = []

    def build():
        for example, one in zip(examples([None] * 20), prompts_of([10] * 20), strict=True):
            built.append(example.id)
            yield example, one

    asked = build()
    portion(asked, Batching(10), 1)
    assert len(built) == 4
    portion(asked, Batching(10), 1)
    assert len(built) == 8
