"""Errors that are messages to the user are shown without pages of traceback."""

import linecache
from traceback import walk_tb

_OURS = {"lit_longpo", "data_modules", "evaluation"}


def message_for_user(error: BaseException) -> str | None:
    """The message, if one of our own `raise` statements wrote it; `None` for everything unforeseen."""
    frames = list(walk_tb(error.__traceback__))
    if not frames:
        return None
    frame, line = frames[-1]
    package = str(frame.f_globals.get("__name__")).partition(".")[0]
    statement = linecache.getline(frame.f_code.co_filename, line).strip()
    return str(error) if package in _OURS and statement.startswith("raise ") else None
