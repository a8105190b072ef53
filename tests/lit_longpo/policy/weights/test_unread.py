"""A vision model, trained on text (trl#6617): what text never reaches has no gradient."""

import pytest
import torch
from support.groups import random_groups
from support.tiny_hybrids import tiny_hybrid
from support.tiny_models import tiny_model, tiny_vision_model
from support.word_tokenizer import word_tokenizer

from lit_longpo.engine import pack, score
from lit_longpo.planning.tracing.model import ModelPlan
from lit_longpo.policy import LoRA, PolicyConfig
from lit_longpo.policy.weights.unread import unread_parts

ROW = pack(random_groups([(9, [2, 3])]))
CASES = {
    "all": None,
    "all-linear": LoRA(r=2, alpha=4),
    "names": LoRA(r=2, alpha=4, target_modules=["q_proj", "v_proj"]),
}


@pytest.fixture(scope="module")
def vision_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gemma3")
    tiny_vision_model().save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    return folder


def trained(model):
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("case", CASES)
def test_everything_that_is_trained_has_a_gradient(case, vision_model):
    model = PolicyConfig(str(vision_model), lora=CASES[case]).load()
    score(model, ROW).sums.sum().backward()
    assert [name for name, parameter in trained(model).items() if parameter.grad is None] == []
    assert len(trained(model)) > 4
    assert not any("vision" in name or "multi_modal" in name for name in trained(model))


@pytest.mark.parametrize("case", ["all", "names"])
def test_plan_counts_what_is_trained(case, vision_model):
    policy = PolicyConfig(str(vision_model), lora=CASES[case])
    planned = ModelPlan(policy.config(), torch.float32, lora=policy.lora).build()
    sizes = [sum(p.numel() for p in trained(model).values()) for model in (planned, policy.load())]
    assert sizes[0] == sizes[1]


def test_a_model_of_text_alone_has_no_such_parts():
    assert unread_parts(tiny_model("Llama")) == {}
    assert unread_parts(tiny_model("GPT2")) == {}


def test_a_head_beside_the_decoder_is_trained():
    """Llama 4's text model names the prefix of another class, so transformers takes it for its own base."""
    model = tiny_hybrid("Llama4Text")
    assert model.base_model is model
    assert unread_parts(model) == {}
