"""A progress bar with the time that is left, on terminals of the first process; nothing elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from evaluation.processes import rank
from lit_longpo.progress_bar import progress_bar


@contextmanager
def bar(name: str, total: int) -> Iterator[Callable[[int], None]]:
    """Inside the block, call the result with the amount of work that was done."""
    with progress_bar(percent=True, shown=rank() == 0) as progress:
        task = progress.add_task(name, total=total)
        yield lambda amount: progress.advance(task, amount)
