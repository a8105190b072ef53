from itertools import pairwise

import pytest

from evaluation.benchmark import Example
from evaluation.prompting import Prompt
from evaluation.running.batching import Batching
from evaluation.running.runner import portion, shuffled


def examples(contexts):
    return [
        Example(f"e{number}", "t", 0, "?", ("a",), {} if context is None else {"context": context})
        for number, context in enumerate(contexts)
    ]


def prompts(sizes):
    return [Prompt(tuple(range(size)), 4, (0,), 0, size, 0, False) for size in sizes]


def test_the_order_is_random_and_the_seeds():
    own = examples([None] * 20)
    first = shuffled(own, "1-t")
    assert first == shuffled(own, "1-t")
    assert first != shuffled(own, "2-t")
    assert first != own
    assert sorted(first, key=own.index) == own


def test_questions_about_one_context_stay_together():
    own = examples("abcabcdabcdd")
    found = [example.fields["context"] for example in shuffled(own, "1-t")]
    changes = sum(one != other for one, other in pairwise(found))
    assert changes == 3


@pytest.mark.parametrize(("sizes", "expected"), [([10] * 9, [4, 4, 1]), ([99] * 5, [4, 1]), ([3] * 30, [14, 14, 2])])
def test_a_portion_is_four_rounds_of_prompts(sizes, expected):
    asked = iter(list(zip(examples([None] * len(sizes)), prompts(sizes), strict=True)))
    found = []
    while part := portion(asked, Batching(10), 1):
        found.append(len(part))
    assert found == expected


def test_every_process_has_its_share_of_a_portion():
    asked = iter(list(zip(examples([None] * 20), prompts([10] * 20), strict=True)))
    assert len(portion(asked, Batching(10), 3)) == 12


def test_prompts_are_built_when_they_are_taken():
    built = []

    def build():
        for example, prompt in zip(examples([None] * 20), prompts([10] * 20), strict=True):
            built.append(example.id)
            yield example, prompt

    asked = build()
    portion(asked, Batching(10), 1)
    assert len(built) == 4
    portion(asked, Batching(10), 1)
    assert len(built) == 8
