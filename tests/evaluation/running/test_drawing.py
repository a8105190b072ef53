from itertools import pairwise

from evaluation.benchmark import Example
from evaluation.running.drawing import shuffled


def examples(contexts):
    return [
        Example(f"e{number}", "t", 0, "?", ("a",), {} if context is None else {"context": context})
        for number, context in enumerate(contexts)
    ]


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
