"""Kinds of LoRA against plain peft on the same rows, and under every strategy."""

import re

import pytest
import torch
import yaml
from peft import AutoPeftModelForCausalLM, LoraConfig, get_peft_model
from safetensors.torch import load_file
from support.groups import random_groups
from support.padded_rows import plain_sums
from support.ranks import run_ranks
from support.small_fit import fit, model_of
from support.tiny_models import tiny_config, tiny_model
from support.word_tokenizer import word_tokenizer
from support.zero3 import needs_deepspeed
from transformers import AutoModelForCausalLM

from lit_longpo.engine import base_model, check_model, pack, plan_scoring, score
from lit_longpo.engine.attention import ordinary_attention
from lit_longpo.errors import InputError
from lit_longpo.log_once import log_once
from lit_longpo.planning.sizes import count
from lit_longpo.planning.tracing.model import ModelPlan
from lit_longpo.policy import LoRA, PolicyConfig
from lit_longpo.policy.adapters.lora import add_adapters
from lit_longpo.policy.reference.reference import reference_mode
from lit_longpo.policy.trainable import training_problem

[GROUP] = random_groups([(9, [2, 3])])
ROW = pack([GROUP])
TARGETS = ["q_proj", "down_proj"]
KINDS = {"rslora": {"use_rslora": True}, "dora": {"use_dora": True}, "both": {"use_rslora": True, "use_dora": True}}


def policy(folder, **kinds):
    return PolicyConfig(source=str(folder), lora=LoRA(r=4, alpha=8, target_modules=TARGETS, **kinds))


