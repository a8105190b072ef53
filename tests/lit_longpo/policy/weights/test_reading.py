"""A source whose weights are not all there is refused by name; plain files are written here, not by us."""

import json
import shutil

import pytest
import torch
import torch.distributed.checkpoint
import transformers
from safetensors.torch import load_file, save_file
from support.groups import random_groups
from support.tiny_hybrids import tiny_hybrid
from support.tiny_models import tiny_config, tiny_model
from support.word_tokenizer import word_tokenizer
from support.zero3 import needs_deepspeed, releasing_zero3
from transformers import AutoModelForCausalLM, DbrxConfig, MptConfig

from lit_longpo.engine import pack, score
from lit_longpo.policy import PolicyConfig, RoPE
from lit_longpo.policy.rope import refuse_idle_theta
from lit_longpo.policy.weights.reading import load_weights

UP = "model.layers.1.mlp.up_proj.weight"
ROW = pack(random_groups([(9, [2, 3])]))


def changed(tmp_path, change=lambda weights: None, model=None, **config):
    """A saved Llama of three layers with some tensors or settings changed."""
    folder = tmp_path / "model"
    (model or tiny_model("Llama", num_hidden_layers=3)).save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    stored = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**stored, **config}))
    return PolicyConfig(source=str(folder))


def rename(weights):
    weights["model.layers.1.mlp.up.weight"] = weights.pop(UP)


def widen(weights):
    weights["lm_head.weight"] = torch.zeros(5, 32)


def lose_a_layer(weights):
    for name in [name for name in weights if ".layers.2." in name]:
        del weights[name]


LACKING = {
    "a tensor": (lambda weights: weights.pop(UP), {}, rf"1 missing \({UP}\)"),
    "its name": (rename, {}, rf"1 missing \({UP}\); 1 not the model's \(model\.layers\.1\.mlp\.up\.weight\)"),
    "a layer": (lose_a_layer, {}, r"9 missing \(model\.layers\.2\.input_layernorm\.weight"),
    "a layer of the file": (lambda w: None, {"num_hidden_layers": 2}, r"9 not the model's \(model\.layers\.2"),
    "its shape": (widen, {}, r"1 of another shape \(lm_head\.weight\)"),
    "its architecture": (
        lambda w: None,
        {"model_type": "qwen2"},
        r"9 missing \(model\.layers\.0\.self_attn\.k_proj",
    ),
    "an untied head": (lambda weights: weights.pop("lm_head.weight"), {}, r"1 missing \(lm_head\.weight\)"),
}


@pytest.mark.parametrize("what", LACKING)
@pytest.mark.parametrize("read", ["load", "load_base"])  # fit; reference, evaluate and build
def test_what_the_weights_lack_is_named(what, read, tmp_path):
    change, config, message = LACKING[what]
    with pytest.raises(ValueError, match=message) as refused:
        getattr(changed(tmp_path, change, **config), read)()
    assert "\n" not in str(refused.value)


def test_tied_heads_and_buffers_of_old_checkpoints_may_be_missing_or_left_over(tmp_path):
    def old(weights):
        weights.pop("lm_head.weight", None)
        weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)

    model = tiny_model("Llama", tie_word_embeddings=True, num_hidden_layers=3)
    policy = changed(tmp_path, old, model=model)
    torch.testing.assert_close(score(policy.load(), ROW).sums, score(model, ROW).sums)


def test_a_head_that_differs_from_the_embeddings_stays_untied_and_is_saved_so(tmp_path, caplog):
    policy = changed(tmp_path, tie_word_embeddings=True)
    model = policy.load()
    assert "the head is not tied" in caplog.text
    model.save_pretrained(tmp_path / "saved")
    assert json.loads((tmp_path / "saved/config.json").read_text())["tie_word_embeddings"] is False


