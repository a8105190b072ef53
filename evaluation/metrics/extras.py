"""Packages of the extra `eval`, imported when a task first needs them."""

import importlib
import logging
from functools import cache
from types import ModuleType
from typing import Any

from lit_longpo.errors import require_package


def require(module: str, purpose: str) -> ModuleType:
    """A module of the extra `eval`, imported.

    Raises:
        MissingPackageError: it is not installed.
    """
    require_package(module.partition(".")[0], purpose, "type: pip install 'lit_longpo[eval]'")
    return importlib.import_module(module)


@cache
def _segmenter() -> Any:
    """A jieba of our own: words that others add to the shared one do not move scores."""
    jieba = require("jieba", "Chinese tasks")
    jieba.setLogLevel(logging.WARNING)
    return jieba.Tokenizer()


def chinese_words(text: str) -> list[str]:
    """Segmentation by jieba (accurate mode), white space and punctuation included.

    Raises:
        MissingPackageError: jieba is missing.
    """
    return list(_segmenter().cut(text, cut_all=False))
