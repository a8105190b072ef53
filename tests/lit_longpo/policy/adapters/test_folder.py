"""Folders that plain peft writes, and the values that plain transformers with peft gives for them."""

import json

import pytest
import torch
from lightning.pytorch import Trainer
from peft import PeftModel
from peft.tuners.lora.config import KasaConfig, MontecloraConfig
from safetensors.torch import load_file, save_file
from support.adapter_folders import GROUP, ROW, TARGETS, adapters, edited, ours, plain
from support.padded_rows import plain_sums
from support.preference_data import RandomPairs
from support.quiet_cpu import QUIET_CPU
from support.ranks import run_ranks
from support.tiny_models import tiny_config, tiny_model
from support.word_tokenizer import word_tokenizer
from support.zero3 import needs_deepspeed, releasing_zero3
from transformers import AutoModelForCausalLM

from lit_longpo.callbacks import SavePretrained
from lit_longpo.engine import check_model, plan_scoring, score
from lit_longpo.errors import UserError
from lit_longpo.objectives import SFT
from lit_longpo.optimization import FusedAdamW, Optimization
from lit_longpo.policy import LoRA


def trained(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


KINDS = {
    "plain": {},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "patterns": {"rank_pattern": {"v_proj": 2}, "alpha_pattern": {"v_proj": 3}},
    "one_layer": {"layers_to_transform": [1]},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["continue", "merge"])
@pytest.mark.parametrize("read", ["load", "load_base"])
def test_an_adapter_folder_is_the_model_that_peft_makes_of_it(kind, how, read, policy_folder, tmp_path):
    expected = adapters(policy_folder, tmp_path / "a", **KINDS[kind])
    policy = ours(tmp_path / "a", adapters=how)
    model = getattr(policy, read)().eval()
    torch.testing.assert_close(score(model, ROW).sums.detach(), expected, rtol=1e-4, atol=1e-4)
    check_model(model)
    assert expected.sub(plain_sums(plain(policy_folder), GROUP)).abs().max() > 1e-2
    if read == "load":
        assert all("lora_" in name for name in trained(model)) == (how == "continue")
        assert policy.continues_adapters == (how == "continue")


@pytest.mark.parametrize("how", ["continue", "merge"])
def test_new_adapters_start_where_the_old_ones_ended(how, policy_folder, tmp_path):
    expected = adapters(policy_folder, tmp_path / "a")
    policy = ours(tmp_path / "a", adapters=how, lora=LoRA(r=4, alpha=8, target_modules=TARGETS))
    model = policy.load()
    torch.testing.assert_close(score(model, ROW).sums.detach(), expected, rtol=1e-4, atol=1e-4)
    assert trained(model)
    assert all("lora_" in name for name in trained(model))
    assert policy.reference_is_inside == (how == "merge")
    if how == "merge":
        assert all(not parameter.any() for name, parameter in model.named_parameters() if "lora_B" in name)


def test_dropout_and_base_parts_of_the_next_round_are_its_own(policy_folder, tmp_path, caplog):
    """TRL's DPO turns the dropout of such a folder off: that it goes on here is told, where it does."""
    adapters(policy_folder, tmp_path / "a", lora_dropout=0.5)
    assert ours(tmp_path / "a").trained_lora == LoRA(4, 8, 0.5, TARGETS)
    caplog.set_level("INFO", "lit_longpo")
    ours(tmp_path / "a").load()
    assert f"`lora_dropout: 0.5` in {tmp_path / 'a' / 'adapter_config.json'}" in caplog.text
    caplog.clear()
    lora = LoRA(4, 8, 0.0, TARGETS, also_train=["norm"])
    policy = ours(tmp_path / "a", lora=lora)
    model = policy.load()
    assert torch.equal(score(model, ROW).sums, score(model, ROW).sums)
    assert any("norm" in name for name in trained(model))
    assert policy.trained_lora == lora
    assert "lora_dropout" not in caplog.text


@pytest.mark.parametrize(
    "lora", [LoRA(r=8, alpha=8), LoRA(r=4, alpha=16), LoRA(r=4, alpha=8), LoRA(4, 8, target_modules=["q_proj"])]
)
def test_settings_that_contradict_the_folder_are_refused(lora, policy_folder, tmp_path):
    adapters(policy_folder, tmp_path / "a")
    with pytest.raises(ValueError, match=r"--policy\.lora null to continue.*or --policy\.adapters merge"):
        ours(tmp_path / "a", lora=lora).load()
    assert ours(tmp_path / "a", lora=lora, adapters="merge").load()


def test_all_linear_agrees_with_what_peft_made_of_it(policy_folder, tmp_path):
    expected = adapters(policy_folder, tmp_path / "a", target_modules="all-linear")
    model = ours(tmp_path / "a", lora=LoRA(r=4, alpha=8)).load()
    torch.testing.assert_close(score(model, ROW).sums.detach(), expected, rtol=1e-4, atol=1e-4)


BEYOND = {
    "modules_to_save": {"modules_to_save": ["lm_head"]},
    "norms": {"modules_to_save": ["norm"]},
    "bias": {"bias": "all"},
    "head": {"target_modules": ["q_proj", "lm_head"]},
    "embedding": {"target_modules": ["q_proj", "embed_tokens"]},
    "tokens": {"trainable_token_indices": [5, 6]},
    # Their training has terms of its own in the loss, which a loop has to add; the second draws weights in training.
    "kasa": {"kasa_config": KasaConfig()},
    "monteclora": {"monteclora_config": MontecloraConfig()},
}


@pytest.mark.parametrize("kind", BEYOND)
def test_more_than_low_rank_matrices_can_be_merged_and_read_only(kind, tmp_path):
    tiny_model("Qwen2").save_pretrained(tmp_path / "base")  # with biases
    expected = adapters(tmp_path / "base", tmp_path / "a", **BEYOND[kind])
    with pytest.raises(ValueError, match=r"cannot be continued .*--policy\.adapters merge"):
        ours(tmp_path / "a").load()
    for model in (ours(tmp_path / "a", adapters="merge").load(), ours(tmp_path / "a").load_base()):
        torch.testing.assert_close(score(model.eval(), ROW).sums.detach(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["trainable_params.bin", "non_lora_trainables.bin"])
def test_weights_that_were_trained_beside_adapters_are_not_left_out(name, policy_folder, tmp_path):
    """LongLoRA stores embeddings and norms there; peft reads the folder without a word."""
    adapters(policy_folder, tmp_path / "a")
    torch.save({"base_model.model.model.norm.weight": torch.ones(3)}, tmp_path / "a" / name)
    torch.save({}, tmp_path / "a/training_args.bin")
    with pytest.raises(UserError, match=rf"got weights beside them \({name}\), which peft does not read; merge both"):
        ours(tmp_path / "a").load()


def test_adapters_whose_base_has_moved_on_are_not_put_on_the_one_they_name(policy_folder, tmp_path):
    """axolotl's ReLoRA merges adapters every so many steps, keeps that base in `relora`, and names the first one."""
    adapters(policy_folder, tmp_path / "a")
    plain(policy_folder).save_pretrained(tmp_path / "a" / "relora")
    with pytest.raises(UserError, match=r"got weights beside them \(relora\), which peft does not read; merge both"):
        ours(tmp_path / "a").load()


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", [{"modules_to_save": ["embed_tokens"]}, {"trainable_token_indices": [97, 98]}])
def test_what_a_resized_vocabulary_trains_beside_adapters_is_read_once(kind, tied, tmp_path):
    """As LLaMA-Factory and axolotl add tokens: peft stores such tensors under two names, of which one fits."""
    tiny_model("Llama", tie_word_embeddings=tied).save_pretrained(tmp_path / "small")
    resized = plain(tmp_path / "small")
    resized.resize_token_embeddings(100, mean_resizing=False)
    resized.save_pretrained(tmp_path / "base")
    expected = adapters(tmp_path / "base", tmp_path / "a", **kind)
    trained = PeftModel.from_pretrained(plain(tmp_path / "base"), tmp_path / "a", is_trainable=True)
    trained.save_pretrained(tmp_path / "a", save_embedding_layers=True)  # as peft does where the base's are fewer
    stored = load_file(tmp_path / "a/adapter_model.safetensors")
    with pytest.raises(UserError, match=r"whose base had 100 rows of embeddings|index 97 is out of bounds"):
        edited(tmp_path / "a", base_model_name_or_path=str(tmp_path / "small")).load_base()
    policy = edited(tmp_path / "a", base_model_name_or_path=str(tmp_path / "base"))
    model = policy.load_base().eval()
    torch.testing.assert_close(score(model, ROW).sums.detach(), expected, rtol=1e-4, atol=1e-4)
    path = tmp_path / "a/adapter_model.safetensors"
    save_file({name.replace("modules_to_save", "other").replace("delta", "odd"): t for name, t in stored.items()}, path)
    with pytest.raises(ValueError, match="unknown"):
        policy.load_base()
    strangers = {f"base_model.model.{name}.modules_to_save.weight": torch.ones(3) for name in ("one", "two")}
    save_file({**stored, **strangers}, path)
    with pytest.raises(ValueError, match="2 unknown"):
        policy.load_base()


def test_embeddings_saved_beside_adapters_are_not_dropped(policy_folder, tmp_path):
    """As peft does where a vocabulary was resized: the whole matrix lies in the file, no setting says so."""
    adapters(policy_folder, tmp_path / "a")
    weights = load_file(tmp_path / "a/adapter_model.safetensors")
    embeddings = load_file(policy_folder / "model.safetensors")["model.embed_tokens.weight"]
    weights["base_model.model.model.embed_tokens.weight"] = embeddings + 0.1 * torch.randn_like(embeddings)
    save_file(weights, tmp_path / "a/adapter_model.safetensors")
    expected = plain_sums(PeftModel.from_pretrained(plain(policy_folder), tmp_path / "a").eval(), GROUP).detach()
    with pytest.raises(ValueError, match=r"embed_tokens.*--policy\.adapters merge"):
        ours(tmp_path / "a").load()
    model = ours(tmp_path / "a", adapters="merge").load()
    torch.testing.assert_close(score(model, ROW).sums.detach(), expected, rtol=1e-4, atol=1e-4)


EXPERTS = {"target_modules": ["q_proj"], "target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]}


@pytest.mark.parametrize("memory", [{}, {"gradient_checkpointing": True, "tile_tokens": 4}], ids=["kept", "recomputed"])
def test_adapters_of_stacked_experts_are_continued_as_peft_has_them(memory, tmp_path):
    """peft puts them on while the experts run (`target_parameters`, peft#2710), also when these run in tiles."""
    tiny_model("Qwen3Moe").save_pretrained(tmp_path / "base")
    expected = adapters(tmp_path / "base", tmp_path / "a", **EXPERTS)
    apart = PeftModel.from_pretrained(plain(tmp_path / "base"), tmp_path / "a", is_trainable=True).eval()
    model = ours(tmp_path / "a", **memory).load()
    sums = score(model, ROW).sums
    torch.testing.assert_close(sums.detach(), expected, rtol=1e-4, atol=1e-4)
    sums.sum().backward()
    for response in GROUP.responses:
        ids = torch.tensor([[*GROUP.prompt_ids, *response.token_ids]])
        asked = torch.where(torch.arange(ids.shape[1]) < len(GROUP.prompt_ids), -100, ids)
        (-apart(ids, labels=asked).loss * len(response.token_ids)).backward()
    wanted = {name: weight.grad for name, weight in apart.named_parameters() if weight.requires_grad}
    assert sum(".experts." in name for name in wanted) == 8
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            torch.testing.assert_close(weight.grad, wanted.pop(name), rtol=1e-3, atol=1e-4, msg=name)
    assert not wanted


def test_adapters_of_experts_that_peft_has_turned_since_are_refused(tmp_path):
    """Automodel#3592: where an expert is square, files of peft 0.18 fit peft 0.19, transposed."""
    experts = {"target_parameters": ["mlp.experts.gate_up_proj"]}
    tiny_model("Qwen3Moe", hidden_size=32, moe_intermediate_size=16).save_pretrained(tmp_path / "base")
    expected = adapters(tmp_path / "base", tmp_path / "a", **experts)
    torch.testing.assert_close(score(ours(tmp_path / "a").load(), ROW).sums.detach(), expected, rtol=1e-4, atol=1e-4)
    for written_by in ("0.18.1", None):
        with pytest.raises(ValueError, match=f"`peft_version: {written_by}`, which took the sides"):
            edited(tmp_path / "a", peft_version=written_by).load()
    plain_ones = adapters(tmp_path / "base", tmp_path / "b")
    old = edited(tmp_path / "b", peft_version="0.18.1").load()
    torch.testing.assert_close(score(old, ROW).sums.detach(), plain_ones, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", ["Qwen3Moe", "GptOss"])
def test_adapters_of_experts_in_unsloths_order_are_refused(family, tmp_path):
    """unsloth-zoo#1232: both orders have the same shapes; files that say nothing are from before it read peft's."""
    tiny_model(family).save_pretrained(tmp_path / "base")
    expected = adapters(tmp_path / "base", tmp_path / "a", target_parameters=["mlp.experts.down_proj"])
    of_unsloth = {"auto_mapping": {"unsloth_fixed": True}}
    with pytest.raises(ValueError, match=r"Unsloth's .`lora_B_layout: none`., in the order of before"):
        edited(tmp_path / "a", **of_unsloth).load()
    with pytest.raises(ValueError, match="`lora_B_layout: grouped_by_expert`"):
        edited(tmp_path / "a", **of_unsloth, lora_B_layout="grouped_by_expert").load()
    since = edited(tmp_path / "a", **of_unsloth, lora_B_layout="rank_major").load()
    torch.testing.assert_close(score(since, ROW).sums.detach(), expected, rtol=1e-4, atol=1e-4)


def test_adapters_of_experts_that_mean_their_sides_so_are_read_whoever_wrote_them(tmp_path):
    tiny_model("GptOss").save_pretrained(tmp_path / "base")
    expected = adapters(tmp_path / "base", tmp_path / "a", target_parameters=["mlp.experts.down_proj"])
    old = edited(tmp_path / "a", peft_version="0.18.1").load()
    torch.testing.assert_close(score(old, ROW).sums.detach(), expected, rtol=1e-4, atol=1e-4)


def test_an_adapter_on_tied_weights_is_not_merged(tmp_path):
    tiny_model("Llama", tie_word_embeddings=True).save_pretrained(tmp_path / "base")
    adapters(tmp_path / "base", tmp_path / "a", target_modules=["q_proj", "embed_tokens"])
    with pytest.raises(ValueError, match="whose weight both share"):
        ours(tmp_path / "a", adapters="merge").load()


ZAMBA = {
    "num_hidden_layers": 4,
    "layers_block_type": ["mamba", "hybrid"] * 2,
    "attention_hidden_size": 64,
    "attention_head_dim": 16,
    "mamba_d_state": 8,
    "mamba_dt_rank": 4,
    "n_mamba_heads": 1,
}


def test_adapters_of_layers_that_share_a_weight_are_not_merged(tmp_path):
    """Each would change the others' weight, too: log-probabilities were off by 0.2 of the largest."""
    AutoModelForCausalLM.from_config(tiny_config("Zamba", **ZAMBA)).save_pretrained(tmp_path / "base")
    expected = adapters(tmp_path / "base", tmp_path / "a", target_modules=["up_proj"])
    apart = ours(tmp_path / "a").load_base().eval()
    plan_scoring(apart)
    torch.testing.assert_close(score(apart, ROW).sums.detach(), expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(
        UserError, match=r"2 on layers that share theirs \(model\.layers\.1\.shared_transf\..*up_proj\)"
    ):
        ours(tmp_path / "a", adapters="merge").load()


@pytest.mark.parametrize("rows", [{"embed_tokens": [3, 4], "lm_head": [5]}, {"lm_head": [5]}], ids=["both", "head"])
def test_rows_that_tied_layers_do_not_share_are_not_merged(rows, tmp_path):
    """peft adds both to the one weight (log-probabilities were off by more than 1)."""
    tiny_model("Qwen3", tie_word_embeddings=True).save_pretrained(tmp_path / "base")
    adapters(tmp_path / "base", tmp_path / "adapters", trainable_token_indices=rows)
    with pytest.raises(UserError, match="a head of its own first"):
        ours(tmp_path / "adapters", adapters="merge").load()


@pytest.mark.parametrize("start", ["pissa", "olora", "mica", "orthogonal", "eva"])
def test_adapters_that_began_in_another_way_are_what_peft_made_of_them(start, policy_folder, tmp_path):
    expected = adapters(policy_folder, tmp_path / "adapters", init_lora_weights=start)
    for how in ("continue", "merge"):
        model = ours(tmp_path / "adapters", adapters=how).load()
        torch.testing.assert_close(score(model, ROW).sums.detach(), expected, rtol=1e-4, atol=1e-4)


def test_a_bias_of_an_adapter_needs_one_to_be_added_to(policy_folder, tmp_path):
    expected = adapters(policy_folder, tmp_path, lora_bias=True)
    torch.testing.assert_close(score(ours(tmp_path).load(), ROW).sums.detach(), expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(UserError, match=r"expected a bias at .*type --policy.adapters continue"):
        ours(tmp_path, adapters="merge").load()


def test_adapters_that_change_nothing_are_told(policy_folder, tmp_path, caplog):
    """peft#1402: saved by a trainer that had split them; what they should have learnt is lost."""
    adapters(policy_folder, tmp_path / "a")
    ours(tmp_path / "a").load()
    assert "change nothing" not in caplog.text
    path = tmp_path / "a/adapter_model.safetensors"
    save_file({name: t * ("lora_A" in name) for name, t in load_file(path).items()}, path)
    ours(tmp_path / "a", adapters="merge").load()
    assert f"the adapters at {tmp_path / 'a'} change nothing" in caplog.text


def test_adapters_below_a_model_are_told(policy_folder, tmp_path, caplog):
    """verl's merger writes the base of a training with LoRA there, and what was trained in `lora_adapter` below it."""
    plain(policy_folder).save_pretrained(tmp_path / "merged")
    for name in ("lora_adapter", "checkpoint-9"):
        adapters(policy_folder, tmp_path / "merged" / name)
        for _ in range(2):
            base = ours(tmp_path / "merged").load()
    expected = plain_sums(plain(policy_folder), GROUP)
    torch.testing.assert_close(score(base.eval(), ROW).sums, expected, rtol=1e-4, atol=1e-4)
    [told] = [message for message in caplog.messages if "without the adapters" in message]
    assert f"in lora_adapter below it; if they are part of what was trained, type --policy.source {tmp_path}" in told


def test_weights_in_torchs_format_and_in_half_precision_are_read(policy_folder, tmp_path):
    adapters(policy_folder, tmp_path / "a")
    weights = {k: v.bfloat16() for k, v in load_file(tmp_path / "a/adapter_model.safetensors").items()}
    (tmp_path / "a/adapter_model.safetensors").unlink()
    torch.save(weights, tmp_path / "a/adapter_model.bin")
    expected = plain_sums(PeftModel.from_pretrained(plain(policy_folder), tmp_path / "a").eval(), GROUP).detach()
    model = ours(tmp_path / "a").load()
    torch.testing.assert_close(score(model, ROW).sums.detach(), expected, rtol=1e-4, atol=1e-4)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_what_is_no_starting_point_is_refused(policy_folder, tmp_path):
    adapters(policy_folder, tmp_path / "a")
    with pytest.raises(FileNotFoundError, match=r"base model of .*/a at \.\./moved.*set `base_model_name_or_path` in"):
        edited(tmp_path / "a", base_model_name_or_path="../moved").load()
    with pytest.raises(
        FileNotFoundError, match=r"model of the hub, got moved: .*set `base_model_name_or_path` in .*/a/"
    ):
        edited(tmp_path / "a", base_model_name_or_path="moved").load()
    with pytest.raises(ValueError, match="to name their base model"):
        edited(tmp_path / "a", base_model_name_or_path=None).load()
    with pytest.raises(ValueError, match="whole model under the adapters"):
        edited(tmp_path / "a", base_model_name_or_path=str(tmp_path / "a")).load()
    with pytest.raises(ValueError, match="got IA3"):
        edited(tmp_path / "a", peft_type="IA3").load()
    for kind in ("PROMPT_TUNING", "PREFIX_TUNING", "CPT"):  # they were told to merge, which peft cannot
        with pytest.raises(ValueError, match=f"got {kind}; trained prompts .* cannot be merged"):
            edited(tmp_path / "a", peft_type=kind).load()
    for kind in ("XLORA", "POLY", "ADAPTION_PROMPT"):  # and so were these
        with pytest.raises(ValueError, match=f"got {kind}; what they add depends on the input and cannot be merged"):
            edited(tmp_path / "a", peft_type=kind).load()
    for kind in (None, ["LORA"], {"a": 1}):  # the last two ended in a TypeError
        with pytest.raises(ValueError, match=r"expected LoRA adapters .*; merge them"):
            edited(tmp_path / "a", peft_type=kind).load()
    edited(tmp_path / "a", peft_type="LORA")
    with pytest.raises(ValueError, match=r"for `policy\.adapters: merge`, got a model"):
        ours(policy_folder, adapters="merge").load()
    with pytest.raises(ValueError, match=r"adapters in a below it; type --policy\.source"):
        ours(tmp_path).load()


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"\x00"), "got a broken file"),
        (lambda folder: edited(folder, task_type=[None]), "that peft can read, got: "),
        (lambda folder: edited(folder, corda_config=[None]), "that peft can read, got: TypeError"),
        (lambda folder: edited(folder, rank_pattern=["x"]), "that peft can read, got: AttributeError"),
    ],
)
def test_what_peft_cannot_read_is_one_line(damage, told, policy_folder, tmp_path):
    adapters(policy_folder, tmp_path / "a")
    damage(tmp_path / "a")
    with pytest.raises(UserError, match=f"at {tmp_path / 'a'}.*{told}") as caught:
        ours(tmp_path / "a").load()
    assert "\n" not in str(caught.value)


def test_random_weights_under_adapters_and_two_kinds_in_one_folder_are_refused(policy_folder, tmp_path):
    adapters(policy_folder, tmp_path / "a")
    with pytest.raises(ValueError, match="got random weights"):
        ours(tmp_path / "a", weights="random").load()
    tiny_model("Llama").save_pretrained(tmp_path / "a")
    with pytest.raises(ValueError, match=r"got both model\.safetensors and adapter_config\.json"):
        ours(tmp_path / "a").load()


def test_the_tokenizer_beside_the_adapters_comes_first(policy_folder, tmp_path):
    adapters(policy_folder, tmp_path / "a")
    assert ours(tmp_path / "a").tokenizer().get_vocab() == word_tokenizer().get_vocab()  # of the base
    tokenizer = word_tokenizer()
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    tokenizer.save_pretrained(tmp_path / "a")
    assert ours(tmp_path / "a").tokenizer().chat_template == tokenizer.chat_template


def test_a_quantised_base_is_refused_by_name(tmp_path):
    tiny_model("Llama").save_pretrained(tmp_path / "base")
    adapters(tmp_path / "base", tmp_path / "a")
    path = tmp_path / "base/config.json"
    quantised = {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}
    path.write_text(json.dumps({**json.loads(path.read_text()), **quantised}))
    with pytest.raises(ValueError, match=r"got quantised ones .*bitsandbytes.*base_model_name_or_path"):
        ours(tmp_path / "a").load()


def start_under_zero3(source, how, folder):
    """A step of almost nothing, after which the model that was read is written again."""
    optimization = Optimization(lambda params: FusedAdamW(params, lr=1e-12), schedule="constant", warmup_fraction=0.0)
    module = SFT(policy=ours(source, adapters=how), optimization=optimization)
    trainer = Trainer(
        max_steps=1,
        **QUIET_CPU,
        devices=2,
        strategy=releasing_zero3(),
        default_root_dir=folder,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        callbacks=[SavePretrained(str(folder / "model"))],
    )
    trainer.fit(module, datamodule=RandomPairs(module.views))


@needs_deepspeed
@pytest.mark.slow
@pytest.mark.parametrize(("how", "kind"), [("continue", "plain"), ("merge", "plain"), ("merge", "dora")])
def test_zero3_starts_with_them_too(how, kind, policy_folder, tmp_path):
    expected = adapters(policy_folder, tmp_path / "a", **KINDS[kind])
    run_ranks(start_under_zero3, tmp_path / "a", how, tmp_path)
    written = plain(tmp_path / "model").eval()  # transformers reads adapters as well
    assert (tmp_path / "model/adapter_config.json").is_file() == (how == "continue")
    torch.testing.assert_close(plain_sums(written, GROUP).detach(), expected, rtol=1e-4, atol=1e-4)
