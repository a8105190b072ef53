"""One file of a model, wherever this machine keeps it."""

from pathlib import Path

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError


def stored_file(source: str, name: str, revision: str | None = None) -> Path | None:
    """Where a model's file lies, without a look into the hub.

    Returns:
        `None` if the folder lacks it, or nothing has downloaded it.
    """
    if Path(source).is_dir():
        path = Path(source, name)
        return path if path.is_file() else None
    try:
        found = try_to_load_from_cache(source, name, revision=revision)
    except HFValidationError:  # no name of the hub's
        return None
    return Path(found) if isinstance(found, str) else None
