"""Tables of the library `datasets`: by their name on the hub, or in a folder that `save_to_disk` wrote."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from data_modules.files.readers import READERS, table_row
from lit_longpo.errors import InputError, MissingFileError, error_text
from lit_longpo.files.folders import nearby
from lit_longpo.files.json_files import Rows

_SECONDS = 10.0  # for one answer of the hub


def is_saved(folder: Path) -> bool:
    """Whether `save_to_disk` wrote the folder; a file of that name beside others may be anybody's."""
    return is_saved_table(folder) or (folder / "dataset_dict.json").is_file()


def is_saved_table(folder: Path) -> bool:
    """Whether `Dataset.save_to_disk` wrote the folder: a table without splits."""
    return (folder / "state.json").is_file() and any(folder.glob("*.arrow"))


def saved_rows(folder: str, split: str, argument: str) -> Rows:
    """The rows of a folder that `save_to_disk` wrote; of a `DatasetDict`, those of one split.

    Raises:
        MissingFileError: it cannot be loaded.
        InputError: there is no such split.
    """
    return _table(_saved(folder, split, argument), f"{folder} [{split}]")


def _saved(folder: str, split: str, argument: str) -> Any:
    """What `save_to_disk` wrote; of a `DatasetDict`, one split."""
    import datasets

    try:
        saved = datasets.load_from_disk(folder)
    except Exception as error:  # as below: any of them means that nothing was loaded
        raise not_loaded(folder, split, argument, error) from error
    if isinstance(saved, datasets.Dataset):
        return saved
    return saved[known_split(split, list(saved), folder, argument)]


def hub_table(source: str, split: str, argument: str) -> Any:
    """A `datasets.Dataset`, mapped from its files.

    Args:
        source: a name, with `:` and the configuration behind it if there are several; or a folder.
        split: which part.
        argument: name of the setting, for errors.

    Raises:
        MissingFileError: it cannot be loaded.
    """
    import datasets

    name, _, configuration = (source, "", "") if Path(source).exists() else source.partition(":")
    try:
        with _cache_alone(name):
            return datasets.load_dataset(with_a_name(name), configuration or None, split=split)
    except Exception as error:  # the hub client raises a dozen types; all mean that nothing was loaded
        raise not_loaded(source, split, argument, error) from error


def _cache_alone(name: str) -> AbstractContextManager[object]:
    """Where the hub cannot be reached: it would be tried again and again for half a minute before the cache is."""
    from datasets import config

    offline = config.HF_HUB_OFFLINE or not (Path(name).exists() or _hub_answers(name))
    return patch.object(config, "HF_HUB_OFFLINE", offline)


def _hub_answers(name: str) -> bool:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        get_hf_file_metadata(hf_hub_url(name, "README.md", repo_type="dataset"), timeout=_SECONDS)
    except (HfHubHTTPError, HFValidationError):  # what `datasets` will say better
        return True
    except Exception:  # of whichever transport the hub's client has
        return False
    return True


def hub_rows(source: str, split: str, argument: str) -> Rows:
    """The rows of a data set by its name, or of a folder that `datasets` reads; arguments as of `hub_table`."""
    return _table(hub_table(source, split, argument), f"{source} [{split}]")


def _table(table: Any, name: str) -> Rows:
    plain = table.with_format(None)  # of a saved one that has been told to give tensors, or some columns
    return ((f"{name}: row {number}", table_row(row)) for number, row in enumerate(plain, 1))


def known_split(split: str, splits: list[Any], source: str, argument: str) -> str:
    """The split, if the source has it.

    Raises:
        InputError: it has others.
    """
    if split not in splits:
        names = ", ".join(map(str, splits))
        raise InputError(f"expected a split of {source!r} ({names}), got {split!r}; set `{split_setting(argument)}`")
    return split


def split_setting(argument: str) -> str:
    """`data.init_args.val_split` beside `data.init_args.val_path`."""
    return f"{argument.removesuffix('path')}split"


def not_loaded(source: str, split: str, argument: str, error: Exception) -> MissingFileError:
    """The error about a source that `datasets` could not load."""
    return MissingFileError(
        f"expected a file ({', '.join(READERS)}), a folder or the name of a data set (NAME, NAME:CONFIGURATION) "
        f"with a split {split!r}, got {source!r}, which could not be loaded "
        f"({type(error).__name__}: {error_text(error)}); set `{argument}`{nearby(source)}"
    )


def with_a_name(source: str) -> str:
    """The folder from the root on: `datasets` takes a set's name from its path, and "." has none."""
    return str(Path(source).resolve()) if Path(source).exists() else source
