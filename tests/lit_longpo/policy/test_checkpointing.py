"""What is recomputed costs time and changes nothing."""

import pytest
import torch
from support.groups import random_groups
from support.tiny_models import tiny_model
from torch.utils._python_dispatch import TorchDispatchMode

from lit_longpo.engine import pack, score
from lit_longpo.errors import InputError
from lit_longpo.policy.checkpointing import enable_checkpointing

ROW = pack(random_groups([(9, [2, 3])]))
WAYS = [True, "keep_attention", "offload"]


class Calls(TorchDispatchMode):
    """Counts calls of attention and of matrix products."""

    def __init__(self):
        super().__init__()
        self.attention = self.products = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.attention += "_scaled_dot_product" in func.name() and "backward" not in func.name()
        self.products += func.name() in ("aten::mm", "aten::addmm")
        return func(*args, **(kwargs or {}))


def step(how):
    """Gradients and counted calls."""
    model = tiny_model("Llama")
    if how:
        enable_checkpointing(model, how)
    with Calls() as calls:
        score(model, ROW).sums.sum().backward()
    return [parameter.grad for parameter in model.parameters()], calls


@pytest.mark.parametrize("how", WAYS)
def test_gradients_are_the_same(how):
    for first, second in zip(step(False)[0], step(how)[0], strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_layers_are_computed_twice_and_kept_attention_once():
    plain, recomputed, kept = (step(how)[1] for how in (False, True, "keep_attention"))
    assert plain.attention > 0
    assert (recomputed.attention, kept.attention) == (2 * plain.attention, plain.attention)
    assert plain.products < kept.products == recomputed.products


def test_layers_that_cannot_be_recomputed_are_refused():
    """It was transformers' ValueError."""
    with pytest.raises(InputError, match=r"for CTRLLMHeadModel, .*; type --policy\.gradient_checkpointing false"):
        enable_checkpointing(tiny_model("CTRL"), True)


def test_what_frozen_embeddings_give_holds_no_gradient():
    """A leaf would, for as long as the step."""
    model = tiny_model("Llama")
    enable_checkpointing(model, True)
    model.get_input_embeddings().requires_grad_(False)
    given = []
    model.get_input_embeddings().register_forward_hook(lambda module, inputs, hidden: given.append(hidden))
    score(model, ROW).sums.sum().backward()
    assert given[0].requires_grad
    assert not given[0].is_leaf
