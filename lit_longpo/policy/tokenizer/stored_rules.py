"""A tokenizer by the rules in its tokenizer.json.

transformers 5 reads vocabulary and merges out of that file, and builds some classes anew with rules of their own: how
texts are cut into words, how spaces are written. Files that name such a class, or lie beside a model of such a family,
and have other rules (DeepSeek's distilled Llama and Qwen, OLMo-2, Granite, Yi) get other tokens than their models were
trained on, without a word (transformers#45488, #45812, #45920). So texts are tokenised both ways once.

One rule is not followed: `dropout`, by which training a model from nothing skips merges at random, stays in the file,
and would give a text other tokens at every call (tokenizers#644).
"""

import json
import logging
from collections.abc import Iterator
from typing import Any, cast

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from lit_longpo.log_once import log_once
from lit_longpo.policy.locations import stored_file

log = logging.getLogger(__name__)

_COMPARED = dict[tuple[Any, ...], str | None]()  # a text that is cut in another way, by file and class
_ROLES = ("bos_token", "eos_token", "unk_token", "pad_token")
# Words, numbers, signs, line breaks and scripts: what rules cut in different ways. No text begins or ends with a space.
TEXTS = (
    "Hello world",
    "In 2023 it cost $1,234.56 or 650841823 in all.",
    "it's I'LL don't THEY'RE x_y camelCase HTTPServer",
    "def f(a, b):\n    return a != b  # why?\n\n\nprint(f(1, 2))\t\tend",
    "Straße, café, naïve, ÅNGSTRÖM; 你好,世界 2024年 привет мир שלום",
    "emoji \N{GRINNING FACE}\N{THUMBS UP SIGN}\N{EMOJI MODIFIER FITZPATRICK TYPE-4}, a . b ! c ?  two  spaces",
    "e\N{COMBINING ACUTE ACCENT}\r\nﬁne\N{NO-BREAK SPACE}print",
)


def by_stored_rules(tokenizer: PreTrainedTokenizerBase, where: str, **options: Any) -> PreTrainedTokenizerBase:
    """The tokenizer, or the one that tokenizer.json describes where that gives other tokens."""
    path = stored_file(where, "tokenizer.json", options.get("revision"))
    if path is None or not _has_own_rules(tokenizer):
        return tokenizer
    settings = stored_file(where, "tokenizer_config.json", options.get("revision"))
    begins = settings is not None and json.loads(settings.read_bytes()).get("add_prefix_space") is not None
    key = (path, path.stat().st_mtime_ns, type(tokenizer), begins)
    if key not in _COMPARED:  # a tokenizer is read several times, and its file takes half a second
        stored = Tokenizer.from_file(str(path))
        stored.no_truncation()
        stored.no_padding()
        _end_dropout(stored)
        built = cast(Any, tokenizer).backend_tokenizer
        _COMPARED[key] = next(_differing(built, stored, may_begin=begins), None)
    if (text := _COMPARED[key]) is None:
        return tokenizer
    log_once(
        log.warning,
        "%s: transformers' %s does not follow the rules in tokenizer.json, by which the model was trained (%r has "
        "other tokens, for example): the file's rules are used",
        *(where, type(tokenizer).__name__, text),
    )
    return _read_as_stored(tokenizer, where, **options)


def merge_all(tokenizer: PreTrainedTokenizerBase, where: str) -> None:
    """Have a tokenizer make all its merges from now on; the log says so if it skipped some."""
    if tokenizer.is_fast and (share := _end_dropout(cast(Any, tokenizer).backend_tokenizer)):
        log_once(
            log.warning,
            "%s: tokenizer.json skips %g of the merges at random (`dropout`), so that a text has other tokens every "
            "time; here, and in exported models, all merges are made",
            *(where, share),
        )


def _end_dropout(backend: Tokenizer) -> float:
    """The share of merges that a tokenizer has skipped, for most of them 0; it skips none from now on."""
    share = float(getattr(backend.model, "dropout", None) or 0)
    if share:
        backend.model.dropout = None
    return share


def _has_own_rules(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether its class, one of transformers', builds it; others read tokenizer.json as it is, or no such file."""
    kind = type(tokenizer)
    return tokenizer.is_fast and kind.__module__.startswith("transformers.models.") and "__init__" in vars(kind)


def _differing(built: Tokenizer, stored: Tokenizer, *, may_begin: bool) -> Iterator[str]:
    """Texts that two tokenizers cut in different ways."""

    def ids(tokenizer: Tokenizer, text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False).ids)

    for text in TEXTS:
        own, theirs = ids(built, text), ids(stored, text)
        if own != theirs and not (may_begin and (own == ids(stored, f" {text}") or theirs == ids(built, f" {text}"))):
            yield text


def _read_as_stored(tokenizer: PreTrainedTokenizerBase, where: str, **options: Any) -> PreTrainedTokenizerBase:
    """The file as it is, with the roles of tokens that a class knows and no file says."""
    plain = cast(PreTrainedTokenizerBase, PreTrainedTokenizerFast.from_pretrained(where, **options))
    known = plain.get_vocab()
    for role in _ROLES:
        token = getattr(tokenizer, role)
        if getattr(plain, role) is None and token in known:
            setattr(plain, role, token)
    merge_all(plain, where)
    return plain