def test_a_shard_that_is_missing_or_cut_off_is_named(tmp_path):
    tiny_model("Llama").save_pretrained(tmp_path, max_shard_size="20KB")
    shard = sorted(tmp_path.glob("model-*"))[1]
    shard.write_bytes(shard.read_bytes()[:1000])
    with pytest.raises(ValueError, match="whole weights"):
        PolicyConfig(source=str(tmp_path)).load()
    shard.unlink()
    with pytest.raises(FileNotFoundError, match=f"expected {shard.name}"):
        PolicyConfig(source=str(tmp_path)).load()


def test_a_file_of_another_model_beside_shards_is_refused(tmp_path):
    """transformers#16343, mlx-vlm#1329: a model that grew into shards was saved over one of a single file."""
    tiny_model("Llama", seed=1).save_pretrained(tmp_path)
    old = load_file(tmp_path / "model.safetensors")
    tiny_model("Llama").save_pretrained(tmp_path, max_shard_size="20KB")
    save_file(old, tmp_path / "model.safetensors", metadata={"format": "pt"})
    read = AutoModelForCausalLM.from_pretrained(tmp_path).state_dict()
    assert torch.equal(read[UP], old[UP])  # without a word
    with pytest.raises(
        ValueError, match=r"one model at .*, got model.safetensors, which would be read, and the shards"
    ):
        PolicyConfig(source=str(tmp_path)).load()
    (tmp_path / "model.safetensors").unlink()
    assert not torch.equal(PolicyConfig(source=str(tmp_path)).load().state_dict()[UP], old[UP])


