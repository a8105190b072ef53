"""Files that transformers would make another tokenizer of are refused, or read by what can."""

import importlib.util
import json
import shutil

import pytest
from support.bpe_tokenizers import bpe_tokenizer
from support.tiny_models import tiny_config
from transformers.integrations.mistral import tokenizer as mistral_tokenizers
from transformers.models.auto import tokenization_auto

from lit_longpo.errors import MissingFileError, MissingPackageError
from lit_longpo.policy import PolicyConfig
from lit_longpo.policy.tokenizer import reading


@pytest.mark.parametrize("model", ["Qwen3", "GPT2", "Cohere"])
@pytest.mark.parametrize("settings", [{"eos_token": "</s>"}, None])
def test_a_tokenizer_without_words_is_refused(model, settings, tmp_path):
    """Who forgets to save the tokenizer gets one from transformers 5, by which every text is empty."""
    tiny_config(model).save_pretrained(tmp_path)
    if settings is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(MissingFileError, match=r"expected a tokenizer with a vocabulary at .* no tokenizer.json"):
        PolicyConfig(source=str(tmp_path)).prompt_format()


@pytest.mark.parametrize(
    ("raw", "package"), [(b"\n\x0e\n\x05<unk>\x15", "sentencepiece protobuf"), (b"IQ== 0\nIg== 1\n", "tiktoken")]
)
def test_a_vocabulary_in_tokenizer_model_alone_asks_for_its_package(raw, package, policy_folder, monkeypatch, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(policy_folder, folder)
    (folder / "tokenizer.model").write_bytes(raw)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert PolicyConfig(source=str(folder)).tokenizer() is not None
    (folder / "tokenizer.json").unlink()
    with pytest.raises(MissingPackageError, match=f"pip install {package}$"):
        PolicyConfig(source=str(folder)).tokenizer()


@pytest.mark.parametrize("options", [{}, {"gguf_file": "a.gguf"}])
def test_a_tokenizer_model_that_sentencepiece_does_not_read_asks_for_none(options, monkeypatch, tmp_path):
    """Lines of tiktoken (Llama 3's own files, GLM-4's), and what lies beside a gguf file, need no sentencepiece."""
    lines = b"" if options else b"IQ== 0\n"
    (tmp_path / "tokenizer.model").write_bytes(lines or b"\n\x0e")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "sentencepiece" else object())
    read = bpe_tokenizer("bytes")
    monkeypatch.setattr(reading.AutoTokenizer, "from_pretrained", lambda where, **_: read)
    assert reading.read_tokenizer(str(tmp_path), **options) is read


def test_tekken_json_beside_tokenizer_json_changes_nothing(policy_folder, monkeypatch, tmp_path):
    """With mistral-common installed, transformers took its class for either, which ended in a TypeError here."""
    folder = tmp_path / "model"
    shutil.copytree(policy_folder, folder)
    tiny_config("Mistral").save_pretrained(folder)
    (folder / "tekken.json").write_text("{}")
    monkeypatch.setattr(mistral_tokenizers, "is_mistral_common_available", lambda: True)
    monkeypatch.setitem(tokenization_auto.TOKENIZER_MAPPING_NAMES, "mistral", "MistralCommonBackend")
    expected = PolicyConfig(source=str(policy_folder)).tokenizer()
    assert PolicyConfig(source=str(folder)).tokenizer().get_vocab() == expected.get_vocab()


def test_tekken_json_alone_says_what_to_make_of_it(policy_folder, tmp_path):
    """transformers makes a tokenizer of it that knows no end and no chat template."""
    folder = tmp_path / "model"
    shutil.copytree(policy_folder, folder)
    (folder / "tekken.json").write_text("{}")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(MissingFileError, match=r"tekken\.json alone.*convert_tekken_tokenizer\("):
        PolicyConfig(source=str(folder)).tokenizer()
