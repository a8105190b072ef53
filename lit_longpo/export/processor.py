"""What turns pictures and sounds into a model's inputs: settings that lie beside its weights, as a tokenizer does."""

import shutil
from pathlib import Path

from transformers import PreTrainedModel
from transformers.utils import (
    FEATURE_EXTRACTOR_NAME,
    IMAGE_PROCESSOR_NAME,
    PROCESSOR_NAME,
    VIDEO_PROCESSOR_NAME,
)
from transformers.utils.hub import cached_file

from lit_longpo.policy.weights import hub_commit
from lit_longpo.policy.weights.unread import unread_parts

_FILES = dict.fromkeys((PROCESSOR_NAME, IMAGE_PROCESSOR_NAME, VIDEO_PROCESSOR_NAME, FEATURE_EXTRACTOR_NAME))


def copy_processor(model: PreTrainedModel, folder: Path) -> None:
    """Copy the source's processor files beside a model with eyes or ears; without them nobody can show it a picture.

    Args:
        model: as it was read from its source, folder or hub name.
        folder: where it is saved.
    """
    if not unread_parts(model) or not model.name_or_path:
        return
    for name in _FILES:
        path = cached_file(
            str(model.name_or_path),
            name,
            revision=hub_commit(model),
            _raise_exceptions_for_gated_repo=False,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        if path is not None:
            shutil.copyfile(path, folder / name)