def shaken(model):
    torch.manual_seed(1)
    for name, parameter in sorted(model.named_parameters()):
        if "lora_" in name:
            parameter.data += 0.1 * torch.rand_like(parameter)
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_values_and_gradients_are_those_of_plain_peft(kind, policy_folder):
    plain = AutoModelForCausalLM.from_pretrained(policy_folder, attn_implementation="eager")
    torch.manual_seed(0)
    expected = get_peft_model(plain, LoraConfig(r=4, lora_alpha=8, target_modules=TARGETS, **KINDS[kind]))
    torch.manual_seed(0)
    model = policy(policy_folder, **KINDS[kind]).load()
    check_model(model)
    start = score(model, ROW).sums
    with reference_mode(model) as reference:
        torch.testing.assert_close(start, score(reference, ROW).sums, rtol=1e-5, atol=1e-5)
    values = [score(shaken(model), ROW).sums, plain_sums(shaken(expected), GROUP)]
    torch.testing.assert_close(values[0], values[1], rtol=1e-4, atol=1e-4)
    for sums in values:
        (sums * torch.tensor([1.0, -0.5])).sum().backward()
    for (name, ours), other in zip(trained(model), trained(expected), strict=True):
        torch.testing.assert_close(ours.grad, other[1].grad, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize(("name", "checkpointing"), [("CTRL", False), ("Git", True)])
def test_models_that_write_on_their_embeddings_train_adapters(name, checkpointing, tmp_path):
    """transformers made a leaf of what they write on, for layers that are recomputed: a RuntimeError of torch's."""
    AutoModelForCausalLM.from_config(tiny_config(name)).save_pretrained(tmp_path)
    word_tokenizer().save_pretrained(tmp_path)
    model = PolicyConfig(str(tmp_path), lora=LoRA(r=4, alpha=8), gradient_checkpointing=checkpointing).load()
    torch.manual_seed(0)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager").eval()
    [config] = model.peft_config.values()
    expected = get_peft_model(plain, LoraConfig(r=4, lora_alpha=8, target_modules=config.target_modules))
    expected.load_state_dict(shaken(model).state_dict(), strict=False)
    plan_scoring(model)
    values = [score(model, ROW).sums, plain_sums(expected, GROUP)]
    torch.testing.assert_close(values[0], values[1], rtol=1e-4, atol=1e-4)
    for sums in values:
        (sums * torch.tensor([1.0, -0.5])).sum().backward()
    for (name, ours), other in zip(trained(model), trained(expected), strict=True):
        torch.testing.assert_close(ours.grad, other[1].grad, rtol=1e-3, atol=1e-4, msg=name)


def trained(model):
    return sorted((name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad)


def test_kinds_are_saved_and_continued_and_contradictions_refused(policy_folder, tmp_path):
    model = model_of(fit(policy(policy_folder, **KINDS["both"]), tmp_path))
    source = str(tmp_path / "model")
    again = PolicyConfig(source=source)
    assert again.trained_lora == LoRA(r=4, alpha=8, target_modules=sorted(TARGETS), **KINDS["both"])
    torch.testing.assert_close(score(again.load().eval(), ROW).sums, score(model, ROW).sums, rtol=0, atol=0)
    for lora, name in ((LoRA(4, 8, use_dora=True), "use_rslora"), (LoRA(4, 8, use_rslora=True), "use_dora")):
        with pytest.raises(ValueError, match=rf"says `{name}: false`, the adapters .* have `{name}: true`"):
            PolicyConfig(source=source, lora=lora).load()


@pytest.mark.parametrize("strategy", ["fsdp2", pytest.param("ddp", marks=pytest.mark.slow)])
def test_ranks_train_dora_like_one_process(strategy, policy_folder, tmp_path):
    asked = policy(policy_folder, **KINDS["dora"])
    run_ranks(fit, asked, tmp_path / "two", 2, strategy)
    fit(asked, tmp_path / "one")
    one, two = (load_file(tmp_path / name / "model/adapter_model.safetensors") for name in ("one", "two"))
    assert any("magnitude" in name for name in one)
    torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "strategy"),
    [
        ("Mixtral", "fsdp2"),
        pytest.param("Mixtral", "zero3", marks=needs_deepspeed),
        pytest.param("DeepseekV3", "zero3", marks=needs_deepspeed),  # of no class that DeepSpeed knows to gather whole
    ],
)
def test_ranks_train_adapters_of_experts_like_one_process(name, strategy, tmp_path):
    """peft adapts what were linear layers in transformers 4; its own loader makes the same model of the folder."""
    tiny_model(name).save_pretrained(tmp_path / "base")
    word_tokenizer().save_pretrained(tmp_path / "base")
    asked = PolicyConfig(source=str(tmp_path / "base"), lora=LoRA(r=4, alpha=8))
    run_ranks(fit, asked, tmp_path / "two", 2, strategy)
    trained = model_of(fit(asked, tmp_path / "one"))
    one, two = (load_file(tmp_path / name / "model/adapter_model.safetensors") for name in ("one", "two"))
    assert any(".experts." in name for name in one)
    torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-5)
    ids = torch.arange(3, 20).unsqueeze(0)
    alone = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "one/model").eval()
    with ordinary_attention(base_model(trained)):
        torch.testing.assert_close(trained(ids).logits, alone(ids).logits, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "targets", "said"),
    [
        (
            "DeepseekV3",
            "all-linear",
            ["mlp.shared_experts.gate_proj", "mlp.shared_experts.up_proj"],
        ),
        ("DeepseekV3", ["o_proj"], []),
        ("Qwen3Moe", "all-linear", []),
        ("Llama", ["q_proj", "down_proj"], []),
    ],
)
def test_maps_that_peft_passes_over_are_said(name, targets, said, caplog):
    """Shared experts beside stacked ones: peft#3711."""
    log_once.cache_clear()
    model = add_adapters(tiny_model(name), LoRA(r=2, target_modules=targets))
    assert not any("shared_experts" in key for key, part in model.named_parameters() if part.requires_grad)
    assert ("peft puts no adapters" in caplog.text) == bool(said)
    assert all(part in caplog.text for part in said)


@pytest.mark.parametrize("tied", [True, False])
def test_adapters_on_tied_embeddings_are_told_in_our_words(tied, caplog, recwarn):
    """peft's warning names an option that we do not have, with a stack line, before anything else is said."""
    log_once.cache_clear()
    add_adapters(tiny_model("Llama", tie_word_embeddings=tied), LoRA(r=2, target_modules=["q_proj", "embed_tokens"]))
    assert not [str(each.message) for each in recwarn if "tie_word_embeddings" in str(each.message)]
    assert ("adapters on the embeddings of LlamaForCausalLM leave out the head" in caplog.text) == tied


