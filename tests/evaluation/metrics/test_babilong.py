import pytest

from evaluation.metrics import score


@pytest.mark.parametrize(
    ("task", "target", "prediction", "expected"),
    [
        ("qa1", "kitchen", "The Kitchen. Or the garden.", 1.0),
        ("qa1", "kitchen", "kitchen or garden", 0.0),
        ("qa1", "kitchen", "kitchen<example> garden", 1.0),
        ("qa1", "hallway", "It is in the hallway", 0.0),  # the question names it
        ("qa7", "none", "none", 0.0),  # "none" holds "one"
        ("qa8", "apple,milk", "milk, apple", 1.0),
        ("qa8", "apple,milk", "milk", 0.0),
        ("qa8", "milk", "milk, apple", 0.0),
        ("qa19", "n,e", "n,e", 1.0),
        ("qa19", "n,e", "n, e", 0.0),
        ("qa20", "bored", "He is bored", 1.0),
    ],
)
def test_the_target_and_no_other_label_is_named(task, target, prediction, expected):
    assert score("babilong", task, prediction, [target], question="How about the hallway?") == expected


def test_what_is_missing_is_said():
    with pytest.raises(ValueError, match="question=record"):
        score("babilong", "qa1", "kitchen", ["kitchen"])
    with pytest.raises(ValueError, match="expected a task of qa1, qa2"):
        score("babilong", "qa21", "kitchen", ["kitchen"], question="Where?")
