"""Tensors of published files that a language model has no layers for."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.tiny_hybrids import tiny_hybrid
from support.tiny_models import tiny_config, tiny_model
from support.word_tokenizer import word_tokenizer
from transformers import AutoModelForCausalLM

from lit_longpo.export import save_policy
from lit_longpo.policy import LoRA, PolicyConfig, PromptFormat, PromptTemplate
from lit_longpo.policy.weights.left_out import left_out, left_out_of

MTP = "mtp.layers.0.mlp.gate.weight"


@pytest.mark.parametrize(("lora", "said"), [(None, True), (LoRA(r=2, alpha=4), False)], ids=["whole", "adapters"])
def test_a_saved_model_says_what_it_lacks(lora, said, tmp_path, caplog):
    """Qwen3-Next's layers for several tokens at once (transformers#40968); adapters name a base that has them."""
    tiny_hybrid("Qwen3Next").save_pretrained(tmp_path / "m")
    word_tokenizer().save_pretrained(tmp_path / "m")
    weights = load_file(tmp_path / "m/model.safetensors")
    save_file({**weights, MTP: torch.zeros(4, 32)}, tmp_path / "m/model.safetensors", metadata={"format": "pt"})
    model = PolicyConfig(str(tmp_path / "m"), lora=lora).load()
    save_policy(model, PromptFormat(word_tokenizer(), PromptTemplate()), tmp_path / "saved", "")
    assert (
        f"lacks 1 tensors of its source, for which Qwen3NextForCausalLM has no layers ({MTP})" in caplog.text
    ) == said


@pytest.mark.parametrize("lacks", [True, False])
@pytest.mark.parametrize(
    ("make", "declared", "name"),
    [
        (lambda: tiny_hybrid("Qwen3Next"), "mtp_num_hidden_layers", MTP),
        (lambda: tiny_model("DeepseekV3"), "num_nextn_predict_layers", "model.layers.61.eh_proj.weight"),
    ],
    ids=["Qwen3Next", "DeepseekV3"],
)
def test_a_saved_config_promises_no_layers_that_its_folder_lacks(make, declared, name, lacks, tmp_path):
    """Of unsloth#11042: who drafts with them, or converts the folder, would miss the weights only there."""
    model = make()
    setattr(model.config, declared, 1)
    model.save_pretrained(tmp_path / "m")
    word_tokenizer().save_pretrained(tmp_path / "m")
    if lacks:
        weights = load_file(tmp_path / "m/model.safetensors")
        save_file({**weights, name: torch.zeros(4, 32)}, tmp_path / "m/model.safetensors", metadata={"format": "pt"})
    loaded = PolicyConfig(str(tmp_path / "m")).load()
    save_policy(loaded, PromptFormat(word_tokenizer(), PromptTemplate()), tmp_path / "saved", "")
    assert json.loads((tmp_path / "saved/config.json").read_text())[declared] == (0 if lacks else 1)
    assert getattr(loaded.config, declared) == 1
    AutoModelForCausalLM.from_pretrained(tmp_path / "saved")


@pytest.mark.parametrize(
    ("family", "layers", "name", "lacks"),
    [
        ("DeepseekV3", 2, "model.layers.61.eh_proj.weight", True),
        ("Glm4Moe", 47, "model.layers.46.mlp.experts.0.up_proj.weight", False),  # a layer like others; 92 is one more
        ("Glm4Moe", 46, "model.layers.46.mlp.experts.0.up_proj.weight", True),
        ("GPT2", 2, "h.0.attn.bias", False),  # older versions kept their masks
        ("Llama", 2, "mtp.fc.weight", False),  # not passed over: reading refuses it
    ],
)
def test_what_belongs_to_a_layer_that_is_there_is_not_lacking(family, layers, name, lacks):
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(tiny_config(family, num_hidden_layers=layers, num_experts=2))
    assert left_out_of(model, ["model.embed_tokens.weight", name]) == [name] * lacks


def test_shards_are_looked_into_by_their_index(tmp_path):
    tiny_hybrid("Qwen3Next").save_pretrained(tmp_path, max_shard_size="20KB")
    word_tokenizer().save_pretrained(tmp_path)
    save_file({MTP: torch.zeros(4, 32)}, tmp_path / "mtp.safetensors", metadata={"format": "pt"})
    index = tmp_path / "model.safetensors.index.json"
    stored = json.loads(index.read_text())
    stored["weight_map"][MTP] = "mtp.safetensors"
    index.write_text(json.dumps(stored))
    assert left_out(PolicyConfig(str(tmp_path)).load_plain()) == [MTP]
