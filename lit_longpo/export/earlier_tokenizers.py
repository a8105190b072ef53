"""Writes a tokenizer's settings in the form of transformers 4, which knows neither the classes nor the lists of 5."""

import json
import shutil
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from lit_longpo.files.stored import write_json

_VOCABULARY = "tokenizer.model"
_LAYOUT: dict[str, Any] = {"indent": 2, "sort_keys": True, "ensure_ascii": False}  # of transformers' own
_CLASSES = {"TokenizersBackend": "PreTrainedTokenizerFast"}  # of which 4 says that it does not exist (unsloth#8444)
_TOKENS = {"extra_special_tokens": "additional_special_tokens"}  # which 4 reads as names (mlx-lm#661)


def write_earlier_tokenizer(folder: Path) -> None:
    """Write the settings in the words of transformers 4, where 5 reads the same tokenizer from them.

    The settings are left as they are where it reads another one (a class's name may bring other rules into play), and
    where a tokenizer has code of its own.
    """
    path = folder / "tokenizer_config.json"
    text = path.read_text(encoding="utf-8")
    saved = json.loads(text)
    told = with_earlier_settings(saved)
    if told == saved or "auto_map" in saved:
        return
    meant = _read(folder)
    write_json(path, told, **_LAYOUT)
    if _read(folder) != meant:
        path.write_text(text, encoding="utf-8")


def copy_vocabulary(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Copy the source's tokenizer.model beside a saved tokenizer, and name in its settings the tokens that are added.

    transformers 5 saves neither. llama.cpp's converter does without for Llama and gives all tokens one score, so that
    texts fall into other tokens; for Gemma it ends (its issue 19152).
    """
    source, settings = Path(getattr(tokenizer, "vocab_file", None) or ""), folder / "tokenizer_config.json"
    if source.name != _VOCABULARY or not source.is_file():
        return
    shutil.copyfile(source, folder / _VOCABULARY)
    added = {str(number): token.__getstate__() for number, token in tokenizer.added_tokens_decoder.items()}
    told = {**json.loads(settings.read_text(encoding="utf-8")), "added_tokens_decoder": added}
    write_json(settings, told, **_LAYOUT)


def with_earlier_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of a tokenizer as transformers 4 wrote them."""
    told = {_TOKENS.get(name, name) if isinstance(value, list) else name: value for name, value in settings.items()}
    if "tokenizer_class" in told:
        told["tokenizer_class"] = _CLASSES.get(told["tokenizer_class"], told["tokenizer_class"])
    return told


def _read(folder: Path) -> tuple[str, str, dict[str, Any], list[int]]:
    """Everything that makes tokens of a text."""
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    return rules, tokenizer.padding_side, tokenizer.special_tokens_map, sorted(tokenizer.all_special_ids)
