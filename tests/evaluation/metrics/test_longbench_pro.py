from math import log2

import pytest

from evaluation.metrics import score
from evaluation.metrics.longbench_pro import METRICS, SUMMARIES

FACT, CITED, ORDERED, RANKED, TABLE = (
    "T3.2 Single-Hop Fact QA",
    "T5.2 Key-Statement Citation Alignment",
    "T2.1 Global Timeline Reconstruction",
    "T1.2 Key-Snippet Retrieval",
    "T8.2 Single-Source Targeted Aggregation",
)


@pytest.mark.parametrize(
    ("task", "prediction", "expected"),
    [
        (FACT, "no [Answer] x [\u7b54\u6848]\n A  a \nmore", 1.0),
        (FACT, "The answer is a a", 0.0),
        (FACT, "[Answer]\nb", 0.0),
        (CITED, "a a\nb\nb\nx", 2 / 3),  # two of three, one wrong
        (CITED, "[Answer]", 0.0),
        (TABLE, "b\nx\ny", 1 / 3),
        (ORDERED, "a a\nc\nb", 2 / 3),
        (ORDERED, "a a\nb", 1.0),
        (ORDERED, "a a\nb\nx\nc", 3 / 6),
        (ORDERED, "a a", 0.0),
        (RANKED, "x\nA a\nb", (3 / log2(3) + 2 / log2(4)) / (3 + 2 / log2(3) + 1 / log2(4))),
        (RANKED, "x\ny\nz\nA a", 0.0),
        (RANKED, "", 0.0),
    ],
)
def test_metrics_over_lines(task, prediction, expected):
    assert score("longbench_pro", task, prediction, ["A A", "b", "c"]) == pytest.approx(expected)


def test_summaries_are_refused_as_their_metric_takes_another_model():
    assert len(METRICS) + len(SUMMARIES) == 25
    for task in SUMMARIES:
        with pytest.raises(ValueError, match="leave them out"):
            score("longbench_pro", task, "text", ["text"])
    with pytest.raises(ValueError, match=r"pass record\['answer'\]"):
        score("longbench_pro", FACT, "text", [])
