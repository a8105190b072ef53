"""What a model does in training alone is found by computing, whatever it is called."""

import random

import numpy as np
import pytest
import torch
from support.tiny_hybrids import tiny_hybrid
from support.tiny_models import tiny_model
from torch import nn

from lit_longpo.engine import plan_scoring
from lit_longpo.engine.startup.training_mode import TrainingModeError
from lit_longpo.policy import LoRA
from lit_longpo.policy.adapters.lora import add_adapters


class InTraining(nn.Module):
    """A layer's part whose output is changed in training."""

    def __init__(self, inner, change):
        super().__init__()
        self.inner, self.change = inner, change

    def forward(self, hidden):
        output = self.inner(hidden)
        return self.change(output) if self.training else output


def changed(change, model=None):
    model = model or tiny_model("Llama")
    layer = model.model.layers[1]
    layer.mlp = InTraining(layer.mlp, change)
    return model.train()


def shaken(output):
    return output * (1 + 1e-3 * torch.rand_like(output))


def left_out_sometimes(output):
    return output if random.random() > 0.2 else 0 * output


def drawn_for_nothing(output):
    """As OPT draws which layers to leave out, at a rate of 0."""
    return output if torch.rand(()) >= 0 and np.random.rand() >= 0 else 0 * output


@pytest.mark.parametrize("change", [shaken, left_out_sometimes])
@pytest.mark.parametrize("name", ["Llama", "StableLm"])
def test_chance_in_training_is_refused(name, change):
    model = changed(change, tiny_model("Llama") if name == "Llama" else tiny_hybrid(name))
    with pytest.raises(
        TrainingModeError, match=rf"twice in training, got {name}ForCausalLM, which draws random numbers"
    ):
        plan_scoring(model)
    assert model.training
    assert plan_scoring(model.eval()).error < 1e-5  # as a reference, or asked


def test_chance_beside_adapters_is_refused_and_their_own_dropout_is_not():
    adapted = add_adapters(tiny_model("Llama"), LoRA(r=2, dropout=0.5)).train()
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter)
    assert plan_scoring(adapted).error < 1e-5
    assert all(module.training for module in adapted.modules())
    changed(shaken, adapted.base_model.model)
    with pytest.raises(TrainingModeError):
        plan_scoring(adapted)


def test_another_computation_in_training_is_refused():
    with pytest.raises(
        TrainingModeError, match=r"in training as without, got LlamaForCausalLM, which computes something"
    ):
        plan_scoring(changed(lambda output: 1.1 * output))


def test_what_is_drawn_for_nothing_is_let_in_and_random_states_stay():
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    model = changed(drawn_for_nothing, tiny_model("Llama"))
    torch.set_rng_state(torch.tensor(before[2], dtype=torch.uint8))
    assert plan_scoring(model).path == "packed"
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before


def test_experts_that_are_drawn_are_found_without_knowing_their_name():
    """Where `fit` refuses by name, before it loads anything."""
    model = tiny_model("Phimoe", num_local_experts=4)
    with pytest.raises(TrainingModeError, match="got PhimoeForCausalLM"):
        plan_scoring(model)
    assert plan_scoring(model.eval()).error < 1e-5
