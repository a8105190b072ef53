"""A message that is logged once, however often its cause comes up."""

from collections.abc import Callable, Hashable
from functools import cache


@cache
def log_once(write: Callable[..., None], message: str, *values: Hashable) -> None:
    """Log a message the first time that it comes with these values in this process.

    Args:
        write: of a module's logger: `log.warning` or `log.info`.
        message: with `%s` where a value belongs.
        *values: what it is about.
    """
    write(message, *values)
