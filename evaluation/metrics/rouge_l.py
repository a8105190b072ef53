"""ROUGE-L as the official scorers compute it, recursion limit included."""

import sys
import threading
from typing import Any

from evaluation.metrics.extras import require

# The official scorers run under CPython's default recursion limit, this many calls below their script.
_OFFICIAL_LIMIT = 1000


def rouge_l(prediction: str, answer: str, *, official_depth: int = 0) -> float:
    """ROUGE-L, summary level, of `rouge` 1.0.1, as the official scorers call it.

    The package splits sentences at "." only and counts every word once; a perfect match is about
    1 - 5e-9. What it refuses (nothing but white space and full stops in some forms) scores 0. Its walk
    through one pair of sentences is recursive: past about 985 steps it exceeds the recursion limit, and
    the official scorers turn that into 0. So do we, at the same step whoever calls: the walk runs in a
    thread, whose stack is as deep as the official one, and a limit raised above 1000 is used up first.
    (A limit below 1000 is left as it is and cuts earlier.)

    Args:
        prediction: generated text, words separated by spaces.
        answer: the reference, likewise.
        official_depth: calls between the official scorer and the package beyond one.

    Returns:
        0 to 1.

    Raises:
        MissingPackageError: rouge is missing.
    """
    package = require("rouge", "ROUGE-L").Rouge(metrics=["rouge-l"])
    walk = _Walk(package, prediction, answer, official_depth)
    walk.start()
    walk.join()
    return walk.score


class _Walk(threading.Thread):
    """`run` stands as deep in this thread as the official scoring function in its script."""

    def __init__(self, package: Any, prediction: str, answer: str, depth: int) -> None:
        super().__init__(name="rouge-l", daemon=True)
        self._package, self._texts = package, ([prediction], [answer])
        self._spare = max(0, sys.getrecursionlimit() - _OFFICIAL_LIMIT) + depth
        self.score = 0.0

    def run(self) -> None:
        try:
            if self._spare:
                scores = _deeper(self._spare, self._package, self._texts)
            else:
                scores = self._package.get_scores(*self._texts, avg=True)
        except (ValueError, ZeroDivisionError, RecursionError):
            return
        self.score = float(scores["rouge-l"]["f"])


def _deeper(frames: int, package: Any, texts: tuple[list[str], list[str]]) -> Any:
    if frames == 1:
        return package.get_scores(*texts, avg=True)
    return _deeper(frames - 1, package, texts)