def test_an_index_of_the_one_file_is_no_second_model(tmp_path):
    """mlx-lm writes model.safetensors.index.json beside a model of a single file, too."""
    model = tiny_model("Llama")
    model.save_pretrained(tmp_path)
    names = dict.fromkeys(model.state_dict(), "model.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    # Of an older format nothing is read beside safetensors.
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    (tmp_path / "pytorch_model.bin.index.json").write_text('{"weight_map": {"lm_head.weight": "other.bin"}}')

    read = PolicyConfig(source=str(tmp_path)).load()

    assert torch.equal(read.model.norm.weight, model.model.norm.weight)
    assert torch.equal(read.lm_head.weight, model.lm_head.weight)


def test_a_tensor_in_two_shards_is_refused(tmp_path):
    """vllm#54230: a shard with new values of a tensor, which the index names; transformers takes the last shard's."""
    tiny_model("Llama").save_pretrained(tmp_path, max_shard_size="20KB")
    index = tmp_path / "model.safetensors.index.json"
    stored = json.loads(index.read_text())
    old = load_file(tmp_path / stored["weight_map"][UP])[UP]
    save_file({UP: old + 1}, tmp_path / "a-patch.safetensors", metadata={"format": "pt"})
    stored["weight_map"][UP] = "a-patch.safetensors"
    index.write_text(json.dumps(stored))
    assert torch.equal(AutoModelForCausalLM.from_pretrained(tmp_path).state_dict()[UP], old)  # without a word
    with pytest.raises(ValueError, match=f"got {UP} in a-patch.safetensors and in model-000"):
        PolicyConfig(source=str(tmp_path)).load()


def test_shards_of_ranks_are_refused_and_told_how_to_put_together(tmp_path, monkeypatch):
    """transformers 5.23 reads them with torch, which says nothing of tensors that the model has no place for."""
    pytest.importorskip("transformers.distributed.checkpoint")
    model = tiny_model("Llama", num_hidden_layers=3)
    (saved := tmp_path / "saved").mkdir()
    writer = torch.distributed.checkpoint.HuggingFaceStorageWriter(path=str(saved), save_distributed=True)
    torch.distributed.checkpoint.save(model.state_dict(), storage_writer=writer, no_dist=True)
    tiny_config("Llama", num_hidden_layers=2, architectures=["LlamaForCausalLM"]).save_pretrained(saved)
    word_tokenizer().save_pretrained(saved)
    expected = r"whole tensors at .*, got what each rank has saved of them \(shard-00001-model-00001-of-00001\.safetens"
    with pytest.raises(ValueError, match=expected) as told:
        PolicyConfig(source=str(saved)).load()

    monkeypatch.chdir(tmp_path)
    exec(str(told.value).split('python -c "')[1].split('"')[0], {})  # what the error says
    for file in saved.glob("*.json"):
        shutil.copy(file, "WHOLE")
    with pytest.raises(ValueError, match=r"9 not the model's \(model\.layers\.2\.input_layernorm"):
        PolicyConfig(source="WHOLE").load()
    model.config.save_pretrained("WHOLE")
    read = PolicyConfig(source="WHOLE").load().state_dict()
    assert all(torch.equal(read[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("meta", [False, True])
def test_what_a_class_draws_while_its_weights_are_read_changes_no_later_draw(meta, tmp_path):
    """Qwen3-Next draws its decays, under ZeRO-3 on the CPU: one seed started other adapters there than elsewhere."""
    tiny_hybrid("Qwen3Next").save_pretrained(tmp_path)
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    load_weights(str(tmp_path), dtype=torch.float32, **({"device_map": "meta"} if meta else {}))
    assert torch.equal(torch.rand(4), expected)


def test_quantised_weights_are_refused(tmp_path):
    policy = changed(tmp_path, quantization_config={"quant_method": "gptq", "bits": 4})
    with pytest.raises(ValueError, match=r"full precision.*gptq"):
        policy.load()


@pytest.mark.parametrize(
    "dtype", [torch.int8, torch.uint8, torch.int32, torch.float8_e4m3fn, torch.float8_e5m2], ids=str
)
def test_integers_and_8_bit_floats_without_a_word_on_their_scale_are_refused(dtype, tmp_path):
    """transformers takes them for the weights themselves: other logits, and no error."""
    policy = changed(tmp_path, lambda weights: weights.update({UP: (weights[UP] * 127).to(dtype)}))
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "model").get_parameter(UP).is_floating_point()
    with pytest.raises(
        ValueError,
        match=rf"full precision in .*model\.safetensors, got (integers|8-bit floats) \({dtype}\) in 1, .* {UP}",
    ):
        policy.load()


def test_stacked_experts_of_integers_are_refused(tmp_path):
    """Their names do not end in `weight`."""
    tiny_model("GptOss").save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    name = "model.layers.0.mlp.experts.down_proj"
    save_file(weights | {name: (weights[name] * 127).to(torch.int8)}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=rf"got integers \(torch.int8\) in 1, .* {name}"):
        PolicyConfig(source=str(tmp_path)).load()


@pytest.mark.parametrize("shards", [1, 2])
def test_integers_in_torchs_own_files_are_refused_too(shards, tmp_path):
    policy = changed(tmp_path)
    file = tmp_path / "model/model.safetensors"
    weights = load_file(file)
    weights[UP] = (weights[UP] * 127).to(torch.int8)
    file.unlink()
    names = ["pytorch_model.bin"] if shards == 1 else ["pytorch_model-1.bin", "pytorch_model-2.bin"]
    index = {name: names[number % shards] for number, name in enumerate(weights)}
    for shard in names:
        torch.save({name: weights[name] for name in weights if index[name] == shard}, file.with_name(shard))
    if shards > 1:
        file.with_name("pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    with pytest.raises(
        ValueError, match=rf"full precision in .*{index[UP]}, got integers \(torch.int8\) in 1, .* {UP}"
    ):
        policy.load()


@pytest.mark.parametrize("named", ["other.safetensors", "other.safetensors.index.json"])
def test_integers_in_the_file_that_a_configuration_names_are_refused_too(named, tmp_path):
    """`transformers_weights` is read in place of model.safetensors, which may lie beside it."""
    policy = changed(tmp_path, transformers_weights=named)
    weights = load_file(tmp_path / "model/model.safetensors")
    whole = {name: tensor.clone() for name, tensor in weights.items()}
    index = {"metadata": {}, "weight_map": dict.fromkeys(weights, "other.safetensors")}
    (tmp_path / "model/other.safetensors.index.json").write_text(json.dumps(index))
    weights[UP] = (weights[UP] * 127).to(torch.int8)
    save_file(weights, tmp_path / "model/other.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ValueError, match=rf"full precision in .*other.safetensors, got integers .*int8\) in 1, .* {UP}"
    ):
        policy.load()
    save_file({**whole, UP: whole[UP] + 1}, tmp_path / "model/other.safetensors", metadata={"format": "pt"})
    assert torch.equal(policy.load().state_dict()[UP], whole[UP] + 1)


def test_integers_in_a_file_that_is_not_read_are_nobodys_weights(tmp_path):
    policy = changed(tmp_path)
    save_file({UP: torch.ones(2, 2, dtype=torch.int8)}, tmp_path / "model/model_int8.safetensors")
    policy.load()


@needs_deepspeed
@pytest.mark.parametrize("what", LACKING)
def test_under_zero3_too_before_anything_is_split(what, tmp_path):
    from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled, unset_hf_deepspeed_config

    change, config, message = LACKING[what]
    policy, strategy = changed(tmp_path, change, **config), releasing_zero3()
    try:
        strategy.shard_while_loading()
        with pytest.raises(ValueError, match=message):
            policy.load()
        assert is_deepspeed_zero3_enabled()
    finally:
        unset_hf_deepspeed_config()


def test_a_broken_header_is_one_line_whatever_it_holds(policy_folder, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(policy_folder, folder)
    path = folder / "model.safetensors"
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b'"F32"', b'"\\n "', 1))
    with pytest.raises(ValueError, match=r"expected whole weights at .*got a broken file .*copy it again") as caught:
        PolicyConfig(source=str(folder)).load()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("weights", ["pretrained", "random"])
@pytest.mark.parametrize(
    ("kind", "said", "sees"),
    [
        ("HrmText", {"head_dim": 8, "num_key_value_heads": 4}, True),
        ("Mpt", {"d_model": 32, "n_heads": 4, "n_layers": 2, "attn_config": {"prefix_lm": True}}, False),
    ],
)
def test_a_model_that_reads_prompts_in_both_directions_is_refused(kind, said, sees, weights, tmp_path):
    """HRM-Text is trained with such a mask alone (transformers#46025); it was trained here as a causal model."""
    model = AutoModelForCausalLM.from_config(tiny_config(kind, **said)).eval()
    ids = torch.arange(3, 12)[None]
    if sees:  # its first token's answer goes by the prompt's last one, as its paper has it
        types = (torch.arange(9) < 8).long()[None]
        other = torch.where(torch.arange(9) == 7, 50, ids)
        first, second = (model(each, token_type_ids=types).logits[0, 0] for each in (ids, other))
        assert (first - second).abs().max() > 1e-4
        assert torch.equal(model(ids).logits[0, 0], model(other).logits[0, 0])  # and without the mask by none
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"expected a model whose tokens see earlier ones alone .*`prefix_lm: false`"):
        PolicyConfig(source=str(tmp_path), weights=weights).load_plain()


