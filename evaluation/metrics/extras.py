"""Packages of the extra `eval`, imported when a task first needs them."""

import importlib
import logging
from functools import cache
from types import ModuleType
from typing import Any

from lit_longpo.errors import MissingPackageError


def require(module: str, purpose: str) -> ModuleType:
    """A module of the extra `eval`, imported.

    Args:
        module: of the extra `eval`, or one inside it.
        purpose: what needs it, for the error.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name not in (module, package):
            raise
        message = f"expected the package {package!r} for {purpose}, got none; type: pip install 'lit_longpo[eval]'"
        raise MissingPackageError(message, name=package) from error


@cache
def _segmenter() -> Any:
    """A jieba of our own: words that others add to the shared one do not move scores."""
    jieba = require("jieba", "Chinese tasks")
    jieba.setLogLevel(logging.WARNING)
    return jieba.Tokenizer()


def chinese_words(text: str) -> list[str]:
    """Segmentation by jieba (accurate mode), white space and punctuation included.

    Raises:
        ModuleNotFoundError: jieba is missing.
    """
    return list(_segmenter().cut(text, cut_all=False))
