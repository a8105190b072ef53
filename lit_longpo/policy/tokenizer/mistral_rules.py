"""Tokenizers of Mistral's models whose tokenizer.json cuts words in another way than Mistral's own.

transformers takes every one of them with more than 100,000 tokens for such a file, which many are not, and names an
argument of a call as the remedy (transformers#42591). Which way a fine-tuned model was trained in nobody knows but
whoever trained it.
"""

import logging
from functools import cache
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from lit_longpo.policy.tokenizer.stored_rules import TEXTS

log = logging.getLogger(__name__)

_SETTING = "fix_mistral_regex"


def warn_of_mistral_rules(tokenizer: PreTrainedTokenizerBase, where: str, **options: Any) -> None:
    """Say so where Mistral's rules would give other tokens, and the files do not say which are meant."""
    suspected = getattr(getattr(tokenizer, "backend_tokenizer", None), _SETTING, None) is False
    if suspected and _SETTING not in tokenizer.init_kwargs:
        _warn(where, **options)


@cache
def _warn(where: str, **options: Any) -> None:
    both = [AutoTokenizer.from_pretrained(where, **{_SETTING: how}, **options) for how in (False, True)]
    text = next((text for text in TEXTS if both[0].encode(text) != both[1].encode(text)), None)
    if text is not None:
        log.warning(
            "%s: tokenizer.json cuts words in other ways than Mistral's own tokenizer (%r, for example), and is used "
            'as it lies there; write "%s": true into tokenizer_config.json for a model that was trained with '
            "Mistral's, false for one that was trained with this file",
            where,
            text,
            _SETTING,
        )
