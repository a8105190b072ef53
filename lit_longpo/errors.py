"""Errors that are messages to the user are shown without pages of traceback."""

import linecache
from traceback import walk_tb

_OURS = {"lit_longpo", "data_modules", "evaluation"}


def message_for_user(error: BaseException) -> str | None:
    """The message, if one of our own `raise` statements wrote it; `None` for everything unforeseen.

    jsonargparse raises anew what a constructor has raised; its words are ours as long as they hold ours.
    """
    inner = error.__cause__ or error.__context__
    if _is_ours(error) or inner is None:
        return str(error) if _is_ours(error) else None
    message = message_for_user(inner)
    return message if message is not None and message in str(error) else None


def _is_ours(error: BaseException) -> bool:
    frames = list(walk_tb(error.__traceback__))
    if not frames:
        return False
    frame, line = frames[-1]
    package = str(frame.f_globals.get("__name__")).partition(".")[0]
    statement = linecache.getline(frame.f_code.co_filename, line).strip()
    return package in _OURS and statement.startswith("raise ")
