"""A progress bar with the time that is left, on terminals of the first process; nothing elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from evaluation.processes import rank


@contextmanager
def bar(name: str, total: int) -> Iterator[Callable[[int], None]]:
    """Inside the block, call the result with the amount of work that was done.

    Args:
        name: what is shown.
        total: amount of all work, for example prompt tokens.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    shown = console.is_terminal and rank() == 0
    with Progress(TextColumn("{task.description}"), *columns, console=console, disable=not shown) as progress:
        task = progress.add_task(name, total=total)
        yield lambda amount: progress.advance(task, amount)
