"""What happens to adapters at `policy.source` when training starts: they are continued or merged."""

from typing import Literal

from lit_longpo.errors import InputError, MissingFileError
from lit_longpo.policy.adapters.folder import AdapterFolder
from lit_longpo.policy.locations import locate
from lit_longpo.policy.model_files import ModelFiles

AdaptersAtStart = Literal["continue", "merge"]


def start_adapters(files: ModelFiles, how: AdaptersAtStart, *, random: bool) -> AdapterFolder | None:
    """The adapters that training starts with, to be continued or merged; `None` if the source is a whole model.

    Raises:
        InputError: there are none to merge, or random weights are wanted under them.
    """
    folder = files.adapters()
    if folder is None and how == "merge":
        raise InputError(
            f"expected adapters at {locate(files.source, files.gguf_file)} for `policy.adapters: merge`, got a "
            "model; type --policy.adapters continue, which does nothing to a model"
        )
    if folder is not None and random:
        raise InputError(
            f"expected `policy.weights: pretrained` with the adapters at {folder.path}, got random weights, which "
            f"they were not trained on; type --policy.source {folder.base}"
        )
    return folder


def continued_adapters(files: ModelFiles, how: AdaptersAtStart) -> AdapterFolder | None:
    """The adapters that are trained further; `None` if there are none, or if nothing lies at the source (in `plan`)."""
    try:
        return files.adapters() if how == "continue" else None
    except MissingFileError:  # whoever reads the source says what is missing
        return None