@pytest.mark.parametrize("kind", ["Qwen3VLConfig", "Mistral3Config", "T5Config"])
@pytest.mark.parametrize("weights", ["pretrained", "random"])
def test_a_model_of_another_kind_is_named(kind, weights, tmp_path):
    """Qwen3-VL, Mistral Small 3.1: transformers said two hundred kinds that it would have taken."""
    config = getattr(transformers, kind)()
    config.save_pretrained(tmp_path)
    told = f"causal language model at .*, got `model_type: {config.model_type}`, for which transformers has none"
    with pytest.raises(ValueError, match=told):
        PolicyConfig(source=str(tmp_path), weights=weights).load()


def test_code_beside_the_files_that_is_not_run_is_told(tmp_path, caplog):
    """transformers takes its own class for a type that it knows, whatever the code beside the files computes."""
    policy = changed(tmp_path, auto_map={"AutoModelForCausalLM": "modeling_own.OwnForCausalLM"})
    (tmp_path / "model/modeling_own.py").write_text("raise SystemExit\n")
    caplog.set_level("INFO")
    policy.load()
    assert "(modeling_own.OwnForCausalLM) is not run, but transformers' LlamaForCausalLM" in caplog.text
    caplog.clear()
    changed(tmp_path).load()
    assert "is not run" not in caplog.text


