"""Picks answered examples to read: the worst, middling and best of each task."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from evaluation.reports.grouping import by_task
from evaluation.reports.report import BenchmarkReport, Prediction
from evaluation.reports.table import Section, percent

_MAX_CHARACTERS = 2000
# Control characters that a terminal would obey are shown as pictures of themselves.
_VISIBLE = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n"} | {0x7F: 0x2421}


@dataclass(frozen=True)
class Sample:
    """One answered example, long texts shortened."""

    task: str
    item: Prediction

    @property
    def facts(self) -> str:
        """Task, id, length, depth and score in one line."""
        depth = [] if self.item.depth is None else [f"depth {self.item.depth:.0%}"]
        return ", ".join([self.item.id, f"length {self.item.length:,}", *depth, f"score {percent(self.item.score)} %"])

    @property
    def texts(self) -> dict[str, str]:
        """What was asked, expected and got."""
        texts = {
            "question": self.item.question,
            "expected": " / ".join(self.item.answers),
            "response": self.item.prediction,
        }
        return {name: _shortened(text) for name, text in texts.items()}


def samples(report: BenchmarkReport, per_task: int = 3) -> list[Sample]:
    """Examples of every task, spread evenly over its scores."""
    return [
        Sample(task, item)
        for task, items in by_task(report).items()
        for item in _spread(sorted(items, key=lambda item: item.score), per_task)
    ]


def sample_table(shown: Iterable[Sample]) -> Section:
    """Samples as a table."""
    rows = [(sample.facts, *sample.texts.values()) for sample in shown]
    return Section("Sample predictions", ("example", "question", "expected", "response"), rows, is_text=True)


def _spread(items: Sequence[Prediction], count: int) -> list[Prediction]:
    last = len(items) - 1
    steps = max(1, count - 1)
    return [items[number] for number in sorted({round(step * last / steps) for step in range(count)})]


def _shortened(text: str) -> str:
    rest = len(text) - _MAX_CHARACTERS
    text = text.translate(_VISIBLE)
    return text if rest <= 0 else f"{text[:_MAX_CHARACTERS]} ... ({rest:,} more characters, see the JSON file)"
