"""Settings of saved tokenizers that transformers 4 reads, too."""

import json

import pytest
from support.byte_tokenizer import CHAT, byte_model
from transformers import AutoTokenizer

from lit_longpo.export.earlier_tokenizers import _CLASSES, with_earlier_settings, write_earlier_tokenizer

TEXT = "Größe <s> 数</s> x"


@pytest.fixture
def folder(tmp_path):
    """As transformers 5 saves tokenizers with special tokens beside those that have names."""
    byte_model(tmp_path, chat_template=CHAT)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.add_special_tokens({"extra_special_tokens": ["<one>", "<two>"]})
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


def settings(folder):
    return json.loads((folder / "tokenizer_config.json").read_text())


def test_transformers_4_finds_its_class_and_its_tokens(folder):
    """TokenizersBackend "does not exist" there (unsloth#8444), and a list has no keys (mlx-lm#661)."""
    before, tokens = settings(folder), AutoTokenizer.from_pretrained(folder)(TEXT + "<two>")["input_ids"]
    assert (before["tokenizer_class"], before["extra_special_tokens"]) == ("TokenizersBackend", ["<one>", "<two>"])
    write_earlier_tokenizer(folder)
    after = settings(folder)
    assert after["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert after["additional_special_tokens"] == ["<one>", "<two>"]
    assert "extra_special_tokens" not in after
    again = AutoTokenizer.from_pretrained(folder)
    assert again(TEXT + "<two>")["input_ids"] == tokens
    assert again.extra_special_tokens == ["<one>", "<two>"]


def test_names_that_make_another_tokenizer_are_left_out(folder, monkeypatch):
    before = settings(folder)
    monkeypatch.setitem(_CLASSES, "TokenizersBackend", "Qwen2Tokenizer")
    write_earlier_tokenizer(folder)
    assert settings(folder) == before


def test_code_of_its_own_is_left_alone(folder):
    before = {**settings(folder), "auto_map": {"AutoTokenizer": ["own.Tokenizer", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(before))
    write_earlier_tokenizer(folder)
    assert settings(folder) == before


def test_tokens_with_names_keep_them():
    named = {"tokenizer_class": "Qwen2Tokenizer", "extra_special_tokens": {"image_token": "<image>"}}
    assert with_earlier_settings(named) == named