def test_sliding_layers_without_a_window_are_refused(tmp_path):
    """Qwen2's `use_sliding_window: false` takes the window away from layers that are named beside it: a traceback."""
    layers = {"layer_types": ["full_attention", "sliding_attention"], "sliding_window": 4}
    model = tiny_model("Qwen2")
    with pytest.raises(
        ValueError, match=r"expected a `sliding_window` for the `sliding_attention` .* got none \(Qwen2"
    ):
        changed(tmp_path, model=model, use_sliding_window=False, **layers).load()
    assert changed(tmp_path, model=model, use_sliding_window=True, **layers).load().config.sliding_window == 4


@pytest.mark.parametrize("window", [0, -1])
def test_a_window_that_shows_nothing_is_refused(tmp_path, window):
    """Eager attention, sdpa and flash kernels read it in three ways (unsloth#8253); null is none for all."""
    model = tiny_model("Mistral")
    with pytest.raises(ValueError, match=f"expected a `sliding_window` of at least 1 .* got {window}, .* write null"):
        changed(tmp_path, model=model, sliding_window=window).load()
    assert changed(tmp_path, model=model, sliding_window=None).load().config.sliding_window is None


def test_a_factor_without_a_type_of_scaling_is_refused(tmp_path):
    """transformers takes the type for the default one, which has no factor."""
    policy = changed(tmp_path, rope_scaling={"factor": 4.0}, rope_parameters=None)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert torch.equal(plain.model.rotary_emb.inv_freq, tiny_model("Llama").model.rotary_emb.inv_freq)
    with pytest.raises(ValueError, match=r"a type of scaling beside `factor: 4\.0`.* --policy\.rope\.type yarn"):
        policy.load()
    scaled = PolicyConfig(source=policy.source, rope=RoPE(type="yarn", factor=4.0)).load()
    assert scaled.config.rope_parameters["rope_type"] == "yarn"


def test_a_base_of_angles_that_is_left_out_is_refused(tmp_path):
    """transformers 4 took DBRX's out of `attn_config` (500,000); 5.23 builds it with 10,000."""
    sizes = {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 64, "vocab_size": 96}
    experts = {"ffn_hidden_size": 48, "moe_num_experts": 4, "moe_top_k": 2}
    attention = {"kv_n_heads": 2, "clip_qkv": 2.0, "rope_theta": 500000.0}
    config = DbrxConfig(**sizes, attn_config=attention, ffn_config=experts)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"`rope_theta: 500000` of `attn_config`.*with 10000.*--policy.rope.theta 5"):
        PolicyConfig(source=str(tmp_path)).load()
    model = PolicyConfig(source=str(tmp_path), rope=RoPE(theta=500000.0)).load()
    steps = torch.arange(0, 8, 2) / 8
    torch.testing.assert_close(model.transformer.rotary_emb.inv_freq, 500000.0**-steps)


def test_a_base_of_angles_for_positions_without_angles_is_left_alone():
    """MPT's files may say one beside `alibi`: there are no angles whose base could be another."""
    refuse_idle_theta(MptConfig(attn_config={"alibi": True, "rope_theta": 10000}), "model")