@pytest.mark.parametrize(
    ("kind", "typed"), [({"use_dora": True}, "use_dora false"), ({"dropout": 0.1}, "dropout 0")], ids=str
)
def test_what_peft_has_not_for_stacked_experts_is_said_with_a_way_out(kind, typed):
    """It was advised to type `all-linear`, which was what had been refused."""
    with pytest.raises(InputError) as refused:
        add_adapters(tiny_model("Mixtral"), LoRA(r=2, **kind))
    assert f"type --policy.lora.{typed}, or leave" in str(refused.value)
    names = yaml.safe_load(str(refused.value).rpartition("target_modules ")[2].strip("'"))
    frozen = add_adapters(tiny_model("Mixtral"), LoRA(r=2, target_modules=names, **kind))
    assert not any(".experts." in key for key, part in frozen.named_parameters() if part.requires_grad)
    with pytest.raises(InputError, match=rf"type --policy\.lora\.{typed}$"):
        add_adapters(tiny_model("Mixtral"), LoRA(r=2, target_modules=["w1", "w2", "w3"], **kind))


@pytest.mark.parametrize(
    ("name", "targets"),
    [
        ("Qwen3Moe", ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]),
        ("Mixtral", ["w1", "w2", "w3"]),
    ],
)
def test_names_of_experts_in_other_trainers_recipes_are_read_as_peft_reads_them(name, targets):
    """Automodel#1151, unsloth#6936: experts are no linear layers any more, and their names were refused."""
    ours = add_adapters(tiny_model(name), LoRA(r=2, target_modules=targets))
    plain = get_peft_model(tiny_model(name), LoraConfig(r=2, lora_alpha=32, target_modules=targets))
    trained, expected = (
        {key: part.shape for key, part in model.named_parameters() if part.requires_grad} for model in (ours, plain)
    )
    assert trained == expected
    assert any(".experts." in key for key in trained)
    with pytest.raises(InputError, match="got w9, which it has not"):
        add_adapters(tiny_model(name), LoRA(target_modules=[*targets, "w9"]))


@pytest.mark.parametrize(
    ("name", "targets"),
    [
        ("Qwen3Moe", ["layers.0.mlp.experts.0.gate_proj", "layers.0.mlp.experts.0.up_proj"]),
        ("DeepseekV3", ["shared_experts.gate_proj", "shared_experts.up_proj"]),
        ("DeepseekV3", ["layers.0.mlp.down_proj"]),
    ],
)
def test_names_of_some_experts_are_not_taken_for_those_of_all_layers(name, targets):
    """peft goes by a name's last part: it puts adapters on the stacked experts of all layers, and nowhere else."""
    with pytest.raises(
        InputError, match=r"got (layers|shared).*which peft takes for the experts of all layers \(type "
    ):
        add_adapters(tiny_model(name), LoRA(r=2, target_modules=targets))
    assert add_adapters(tiny_model("Llama"), LoRA(r=2, target_modules=["layers.0.mlp.down_proj"]))


@pytest.mark.parametrize(
    ("name", "pattern", "beyond"),
    [
        ("Mixtral", r".*layers\.0\.self_attn\.(q|v)_proj", r"layers\.1\.self_attn\.[qv]_proj"),
        ("Mixtral", r".*layers\.1\.mlp\.experts\.w2|.*q_proj", r"layers\.0\.mlp\.experts"),
        ("DeepseekV3", r".*shared_experts\.(gate|up|down)_proj", r"layers\.1\.mlp\.experts"),
    ],
)
def test_a_pattern_is_not_taken_for_the_ends_of_its_names(name, pattern, beyond):
    """peft resolves it to last parts of names for models whose experts were linear layers, and adapts all layers."""
    plain = get_peft_model(tiny_model(name), LoraConfig(r=2, target_modules=pattern))
    assert any(re.search(beyond, key) for key, part in plain.named_parameters() if part.requires_grad)
    with pytest.raises(InputError, match=rf"ends alone, so that \S*{beyond} would be trained, too; type a list"):
        add_adapters(tiny_model(name), LoRA(r=2, target_modules=pattern))


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("Mixtral", ["layers.0.self_attn.q_proj", "layers.0.self_attn.v_proj"]),  # what the refusal says
        ("Mixtral", r".*\.(q_proj|experts\.(w1|w2|w3))"),
        ("Mixtral", r".*\.(q_proj|gate)"),
        ("DeepseekV3", r".*experts.*\.(gate|up|down)_proj"),
        ("Llama", r".*layers\.0\.self_attn\.(q|v)_proj"),
    ],
)
def test_names_and_patterns_that_peft_takes_as_they_are_meant_stay(name, wanted):
    ours = add_adapters(tiny_model(name), LoRA(r=2, alpha=4, target_modules=wanted))
    plain = get_peft_model(tiny_model(name), LoraConfig(r=2, lora_alpha=4, target_modules=wanted))
    trained, expected = (
        {key for key, part in model.named_parameters() if part.requires_grad} for model in (ours, plain)
    )
    assert trained == expected


