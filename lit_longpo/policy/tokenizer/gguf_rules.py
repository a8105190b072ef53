"""The rules by which a gguf file's vocabulary cuts texts into words, beside those that transformers takes.

A byte-level one names its rule (`tokenizer.ggml.pre`), as llama.cpp knows it. transformers 5.23 knows a part of the
names and takes GPT-2's rule for all others, so that texts get other tokens than the model was trained on, without a
word: SmolLM has one token for the two line breaks before a number. Nor does it take words whole that are tokens, as
Llama 3 does.
"""

import importlib.util
from collections.abc import Container, Mapping
from typing import Any, cast

from tokenizers import normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerBase

from lit_longpo.errors import InputError
from lit_longpo.policy.weights.gguf_header import GgufHeader

_BYTE_LEVEL, _SENTENCEPIECE = "gpt2", "llama"  # kinds of vocabularies
_OWN_SPACES = ("gemma", "phi3")  # which transformers knows
_MISTRALS = "[INST]"  # a control token since Mistral's third vocabulary
_GPT2 = "gpt-2"
_AS_GPT2 = {
    *(_GPT2, "a.x-4.0", "exaone4", "gigachat", "granite-docling", "jais", "mellum", "modern-bert", "mpt"),
    *("olmo", "phi-2", "roberta-bpe", "trillion"),
}
# Each digit is a word of its own, then GPT-2's rule.
_DIGITS = {"codeshell", "command-r", "exaone", "mellum2", "minerva-7b", "refact", "smollm", "starcoder"}
_BEGUN = {"llama-bpe", "llama-v3", "llama3", "tekken"}  # whose texts begin with a token, also where no flag says so
_WHOLE_WORDS = {"falcon-h1", "falcon3", "lfm2", "llama-bpe", "llama-v3", "llama3", "midm-2.0", "pixtral", "tekken"}


def by_gguf_rules(tokenizer: PreTrainedTokenizerBase, where: str, gguf_file: str) -> None:
    """Have a tokenizer cut texts, and name special tokens, as its file says; it is changed in place.

    Raises:
        InputError: nobody here knows the rule.
    """
    _cut_as_stated(tokenizer, GgufHeader.of_model(where, gguf_file).settings, gguf_file)
    _name_special_tokens(tokenizer)


def _cut_as_stated(tokenizer: PreTrainedTokenizerBase, settings: Mapping[str, Any], gguf_file: str) -> None:
    if importlib.util.find_spec("transformers.integrations.gguf") is None:  # earlier ones go by the architecture
        return
    kind, backend = settings.get("tokenizer.ggml.model"), cast(Any, tokenizer).backend_tokenizer
    if kind == _BYTE_LEVEL:
        rule = _rule(settings)
        _cut_by_rule(backend, rule, gguf_file)
        if rule in _BEGUN and "tokenizer.ggml.add_bos_token" not in settings and tokenizer.bos_token is not None:
            cast(Any, tokenizer).add_bos_token = True
    elif kind == _SENTENCEPIECE and not settings["general.architecture"].startswith(_OWN_SPACES):
        _space_in_front(backend, settings, tokenizer.get_added_vocab())


def _cut_by_rule(backend: Any, rule: str | None, gguf_file: str) -> None:
    if rule in _DIGITS:
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    elif rule not in _AS_GPT2 | _known_to_transformers():
        raise InputError(
            f"expected a rule that cuts texts into words and is known here (`tokenizer.ggml.pre`) in {gguf_file}, got "
            f"{rule or 'none'}: texts would have other tokens than the model was trained on; set `policy.source` to "
            "the model in safetensors, with its tokenizer.json"
        )
    if rule in _WHOLE_WORDS:
        backend.model.ignore_merges = True


def _space_in_front(backend: Any, settings: Mapping[str, Any], added: Container[str]) -> None:
    """Put a space before a text, and before what follows a control token, as SentencePiece and llama.cpp do.

    transformers puts one before the first text alone, and none if that begins with one. So do Mistral's models whose
    turns have control tokens.
    """
    begins = settings.get("tokenizer.ggml.add_space_prefix", True)
    if begins and _MISTRALS in added:
        return
    prepended = [normalizers.Prepend("\u2581")] if begins else []
    backend.normalizer = normalizers.Sequence([*prepended, normalizers.Replace(" ", "\u2581")])
    backend.pre_tokenizer = None


def _rule(settings: Mapping[str, Any]) -> str | None:
    """Its name; the first files of GPT-2 have none and need none."""
    return settings.get("tokenizer.ggml.pre") or (_GPT2 if settings["general.architecture"] == "gpt2" else None)


def _known_to_transformers() -> set[str]:
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    return set(GGUF_PRE_TOKENIZER_SPLITS)


def _name_special_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    """Name special tokens by the ids in the gguf file; transformers 5.17 takes the names from elsewhere."""
    for role in ("bos", "eos", "unk", "pad"):
        number = tokenizer.init_kwargs.get(f"{role}_token_id")
        if number is not None:
            setattr(tokenizer, f"{role}_token", tokenizer.convert_ids_to_tokens(number))
