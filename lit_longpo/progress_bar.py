"""Progress bars with the time that is left, on terminals alone."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress


def progress_bar(*fields: str, percent: bool = False, shown: bool = True) -> "Progress":
    """A bar for standard error; nothing where that is no terminal.

    Args:
        *fields: what else is told of a task, in rich's format.
        percent: show the share that is done, not how many of how many.
        shown: False for no bar on terminals either, as on all processes but the first.
    """
    from rich import console, progress  # as much as a tenth of a second, for commands that show none

    terminal = console.Console(stderr=True)
    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.TaskProgressColumn() if percent else progress.MofNCompleteColumn(),
        *map(progress.TextColumn, fields),
        progress.TimeElapsedColumn(),
        progress.TextColumn("left"),
        progress.TimeRemainingColumn(),
    )
    return progress.Progress(*columns, console=terminal, disable=not (shown and terminal.is_terminal))
