"""Maps whose layers pass over their call: adapters leave them out, and 4 bits do too."""

import pytest
from support.tiny_hybrids import tiny_hybrid
from support.tiny_models import tiny_model
from support.word_tokenizer import word_tokenizer

from lit_longpo.engine import plan_scoring
from lit_longpo.policy import LoRA, PolicyConfig
from lit_longpo.policy.weights.linear_maps import read_directly, unadaptable


def saved(name, folder):
    tiny_hybrid(name).save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    return folder


def adapted(model):
    return {name.partition(".lora_A")[0].split(".")[-1] for name, _ in model.named_parameters() if "lora_A" in name}


@pytest.mark.slow
def test_weights_that_layers_read_are_found_and_no_others():
    assert read_directly(tiny_model("Qwen2")) == unadaptable(tiny_model("Qwen3Moe")) == set()
    assert read_directly(tiny_hybrid("Bamba")) == {"model.layers.0.mamba.out_proj"}
    assert {name.split(".")[-1] for name in read_directly(tiny_hybrid("Mamba"))} == {"x_proj", "dt_proj", "out_proj"}
    assert {name.split(".")[-1] for name in unadaptable(tiny_hybrid("Llama4Text"))} == {"router"}


@pytest.mark.parametrize(("name", "left_out"), [("FalconH1", "out_proj"), ("Llama4Text", "router")])
def test_all_linear_leaves_them_out_and_is_continued(name, left_out, tmp_path):
    """peft alone refuses the one (its words of `all-linear`), and fails in the first forward with the other."""
    policy = PolicyConfig(source=str(saved(name, tmp_path / "base")), lora=LoRA(r=4))
    model = policy.load()
    assert left_out not in adapted(model) >= {"q_proj", "gate_proj"}
    plan_scoring(model)
    model.save_pretrained(tmp_path / "a")
    assert adapted(PolicyConfig(source=str(tmp_path / "a"), lora=LoRA(r=4)).load()) == adapted(model)


def test_naming_one_is_refused(tmp_path):
    lora = LoRA(r=4, target_modules=["out_proj", "q_proj"])
    with pytest.raises(ValueError, match=r"got model\.layers\.0\.mamba\.out_proj: the model reads its weight"):
        PolicyConfig(source=str(saved("Bamba", tmp_path)), lora=lora).load()


def test_what_layers_read_is_not_quantised(tmp_path):
    """Plain transformers quantises Mamba's `dt_proj`, whose layer then multiplies with bytes."""
    pytest.importorskip("bitsandbytes")
    model = PolicyConfig(source=str(saved("Mamba", tmp_path)), quantization="4bit", lora=LoRA(r=4)).load()
    in_4_bits = {
        name.split(".")[-3] for name, parameter in model.named_parameters() if hasattr(parameter, "quant_state")
    }
    assert in_4_bits == {"in_proj"}
    plan_scoring(model)


def test_what_stays_whole_is_said_and_nothing_quantised_refused(tmp_path, caplog):
    pytest.importorskip("bitsandbytes")
    tiny_model("Mixtral").save_pretrained(tmp_path / "experts")
    with caplog.at_level("WARNING"):
        PolicyConfig(source=str(tmp_path / "experts"), quantization="4bit").load_base()
    assert "12% of 49,568 weights are in 4 bits" in caplog.text
    falcon = saved("Falcon", tmp_path / "falcon")
    with pytest.raises(ValueError, match=r"got none in FalconForCausalLM, .*--policy\.quantization null"):
        PolicyConfig(source=str(falcon), quantization="4bit").load_base()
