"""The router loss against transformers' own, over separate rows."""

import importlib

import pytest
import torch
from peft import LoraConfig, get_peft_model
from support.groups import random_groups
from support.padded_rows import rows_of
from support.tiny_hybrids import ALONE as ONE_AT_A_TIME
from support.tiny_hybrids import SHARED, hybrid_config, tiny_hybrid
from support.tiny_models import tiny_config, tiny_model
from transformers.utils.output_capturing import OutputRecorder

from lit_longpo.engine import check_routers, pack, score
from lit_longpo.engine.attention import ordinary_attention
from lit_longpo.engine.routers import routers
from lit_longpo.errors import InputError
from lit_longpo.policy.checkpointing import enable_checkpointing

NAMES = ["Mixtral", "Qwen3Moe", "GptOss"]
ALONE = random_groups([(9, [4]), (12, [2]), (5, [6])])


SEQUENTIAL = {"MiniMax": {"num_local_experts": 4}, "Jamba": {"num_experts": 4, "num_experts_per_tok": 2}}
STATES = ["Qwen3Next"]


def made(name):
    return tiny_hybrid(name, **SEQUENTIAL.get(name, {})) if name in SHARED | ONE_AT_A_TIME else tiny_model(name)


def config_of(name):
    return hybrid_config(name) if name in SHARED | ONE_AT_A_TIME else tiny_config(name)


def own_loss(model, groups, counted):
    """transformers' loss over padded rows; `counted` says which tokens of each row it takes."""
    rows = [group.prompt_ids + response.token_ids for group, response in rows_of(groups)]
    length = max(map(len, rows))
    ids = torch.tensor([row + (0,) * (length - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows])
    with ordinary_attention(model):
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False, output_router_logits=True).router_logits
    function = importlib.import_module(type(model).__module__).load_balancing_loss_func
    wanted = torch.tensor([[counted(number, column) for column in range(length)] for number in range(len(rows))])
    return function(logits, logits[0].shape[-1], 2, mask * wanted)


def loss_and_gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("name", [*NAMES, *SEQUENTIAL, *STATES])
def test_equals_transformers_over_separate_rows(name, checkpointing):
    """Values and gradients, where every prompt has one response."""
    model = made(name)
    if checkpointing:
        enable_checkpointing(model)
    loss = score(model, pack(ALONE), router_loss=True).router_loss
    found = loss_and_gradients(model, loss)
    with ordinary_attention(model):
        expected = own_loss(model, ALONE, lambda row, column: 1)
        theirs = loss_and_gradients(model, expected)
    torch.testing.assert_close(loss, expected)
    assert sum(bool(gradient.any()) for gradient in theirs.values()) > 5
    for key, gradient in theirs.items():
        torch.testing.assert_close(found.get(key, torch.zeros_like(gradient)), gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["Mixtral", *SEQUENTIAL])
def test_a_shared_prompt_counts_once(name):
    """In separate rows it would count for each of its responses: another number."""
    model, groups = made(name), random_groups([(9, [4, 3, 2]), (6, [2, 5])])
    firsts = [response.index == 0 and response.role == "chosen" for _, response in rows_of(groups)]
    lengths = [len(group.prompt_ids) for group, _ in rows_of(groups)]
    loss = score(model, pack(groups), router_loss=True).router_loss
    torch.testing.assert_close(loss, own_loss(model, groups, lambda row, col: firsts[row] or col >= lengths[row]))
    assert abs(loss - own_loss(model, groups, lambda row, column: 1)) > 1e-4


def test_routers_of_a_class_that_others_have_too_are_told_apart_by_name(monkeypatch):
    """Jamba's up to transformers 5.17: linear maps called `router`, under an adapter too."""
    model = tiny_hybrid("Jamba", **SEQUENTIAL["Jamba"])
    for part in (type(model), type(model.model)):
        named = OutputRecorder(torch.nn.Linear, layer_name="mamba.out_proj")
        monkeypatch.setattr(part, "_can_record_outputs", {"router_logits": named})
    found = routers(model)
    assert found == [part for name, part in model.named_modules() if name.endswith(".mamba.out_proj")] != []
    get_peft_model(model, LoraConfig(r=2, target_modules=["out_proj"]))
    assert [router.base_layer for router in routers(model)] == found


def test_the_log_probabilities_do_not_change():
    model, row = tiny_model("Qwen3Moe"), pack(random_groups([(9, [4, 3])]))
    scores = score(model, row)
    assert scores.router_loss is None
    assert torch.equal(scores.sums, score(model, row, router_loss=True).sums)


@pytest.mark.parametrize(
    ("name", "cause"),
    [("Llama", "has no routers"), ("DeepseekV3", "balances its experts without a loss"), ("Doge", "of its own kind")],
)
def test_other_models_are_refused(name, cause):
    with pytest.raises(InputError, match=rf"{cause} \({name}Config\); type --optimization.router_loss 0"):
        check_routers(tiny_config(name))


@pytest.mark.parametrize("name", [*NAMES, *SEQUENTIAL, *STATES])
def test_models_with_routers_pass(name):
    check_routers(config_of(name))
