"""Errors that are messages to the user, and are shown without pages of traceback.

Whoever raises one says what was expected, what came, and what to type next. Each kind is also the built-in error that
Python programs expect. What only a mistake in our own code can cause stays built-in, and keeps its traceback.
"""


class UserError(Exception):
    """Something that the user can put right; the message says how."""


class InputError(UserError, ValueError):
    """A setting, argument, record, file or model is not what it must be."""


class InputTypeError(UserError, TypeError):
    """An argument is of a type that it must not be."""


class MissingFileError(UserError, FileNotFoundError):
    """A file or folder is not where a setting says."""


class MissingPackageError(UserError, ModuleNotFoundError):
    """An optional package is not installed."""


class BusyError(UserError, BlockingIOError):
    """Another process is at work in the folder."""


class UnreachableError(UserError, ConnectionError):
    """A server does not answer as it must."""


def message_for_user(error: BaseException) -> str | None:
    """The message, if it was written for the user; `None` for everything unforeseen.

    jsonargparse raises anew what a constructor has raised; its words are ours as long as they hold ours.
    """
    if isinstance(error, UserError):
        return str(error)
    inner = error.__cause__ or error.__context__
    message = None if inner is None else message_for_user(inner)
    return message if message is not None and message in str(error) else None
