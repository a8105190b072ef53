"""Byte pairs that a tokenizer leaves out at random: its own regularisation while a model is trained from nothing.

The setting stays in tokenizer.json, and whoever reads that file gets other tokens of the same text at every call
(tokenizers#644): another prompt when a run goes on, when a reference is scored, when a model is asked.
"""

import logging
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from lit_longpo.log_once import log_once

log = logging.getLogger(__name__)


def end_merge_dropout(backend: Tokenizer) -> float:
    """Have all pairs merged from now on.

    Returns:
        The share that was left out so far, for most tokenizers 0.
    """
    share = float(getattr(backend.model, "dropout", None) or 0)
    if share:
        backend.model.dropout = None
    return share


def merge_all(tokenizer: PreTrainedTokenizerBase, where: str) -> None:
    """As `end_merge_dropout`, for a tokenizer of transformers that has a tokenizer.json; says so in the log."""
    backend: Any = tokenizer
    if tokenizer.is_fast and (share := end_merge_dropout(backend.backend_tokenizer)):
        log_once(
            log.warning,
            "%s: tokenizer.json skips %g of the merges at random (`dropout`), so that a text has other tokens every "
            "time; here, and in exported models, all merges are made",
            *(where, share),
        )
