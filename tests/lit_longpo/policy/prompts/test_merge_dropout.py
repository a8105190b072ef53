"""Byte pairs that tokenizer.json leaves out at random are all merged (tokenizers#644)."""

import json

import pytest
from support.bpe_tokenizers import bpe_tokenizer
from support.tiny_models import tiny_config

from lit_longpo.policy import PolicyConfig, PromptTemplate

_TEXT = "The night train changed very little before the market began."


@pytest.mark.parametrize("model", ["Llama", "Qwen2"])  # as the file says, and by a class with other rules
def test_a_text_has_the_same_tokens_at_every_call(model, tmp_path, caplog):
    tokenizer = bpe_tokenizer("bytes", special=["<|endoftext|>"])
    expected = tokenizer.encode(_TEXT, add_special_tokens=False)
    tokenizer.save_pretrained(tmp_path)
    tiny_config(model, vocab_size=700).save_pretrained(tmp_path)
    path = tmp_path / "tokenizer.json"
    content = json.loads(path.read_text())
    content["model"]["dropout"] = 0.5
    path.write_text(json.dumps(content))
    form = PolicyConfig(source=str(tmp_path), template=PromptTemplate(chat=False)).prompt_format()
    assert [form.encode(_TEXT) for _ in range(5)] == [tuple(expected)] * 5
    assert "skips 0.5 of the merges at random" in caplog.text
    form.tokenizer.save_pretrained(tmp_path / "exported")
    assert json.loads((tmp_path / "exported/tokenizer.json").read_text())["model"]["dropout"] is None
