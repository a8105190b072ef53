"""Texts are cut as tokenizer.json says, whatever class transformers takes (transformers#45488, #45812, #45920)."""

import json
from functools import cache

import pytest
from support.bpe_tokenizers import bpe_tokenizer
from support.tiny_models import tiny_config
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from lit_longpo.policy import PolicyConfig, PromptTemplate
from lit_longpo.policy.tokenizer.stored_rules import TEXTS

_CORPUS = ["In 2023 there were 650841823 of them.", "We need to add 9 and 6: 15. It's 1,234.56!"] * 9
_PLAIN = PromptTemplate(chat=False)
_SENTENCE = "The night train changed very little before the market began."


@cache
def _trained(pattern: str) -> str:
    tokenizer = Tokenizer(models.BPE())
    cut = pre_tokenizers.Split(Regex(pattern), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cut, pre_tokenizers.ByteLevel(False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(_CORPUS, trainer)
    tokenizer.add_special_tokens(["<s>", "</s>"])
    return tokenizer.to_str()


CL100K = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+(?!\S)|\s+"


def stored(folder, kind: str, model: str | None, **settings: object):
    """A folder with a tokenizer whose settings name a class, beside the configuration of a model."""
    tokenizer = Tokenizer.from_str(_trained(CL100K))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>").save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "tokenizer_class": kind, **settings}))
    if model is not None:
        tiny_config(model, vocab_size=512).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("kind", "model"),
    [
        ("LlamaTokenizerFast", "Llama"),  # DeepSeek's distilled Llama
        ("LlamaTokenizerFast", "Qwen2"),  # DeepSeek's distilled Qwen
        ("TokenizersBackend", "Qwen2"),
        ("Qwen2TokenizerFast", "Qwen2"),
        ("GPT2TokenizerFast", "Olmo2"),
        ("GPT2Tokenizer", "Granite"),
        ("GPT2TokenizerFast", "GPT2"),
        ("GPT2TokenizerFast", "Llama"),
        ("GPTNeoXTokenizerFast", "GPTNeoX"),
        ("CohereTokenizerFast", "Cohere"),
        ("PreTrainedTokenizerFast", "Llama"),
    ],
)
def test_texts_are_cut_as_the_file_says(kind, model, tmp_path):
    policy = PolicyConfig(source=str(stored(tmp_path, kind, model)), template=_PLAIN)
    expected = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    form = policy.prompt_format()
    for text in (*TEXTS, "we need to add 9 and 6 in 2023"):
        ids = form.encode(text)
        assert list(ids) == expected.encode(text, add_special_tokens=False).ids
        assert form.tokenizer.decode(ids) == text
    assert (form.tokenizer.bos_token, form.tokenizer.eos_token) == ("<s>", "</s>")


def test_another_way_is_said_once(tmp_path, caplog):
    policy = PolicyConfig(source=str(stored(tmp_path, "GPT2TokenizerFast", "Llama")), template=_PLAIN)
    for _ in range(2):
        policy.tokenizer()
    assert caplog.text.count("the file's rules are used") == 1
    assert "transformers' GPT2Tokenizer" in caplog.text


def test_adapters_without_a_models_configuration_beside_them(tmp_path):
    """A folder of a tokenizer alone names its class alone (open-instruct#1896)."""
    base, adapters = stored(tmp_path, "GPT2TokenizerFast", "Olmo2"), tmp_path / "adapters"
    adapters.mkdir()
    stored(adapters, "GPT2TokenizerFast", None)
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "base_model_name_or_path": str(base)}
    (adapters / "adapter_config.json").write_text(json.dumps(settings))
    (adapters / "adapter_model.safetensors").touch()
    texts = ["In 2023 it was 650841823"]
    of_base, of_adapters = (PolicyConfig(source=str(folder), template=_PLAIN) for folder in (base, adapters))
    assert of_base.prompt_format().encode(texts[0]) == of_adapters.prompt_format().encode(texts[0])


@pytest.mark.parametrize(("kind", "model"), [("bytes", "GPT2"), ("sentencepiece", "Llama")])
def test_a_class_with_the_files_rules_is_kept(kind, model, tmp_path):
    bpe_tokenizer(kind).save_pretrained(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "tokenizer_class": f"{model}TokenizerFast"}))
    tiny_config(model, vocab_size=700).save_pretrained(tmp_path)
    own = AutoTokenizer.from_pretrained(tmp_path)
    assert type(PolicyConfig(source=str(tmp_path)).tokenizer()) is type(own)
    assert type(own).__name__ == f"{model}Tokenizer"


def test_a_space_in_front_that_the_settings_ask_for_is_theirs(tmp_path):
    bpe_tokenizer("bytes").save_pretrained(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    said = {"tokenizer_class": "GPT2TokenizerFast", "add_prefix_space": True}
    path.write_text(json.dumps({**json.loads(path.read_text()), **said}))
    tiny_config("GPT2").save_pretrained(tmp_path)
    tokenizer = PolicyConfig(source=str(tmp_path)).tokenizer()
    assert tokenizer.decode(tokenizer.encode("word", add_special_tokens=False)) == " word"


def test_a_chat_template_that_nobody_reads_is_told(tmp_path, caplog):
    """transformers takes chat_template.jinja, whatever somebody has changed in tokenizer_config.json."""
    template = "{% for m in messages %}<s>{{ m.content }}</s>{% endfor %}"
    for number, other in enumerate((template, template.replace("<s>", "<s> "))):
        folder = tmp_path / str(number)
        stored(folder, "PreTrainedTokenizerFast", "Llama", chat_template=other)
        (folder / "chat_template.jinja").write_text(template + "\n")
        assert AutoTokenizer.from_pretrained(folder).chat_template.strip() == template
        PolicyConfig(source=str(folder)).tokenizer()
        assert ("another one, in tokenizer_config.json, is not read" in caplog.text) == (other != template)


@pytest.mark.parametrize("model", ["Llama", "Qwen2"])  # as the file says, and by a class with other rules
def test_a_text_has_the_same_tokens_at_every_call(model, tmp_path, caplog):
    """Merges that tokenizer.json skips at random are all made (tokenizers#644)."""
    tokenizer = bpe_tokenizer("bytes", special=["<|endoftext|>"])
    expected = tokenizer.encode(_SENTENCE, add_special_tokens=False)
    tokenizer.save_pretrained(tmp_path)
    tiny_config(model, vocab_size=700).save_pretrained(tmp_path)
    path = tmp_path / "tokenizer.json"
    content = json.loads(path.read_text())
    content["model"]["dropout"] = 0.5
    path.write_text(json.dumps(content))
    form = PolicyConfig(source=str(tmp_path), template=PromptTemplate(chat=False)).prompt_format()
    assert [form.encode(_SENTENCE) for _ in range(5)] == [tuple(expected)] * 5
    assert "skips 0.5 of the merges at random" in caplog.text
    form.tokenizer.save_pretrained(tmp_path / "exported")
    assert json.loads((tmp_path / "exported/tokenizer.json").read_text())["model"]["dropout"] is None
