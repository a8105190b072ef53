import pytest
import torch
from safetensors.torch import load_file, save_file
from support.adapter_folders import adapters, edited, ours
from support.tiny_models import tiny_model

from lit_longpo.errors import UserError


def test_a_base_that_does_not_fit_is_refused(policy_folder, tmp_path):
    adapters(policy_folder, tmp_path / "a")
    tiny_model("Llama", num_hidden_layers=3).save_pretrained(tmp_path / "deeper")
    tiny_model("Llama", num_hidden_layers=1).save_pretrained(tmp_path / "shallower")
    tiny_model("Llama", hidden_size=64).save_pretrained(tmp_path / "wider")
    for name, message in {"deeper": "4 tensors too few", "shallower": "4 unknown", "wider": "of another shape"}.items():
        with pytest.raises(ValueError, match=f"{message}.*set `base_model_name_or_path`"):
            edited(tmp_path / "a", base_model_name_or_path=str(tmp_path / name)).load()


@pytest.mark.parametrize("name", ["mlp.experts.0.gate_proj", "block_sparse_moe.gate"])
def test_adapters_of_experts_that_lay_apart_are_told_where_to_merge(name, tmp_path):
    """peft 0.18 with transformers 4.57 wrote such names for Qwen3-MoE and Mixtral; "set the base" did not help."""
    tiny_model("Qwen3Moe").save_pretrained(tmp_path / "base")
    adapters(tmp_path / "base", tmp_path / "a")
    file = tmp_path / "a/adapter_model.safetensors"
    more = {f"base_model.model.model.layers.0.{name}.lora_{side}.weight": torch.ones(2, 2) for side in "AB"}
    save_file({**load_file(file), **more}, file)
    with pytest.raises(UserError, match=rf"those of transformers 4, .*{name}.*merge them there"):
        ours(tmp_path / "a").load()


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        ((98, 32), r"whose base had 98 rows of embeddings.*`resize_token_embeddings\(98\)`"),  # axolotl#2277
        ((98, 16), r"1 of another shape, for example 'base_model\.model\.model\.embed_tokens"),
    ],
    ids=["rows", "width"],
)
def test_embeddings_of_another_base_are_told_by_their_shape(shape, told, policy_folder, tmp_path):
    adapters(policy_folder, tmp_path / "a")
    file = tmp_path / "a/adapter_model.safetensors"
    save_file({**load_file(file), "base_model.model.model.embed_tokens.weight": torch.zeros(shape)}, file)
    with pytest.raises(ValueError, match=told):
        ours(tmp_path / "a", adapters="merge").load()


@pytest.mark.parametrize("named", [True, False])
def test_biases_that_other_versions_of_peft_have_not_stored_are_asked_for(named, tmp_path):
    """peft 0.6 called them `q_proj.bias`, 0.10 to 0.18 leave them out; both read their own files without a word."""
    tiny_model("Qwen2").save_pretrained(tmp_path / "base")
    adapters(tmp_path / "base", tmp_path / "a", bias="lora_only")
    path = tmp_path / "a/adapter_model.safetensors"
    stored = load_file(path)
    assert any(".base_layer.bias" in name for name in stored)
    kept = {name.replace(".base_layer", ""): tensor for name, tensor in stored.items() if named or "bias" not in name}
    save_file(kept, path)
    with pytest.raises(UserError, match=r"biases that `bias: lora_only` says were trained .*`merge_and_unload`"):
        ours(tmp_path / "a", adapters="merge").load()