@pytest.mark.parametrize("quantization", [None, "4bit"])
def test_dora_starts_from_a_base_in_half_precision(quantization, tmp_path):
    """Magnitudes that were measured in bf16 stretch rows by up to 0.4 % (found beside trl#7268)."""
    tiny_model("Llama", hidden_size=64, intermediate_size=64).save_pretrained(tmp_path)
    kind = {"dtype": "bfloat16", "quantization": quantization}
    base = PolicyConfig(source=str(tmp_path), **kind, lora=LoRA(r=4, alpha=8)).load()
    dora = PolicyConfig(source=str(tmp_path), **kind, lora=LoRA(r=4, alpha=8, use_dora=True)).load()
    for model in (base, dora):
        plan_scoring(model)
    assert {p.dtype for name, p in dora.named_parameters() if "magnitude" in name} == {torch.float32}
    torch.testing.assert_close(score(dora, ROW).sums, score(base, ROW).sums, rtol=0, atol=0)


def test_zero3_is_refused_under_dora_also_where_a_folder_says_it(policy_folder, tmp_path):
    """An adapter reads its base weight before that is gathered."""
    problem = training_problem(policy(policy_folder, use_dora=True), "ZeRO-3")
    assert "got ZeRO-3; type --config configs/overlays/fsdp2.yaml instead" in str(problem)
    assert training_problem(policy(policy_folder, use_dora=True), "FSDP2") is None
    assert training_problem(policy(policy_folder, use_rslora=True), "ZeRO-3") is None
    plain = AutoModelForCausalLM.from_pretrained(policy_folder)
    get_peft_model(plain, LoraConfig(target_modules=TARGETS, use_dora=True)).save_pretrained(tmp_path / "a")
    assert training_problem(PolicyConfig(source=str(tmp_path / "a")), "ZeRO-3")


def test_rows_of_zeros_are_refused_under_dora(tmp_path):
    """Their length is 0, so every score would be not a number."""
    model = tiny_model("Llama")
    model.model.layers[1].self_attn.q_proj.weight.data[3] = 0
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"got 1 such rows in model\.layers\.1\.self_attn\.q_proj; leave it out"):
        policy(tmp_path, use_dora=True).load()
    policy(tmp_path, use_rslora=True).load()


def test_plan_counts_magnitudes():
    config = tiny_config("Llama")
    plain, dora = (count(ModelPlan(config, torch.float32, LoRA(r=4, use_dora=kind))) for kind in (False, True))
    rows = 2 * (32 + 16 + 16 + 32 + 48 + 48 + 32)  # outputs of each linear map of the two layers
    assert dora.num_trained - plain.num_trained == rows


def test_also_train_reads_numbers_whole(tmp_path):
    tiny_model("Llama", num_hidden_layers=11).save_pretrained(tmp_path)
    lora = LoRA(target_modules=TARGETS, also_train=["layers.1"])
    names = [name for name, _ in trained(PolicyConfig(source=str(tmp_path), lora=lora).load()) if "lora_" not in name]
    assert names
    assert all(".layers.1." in name for name in names)


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        (["q_proj", "v_prj"], r"got v_prj, which it has not; did you mean v_proj\?"),
        (["q_prj"], r"got q_prj, which it has not; did you mean q_proj\?"),
        (["xyz"], "it has .*down_proj, .*q_proj"),
        (["layers.0.self_attn.q_proj", "q_proj.0"], r"got q_proj\.0"),
    ],
)
def test_every_name_of_a_list_means_some_module(targets, expected):
    """peft refuses only a list of which no name means one."""
    with pytest.raises(InputError, match=expected):
        PolicyConfig(lora=LoRA(target_modules=targets)).load()
