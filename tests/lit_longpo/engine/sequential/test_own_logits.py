"""Models whose heads do more than to multiply, against their own logits over separate rows."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from support.groups import random_groups
from support.parity import assert_parity
from support.tiny_hybrids import OWN, tiny_hybrid

from lit_longpo.batch import View, Views
from lit_longpo.engine import pack, plan_scoring
from lit_longpo.engine.scoring import row_log_probs
from lit_longpo.engine.sequential.own_logits import scoring_cost, use_own_logits
from lit_longpo.policy.checkpointing import enable_checkpointing

GROUPS = [(40, [5, 19, 1]), (23, [3]), (1, [2, 4])]
EVERY = [name if name == "Bert" else pytest.param(name, marks=pytest.mark.slow) for name in OWN]


@pytest.mark.parametrize("name", EVERY)
def test_values_and_gradients_are_the_models_own(name):
    model = tiny_hybrid(name)
    plan = plan_scoring(model)
    assert plan.path == "own_logits"
    assert "head changes logits in a way we do not know" in plan.cause
    assert_parity(model, random_groups(GROUPS))
    if plan.no_leaps is None:
        assert_parity(model, random_groups(GROUPS, jump=True))


def test_with_checkpointed_layers_and_adapters():
    model = tiny_hybrid("Bert")
    enable_checkpointing(model, True)
    model.enable_input_require_grads()
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["query", "value"], init_lora_weights=False)).train()
    assert plan_scoring(adapted).path == "own_logits"
    assert_parity(adapted, random_groups(GROUPS))


def test_only_the_logits_from_the_first_scored_token_on_are_asked_for():
    model = tiny_hybrid("ModernBertDecoder")
    plan_scoring(model)
    asked = []
    model.get_output_embeddings().register_forward_hook(lambda module, args, output: asked.append(output.shape[1]))
    with torch.no_grad():
        row_log_probs(model, pack(random_groups([(40, [5, 19])])))
    assert asked == [6, 19]  # with the prompt's last token, whose state both responses share


def test_a_plain_head_of_a_factor_that_is_known_needs_none():
    """Falcon-H1's factor, HyperCLOVAX's that Granite divides by, xLSTM's soft-cap: tiles of logits are enough."""
    assert plan_scoring(tiny_hybrid("FalconH1", lm_head_multiplier=0.3)).path == "packed"


def test_the_cost_is_said():
    model = tiny_hybrid("Bert")
    model.config.vocab_size = 2**18
    views = Views(policy=(View("long", "chosen"), View("long", "rejected")))
    use_own_logits(model)
    assert "up to 2 times; its own head gives whole logits, 1.0 MiB in fp32 for each token" in scoring_cost(
        model, views
    )
