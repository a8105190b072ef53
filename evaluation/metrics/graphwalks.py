"""GraphWalks (OpenAI): nodes of a graph, as a set. Read in openai/graphwalks' card and lm-evaluation-harness 0.4.13."""

import re
from collections.abc import Sequence

from evaluation.metrics.text import set_f1

_ANSWER = re.compile(r"Final Answer:\s*\[(.*)\]")


def score(task: str, prediction: str, answers: Sequence[str]) -> float:
    """F1 of the nodes that the last line lists, 0 to 1; 0 where there is nothing to find.

    The card's own function keeps the words before the bracket in the first node, so that no complete answer is right;
    this is the F1 of every re-implementation, which reads what is inside the brackets.

    Args:
        task: "bfs" or "parents"; the score is the same.
        prediction: generated text.
        answers: nodes to find; their order does not count.
    """
    return set_f1(nodes(prediction.rstrip("\n").split("\n")[-1]) or (), answers)


def flexible_score(prediction: str, answers: Sequence[str]) -> float:
    """The same F1 of the last line that lists nodes, wherever it stands."""
    lists = (nodes(line) for line in reversed(prediction.split("\n")))
    return set_f1(next((found for found in lists if found is not None), ()), answers)


def nodes(line: str) -> tuple[str, ...] | None:
    """Nodes inside the brackets behind "Final Answer:", without quotes; `None` if the line has none."""
    match = _ANSWER.search(line)
    if match is None:
        return None
    return tuple(item.strip().strip("'\"") for item in match[1].split(",") if item.strip())
