"""Settings of saved tokenizers that transformers 4 reads, too."""

import json

import pytest
import sentencepiece
from support.byte_tokenizer import CHAT, byte_model
from support.tiny_models import tiny_model
from transformers import AutoTokenizer, LlamaTokenizer

from lit_longpo.export.earlier_tokenizers import _CLASSES, with_earlier_settings, write_earlier_tokenizer
from lit_longpo.export.folder import save_policy
from lit_longpo.policy import PromptFormat, PromptTemplate

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


def test_a_tokenizer_model_comes_along_with_the_tokens_that_are_added(tmp_path):
    """llama.cpp#19152: its converter reads pieces, scores and added tokens from these two files alone."""
    base, saved = tmp_path / "base", tmp_path / "saved"
    for folder in (base, saved):
        folder.mkdir()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["Hello world, the night train to Oslo"] * 40),
        model_prefix=str(base / "tokenizer"),
        model_type="bpe",
        vocab_size=300,
        byte_fallback=True,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    LlamaTokenizer.from_pretrained(base).save_pretrained(base)  # tokenizer.json beside it, as the hub has both
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_special_tokens({"extra_special_tokens": ["<|im_end|>"]})
    tokenizer.add_tokens(["<fact>"])
    save_policy(tiny_model("Llama"), PromptFormat(tokenizer, PromptTemplate()), saved, "card")
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(saved / "tokenizer.model"))
    added = {int(number): token["content"] for number, token in settings(saved)["added_tokens_decoder"].items()}
    names = {number: pieces.id_to_piece(number) for number in range(pieces.get_piece_size())} | added
    assert names == {number: name for name, number in tokenizer.get_vocab().items()}
    assert len({pieces.get_score(number) for number in names if number < len(pieces)}) > 10
    again = AutoTokenizer.from_pretrained(saved)
    for text in ("Hello <fact> train<|im_end|>", "  Oslo\n", TEXT):
        assert again(text)["input_ids"] == tokenizer(text)["input_ids"]


def test_tokens_with_names_keep_them():
    named = {"tokenizer_class": "Qwen2Tokenizer", "extra_special_tokens": {"image_token": "<image>"}}
    assert with_earlier_settings(named) == named
