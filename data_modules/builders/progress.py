"""A progress bar with the time that is left, on terminals; nothing elsewhere."""

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from data_modules.builders.generators.requests import Completion


class Progress:
    """Records done, answers and new tokens so far.

    Args:
        total: records.
    """

    def __init__(self, total: int) -> None:
        console = Console(stderr=True)
        columns = (
            TextColumn("building"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[answers]} answers, {task.fields[tokens]} tokens"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self._bar = Bar(*columns, console=console, disable=not console.is_terminal)
        self._task = self._bar.add_task("building", total=total, answers=0, tokens=0)
        self._answers = self._tokens = 0

    def __enter__(self) -> "Progress":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def answer(self, completion: Completion) -> None:
        """One more answer came in."""
        self._answers += 1
        self._tokens += completion.new_tokens
        self._bar.update(self._task, answers=self._answers, tokens=self._tokens)

    def record(self) -> None:
        """One more record is done."""
        self._bar.advance(self._task)
