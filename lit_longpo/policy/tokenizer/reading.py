"""Reads the tokenizer at `policy.source`, and refuses files that transformers would make another tokenizer of."""

import json
import logging
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from lit_longpo.errors import MissingFileError, require_package
from lit_longpo.log_once import log_once
from lit_longpo.policy.file_errors import read_by_transformers
from lit_longpo.policy.locations import stored_file
from lit_longpo.policy.tokenizer.mistral_rules import warn_of_mistral_rules
from lit_longpo.policy.tokenizer.sentencepiece_rules import check_sentencepiece_rules, is_tiktokens
from lit_longpo.policy.tokenizer.stored_rules import by_stored_rules, merge_all

log = logging.getLogger(__name__)


def read_tokenizer(where: str, **options: Any) -> PreTrainedTokenizerBase:
    """The tokenizer that lies in a folder or on the hub, by the rules of its files.

    Args:
        where: folder or hub name.
        **options: of `from_pretrained`.

    Raises:
        MissingFileError: the files cannot be read, or lack what makes a vocabulary.
        MissingPackageError: the package that reads them is not installed.
        InputError: nobody here knows the rule of a gguf file.
    """
    if "gguf_file" not in options:  # which has the vocabulary itself
        _require_reader(where)
        _refuse_tekken_alone(where)
    with read_by_transformers("a tokenizer", where):
        # Never mistral-common's own class, which has no chat template: transformers reads tekken.json, too.
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(where, mistral_format=False, **options)
        _check_words(tokenizer, where)
        if "gguf_file" not in options:
            check_sentencepiece_rules(tokenizer, where, options.get("revision"))
            _warn_of_other_template(where, options.get("revision"))
        merge_all(tokenizer, where)
        warn_of_mistral_rules(tokenizer, where, **options)
        tokenizer = tokenizer if "gguf_file" in options else by_stored_rules(tokenizer, where, **options)
    # Else the chat template's own marks would be text; which of them are in data is `template.markup`'s.
    tokenizer.split_special_tokens = False
    return tokenizer


def _check_words(tokenizer: PreTrainedTokenizerBase, where: str) -> None:
    """Refuse a tokenizer without a vocabulary, as transformers 5 builds one from its class if the files are missing."""
    if len(tokenizer) <= len(tokenizer.added_tokens_decoder):
        raise MissingFileError(
            f"expected a tokenizer with a vocabulary at {where}, got {type(tokenizer).__name__} without one: there is "
            "no tokenizer.json (or vocab.json with merges.txt, or tokenizer.model); copy it there from the model that "
            "this one was trained from"
        )


def _require_reader(where: str) -> None:
    """Ask for the package that reads this tokenizer.model; transformers would always ask for tiktoken."""
    path = Path(where, "tokenizer.model")
    if not path.is_file() or path.with_name("tokenizer.json").is_file():
        return
    package, more = ("tiktoken", "") if is_tiktokens(path) else ("sentencepiece", " protobuf")
    wanted_by = f"the tokenizer.model at {where}, which has no tokenizer.json beside it"
    require_package(package, wanted_by, f"type: pip install {package}{more}")


def _refuse_tekken_alone(where: str) -> None:
    """Refuse a folder with tekken.json alone, which names no chat template and no end token; say how to convert it."""
    path = Path(where, "tekken.json")  # of a hub's files only those are known that somebody has asked for
    if not path.is_file() or path.with_name("tokenizer.json").is_file():
        return
    raise MissingFileError(
        f"expected tokenizer.json at {where}, found Mistral's tekken.json alone; type: pip install mistral-common, and "
        "in Python: from transformers.integrations.mistral import convert_tekken_tokenizer; "
        f'convert_tekken_tokenizer("{where}/tekken.json").save_pretrained("{where}")'
    )


def _warn_of_other_template(where: str, revision: str | None) -> None:
    """Warn of a chat template in tokenizer_config.json that nobody reads, as another lies in chat_template.jinja."""
    read, settings = (stored_file(where, name, revision) for name in ("chat_template.jinja", "tokenizer_config.json"))
    if read is None or settings is None:
        return
    said = json.loads(settings.read_bytes()).get("chat_template")
    if isinstance(said, str) and said.strip() != read.read_text(encoding="utf-8").strip():
        log_once(
            log.warning,
            "%s: chat_template.jinja is the chat template; another one, in tokenizer_config.json, is not read: remove "
            "one",
            where,
        )
