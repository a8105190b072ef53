"""What a terminal shows while pairs are built."""

from types import TracebackType

from data_modules.builders.generators.requests import Completion
from lit_longpo.progress_bar import progress_bar


class BuildProgress:
    """A bar with records done, answers, new tokens and the time that is left; on terminals, nothing elsewhere."""

    def __init__(self, total: int) -> None:
        self._bar = progress_bar("{task.fields[answers]} answers, {task.fields[tokens]} tokens")
        self._task = self._bar.add_task("building", total=total, answers=0, tokens=0)
        self._answers = self._tokens = 0

    def __enter__(self) -> "BuildProgress":
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
