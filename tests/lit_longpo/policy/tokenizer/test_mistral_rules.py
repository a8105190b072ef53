"""What transformers suspects of every large tokenizer beside a Mistral model is looked at (transformers#42591)."""

import json
import logging

import pytest
from support.bpe_tokenizers import bpe_tokenizer
from tokenizers import Regex, Tokenizer, pre_tokenizers

from lit_longpo.command_line.foreign_warnings import quieten_libraries
from lit_longpo.policy import PolicyConfig, PromptTemplate

_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"  # camelCase is one
_MISTRALS = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def saved(folder, pattern: str, **settings: object) -> PolicyConfig:
    """A tokenizer of more than 100,000 tokens, in which a capital letter joins small ones, beside a Mistral model."""
    tokenizer = bpe_tokenizer("bytes")
    cut = pre_tokenizers.Split(Regex(pattern), "isolated")
    backend = tokenizer.backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.Sequence([cut, pre_tokenizers.ByteLevel(False, use_regex=False)])
    state = json.loads(backend.to_str())
    vocabulary = state["model"]["vocab"]
    state["model"]["merges"].append(["l", "C"])
    names = ["lC", *(f"unused{number}" for number in range(100_100))]
    first = len(vocabulary) + len(state["added_tokens"])
    vocabulary.update({name: number for number, name in enumerate(names, first)})
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    (folder / "config.json").write_text(json.dumps({"model_type": "mistral", "transformers_version": "4.57.0"}))
    return PolicyConfig(source=str(folder), template=PromptTemplate(chat=False))


@pytest.mark.parametrize(
    ("pattern", "settings", "told", "joined"),
    [
        (_WORDS, {}, True, True),
        pytest.param(_WORDS, {"fix_mistral_regex": False}, False, True, marks=pytest.mark.slow),
        pytest.param(_WORDS, {"fix_mistral_regex": True}, False, False, marks=pytest.mark.slow),
        pytest.param(_MISTRALS, {}, False, False, marks=pytest.mark.slow),
    ],
    ids=["told", "as it lies", "Mistral's", "the same"],
)
def test_which_rules_are_meant_is_asked_where_they_differ(pattern, settings, told, joined, tmp_path, caplog):
    policy = saved(tmp_path, pattern, **settings)
    quieten_libraries()
    with caplog.at_level(logging.WARNING):
        form = policy.prompt_format()
    assert caplog.text.count('write "fix_mistral_regex": true into tokenizer_config.json') == told
    assert "You should set the `fix_mistral_regex=True` flag" not in caplog.text
    names = form.tokenizer.convert_ids_to_tokens(form.encode("camelCase"))
    assert ("lC" in names) is joined
