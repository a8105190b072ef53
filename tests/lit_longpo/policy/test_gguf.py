"""gguf files, beside a folder or inside an installed package."""

import pytest
import torch
from support.gguf_files import write_gguf, write_gpt2_gguf
from support.groups import random_groups
from support.small_fit import fit, model_of
from support.tiny_models import tiny_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from lit_longpo.engine import check_model, pack, score
from lit_longpo.errors import InputError
from lit_longpo.export import is_merged
from lit_longpo.policy import LoRA, PolicyConfig, RoPE
from lit_longpo.policy.weights import load_weights

pytest.importorskip("gguf")
ROW = pack(random_groups([(20, [3, 4])]))


@pytest.fixture
def model():
    return tiny_model("Qwen2", vocab_size=97).eval()


def test_weights_and_tokenizer_come_from_the_file(tmp_path, model):
    write_gguf(model, tmp_path / "tiny.gguf")
    policy = PolicyConfig(source=str(tmp_path), gguf_file="tiny.gguf", dtype="float32")
    loaded = policy.load()
    check_model(loaded)
    torch.testing.assert_close(score(loaded.eval(), ROW).sums, score(model, ROW).sums)
    form = policy.prompt_format()
    assert form.decode(form.encode("hello")) == "hello"
    assert form.tokenizer.convert_ids_to_tokens(form.end_id) == "<|im_end|>"
    tokens = form.tokenizer.special_tokens_map
    assert (tokens["bos_token"], tokens["eos_token"], tokens["pad_token"]) == (
        "<|endoftext|>",
        "<|im_end|>",
        "<|endoftext|>",
    )
    form.tokenizer.save_pretrained(tmp_path / "saved")
    assert AutoTokenizer.from_pretrained(tmp_path / "saved").special_tokens_map == tokens


def test_rotary_settings_of_a_file_can_be_changed(tmp_path, model):
    write_gguf(model, tmp_path / "tiny.gguf")
    plain = PolicyConfig(source=str(tmp_path), gguf_file="tiny.gguf", dtype="float32")
    changed = PolicyConfig(source=str(tmp_path), gguf_file="tiny.gguf", dtype="float32", rope=RoPE(theta=1e6))
    assert changed.load().config.rope_parameters["rope_theta"] == 1e6
    assert not torch.allclose(score(changed.load(), ROW).sums, score(plain.load(), ROW).sums)


def test_dropout_that_no_file_names_is_off(tmp_path):
    """transformers' GPT-2 drops a tenth by default."""
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "max_position_embeddings": 1024}
    write_gpt2_gguf(tiny_model("GPT2", vocab_size=97, **sizes), tmp_path / "tiny.gguf")
    loaded = PolicyConfig(source=str(tmp_path), gguf_file="tiny.gguf", dtype="float32").load()
    assert [m.p for m in loaded.modules() if isinstance(m, torch.nn.Dropout) and m.p > 0] == []


def test_a_package_may_hold_it(tmp_path, model, monkeypatch):
    (tmp_path / "tiny_weights").mkdir()
    (tmp_path / "tiny_weights" / "__init__.py").write_text("raise RuntimeError('the package must not be imported')\n")
    write_gguf(model, tmp_path / "tiny_weights" / "tiny.gguf")
    monkeypatch.syspath_prepend(tmp_path)
    policy = PolicyConfig(source="package:tiny_weights", gguf_file="tiny.gguf", dtype="float32")
    torch.testing.assert_close(score(policy.load().eval(), ROW).sums, score(model, ROW).sums)


def test_a_package_of_gguf_files_without_a_name_says_what_to_type(tmp_path, monkeypatch):
    (tmp_path / "tiny_files").mkdir()
    (tmp_path / "tiny_files" / "__init__.py").touch()
    (tmp_path / "tiny_files" / "tiny.gguf").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"type --policy.gguf_file tiny\.gguf"):
        PolicyConfig(source="package:tiny_files").load()


def test_a_package_that_is_not_installed_is_named():
    with pytest.raises(FileNotFoundError, match="no_such_package"):
        PolicyConfig(source="package:no_such_package", gguf_file="tiny.gguf").load()


@pytest.mark.parametrize("lora", [None, LoRA(r=2), LoRA(r=2, use_dora=True)], ids=["full", "lora", "dora"])
def test_a_trained_one_is_saved_as_a_model_that_transformers_reads(lora, tmp_path, model):
    """Adapters merged: no file that they could name is a model to transformers."""
    (tmp_path / "base").mkdir()
    write_gguf(model, tmp_path / "base/tiny.gguf", quantized=True)
    policy = PolicyConfig(source=str(tmp_path / "base"), gguf_file="tiny.gguf", dtype="float32", lora=lora)
    start = policy.load_base().eval()
    trained = model_of(fit(policy, tmp_path))
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "model", attn_implementation="prefix_shared").eval()
    assert getattr(saved.config, "quantization_config", None) is None
    torch.testing.assert_close(score(saved, ROW).sums, score(trained, ROW).sums, rtol=1e-5, atol=1e-5)
    assert (score(saved, ROW).sums - score(start, ROW).sums).abs().max() > 1e-2
    assert AutoTokenizer.from_pretrained(tmp_path / "model").get_vocab() == policy.tokenizer().get_vocab()
    again = PolicyConfig(source=str(tmp_path / "model"), dtype="float32").load().eval()
    torch.testing.assert_close(score(again, ROW).sums, score(saved, ROW).sums)


@pytest.mark.parametrize("base", [{"gguf_file": "tiny.gguf"}, {"weights": "random"}], ids=["gguf", "random"])
def test_adapters_that_name_no_base_are_not_written_apart(base):
    policy = PolicyConfig(lora=LoRA(r=2), **base)
    assert is_merged(policy)
    with pytest.raises(InputError, match=r"their base .* so adapters alone would be half .*leave --merge_adapters out"):
        is_merged(policy, merge_adapters=False)


def test_a_model_that_could_not_be_saved_is_refused_when_it_is_read(tmp_path, model):
    """As transformers reads a gguf file of itself."""
    write_gguf(model, tmp_path / "tiny.gguf")
    with pytest.raises(InputError, match=r"can be saved after training .* \(gguf\), which transformers cannot write"):
        load_weights(str(tmp_path), gguf_file="tiny.gguf")
