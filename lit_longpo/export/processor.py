"""Copies the processor of a vision or audio model: the settings that turn pictures and sounds into inputs."""

import logging
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

log = logging.getLogger(__name__)

_FILES = dict.fromkeys((PROCESSOR_NAME, IMAGE_PROCESSOR_NAME, VIDEO_PROCESSOR_NAME, FEATURE_EXTRACTOR_NAME))


def copy_processor(model: PreTrainedModel, folder: Path) -> None:
    """Copy the source's processor files beside a vision or audio model, which takes pictures and sounds by them."""
    if not unread_parts(model) or not model.name_or_path:
        return
    try:
        paths = [path for name in _FILES if (path := _found(model, name)) is not None]
    except OSError:
        log.warning(
            "%s has gone since it was read, and with it its processor files (preprocessor_config.json), if it "
            "had any; copy them beside the saved model to show it pictures or sounds",
            model.name_or_path,
        )
        return
    for path in paths:
        shutil.copyfile(path, folder / path.name)


def _found(model: PreTrainedModel, name: str) -> Path | None:
    path = cached_file(
        str(model.name_or_path),
        name,
        revision=hub_commit(model),
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return None if path is None else Path(path)
