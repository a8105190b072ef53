"""State layers in packed rows against the model's own logits over separate rows."""

import sys
from functools import wraps

import pytest
import torch
from peft import LoraConfig, get_peft_model
from support.groups import random_groups
from support.parity import assert_parity
from support.tiny_hybrids import SHARED, tiny_hybrid

from lit_longpo.batch import Segment, SegmentTable
from lit_longpo.engine import generation_mode, plan_scoring
from lit_longpo.engine.states import (
    _by_device,
    _hand_table,
    _takes_no_table,
    mixers,
    predecessors,
    share_states,
    unreachable_states,
    watch_states,
)
from lit_longpo.policy.checkpointing import enable_checkpointing

# Prompts longer and shorter than a chunk, and shorter than a convolution is wide.
GROUPS = [(40, [5, 19, 1]), (1, [2, 4]), (2, [1, 3])]
QUICK = {"Qwen3_5Text", "FalconH1", "Lfm2"}
EVERY = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in SHARED]


@pytest.mark.parametrize("name", EVERY)
def test_responses_start_from_their_prompts_state(name):
    model = tiny_hybrid(name)
    plan = plan_scoring(model)
    assert plan.path == "packed"
    assert_parity(model, random_groups(GROUPS))
    if plan.no_leaps is None:
        assert_parity(model, random_groups(GROUPS, jump=True))


@pytest.mark.parametrize("how", [True, pytest.param("keep_attention", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["Qwen3_5Text", pytest.param("Bamba", marks=pytest.mark.slow)])
def test_with_checkpointed_layers_and_adapters(name, how):
    model = tiny_hybrid(name)
    enable_checkpointing(model, how)
    model.enable_input_require_grads()
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)).train()
    assert plan_scoring(adapted).path == "packed"
    assert_parity(adapted, random_groups(GROUPS))


def test_functions_are_wrapped_once_and_pass_plain_rows_through():
    model = tiny_hybrid("Lfm2")
    problem = watch_states(model)
    share_states(model)
    with generation_mode(model):
        ids = torch.tensor([[3, 4, 5, 6]])
        whole = model.generate(ids, max_new_tokens=4, do_sample=False, use_cache=False)
        assert torch.equal(model.generate(ids, max_new_tokens=4, do_sample=False), whole)
    assert "1 of 1 convolutions" in problem()  # nobody came with a table
    import transformers.models.lfm2.modeling_lfm2 as code

    assert not hasattr(code.causal_conv1d_fn.__wrapped__, "shares_states")
    assert len(mixers(model)) == 1


def test_pieces_follow_their_sequence():
    segments = (Segment(5, (0, 1)), Segment(2, (0, 2)), Segment(4, (3, 4)), Segment(3, (5,)))
    assert predecessors(SegmentTable((2, 3, 2, 3, 1, 3), segments)) == (-1, 0, 0, -1, 3, -1)


def test_an_installed_kernel_is_left_to_the_devices_that_it_runs_on():
    """transformers takes fla's for every tensor; on a CPU Triton refuses its pointers."""

    def reference(columns, weight, bias=None):
        return columns * weight

    @wraps(reference)
    def kernel(columns, weight, bias=None, **options):
        if columns.device.type == "cpu":
            raise ValueError("Pointer argument cannot be accessed from Triton (cpu tensor?)")
        return columns * 2 * weight

    chosen = _by_device(kernel)
    assert chosen(torch.ones(2), torch.full((2,), 3.0), cu_seqlens=None).tolist() == [3.0, 3.0]
    assert chosen(columns=torch.ones(2), weight=torch.ones(2)).tolist() == [1.0, 1.0]
    assert chosen(torch.ones(2, device="meta"), torch.ones(2, device="meta"), cu_seqlens=None).device.type == "meta"


def test_a_layer_that_hands_on_one_keyword_hands_on_the_table():
    """LFM2 of transformers 5.17: `seq_idx`, the marks of packed sequences."""

    class Mixer(torch.nn.Module):
        def forward(self, hidden, seq_idx=None):
            return seq_idx

    mixer, table = Mixer(), object()
    assert _takes_no_table(mixer)
    assert not _takes_no_table(torch.nn.Linear(1, 1))
    assert _hand_table(mixer, (1,), {"segment_table": table}) == ((1,), {"segment_table": table, "seq_idx": table})
    assert _hand_table(mixer, (1,), {"use_cache": True}) == ((1,), {"use_cache": True})


def test_a_packages_function_of_the_same_name_is_none_of_ours(monkeypatch):
    """Code beside a model's weights may import a package's, or have none, and then its layers know no table."""
    model = tiny_hybrid("Lfm2")
    code = sys.modules[type(mixers(model)[0]).__module__]
    for there in (None, torch.nn.functional.conv1d):
        monkeypatch.setattr(code, "causal_conv1d_fn", there)
        assert "cannot be handed from a prompt" in unreachable_states(model, model.config)
