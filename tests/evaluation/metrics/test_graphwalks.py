import pytest

from evaluation.metrics import score
from evaluation.metrics.graphwalks import flexible_score


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [  # two of three nodes found and one wrong: precision 2/3, recall 2/3
        ("I walk.\nFinal Answer: [a, b, x]", 2 / 3),
        ("Final Answer: ['a', \"b\", c]", 1.0),
        ("Final Answer: [a, a, b, c]\n\n", 1.0),
        ("Final Answer: [a, b, c]\nDone.", 0.0),
        ("final answer: [a, b, c]", 0.0),
        ("Final Answer: []", 0.0),
        ("", 0.0),
    ],
)
def test_nodes_of_the_last_line_are_a_set(prediction, expected):
    assert score("graphwalks", "bfs", prediction, ["c", "b", "a"]) == pytest.approx(expected)


def test_the_flexible_score_takes_the_last_list_of_any_line():
    text = "Final Answer: [a]\nFinal Answer: [a, b]\nFinal Answer: none\nDone."
    assert flexible_score(text, ["a", "b"]) == 1.0
    assert score("graphwalks", "parents", text, ["a", "b"]) == 0.0


def test_nothing_to_find_is_worth_nothing():
    assert score("graphwalks", "bfs", "Final Answer: []", []) == 0.0
