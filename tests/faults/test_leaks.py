"""Nothing leaks: in a packed row a response sees its own prompt and itself, whatever the layers and the backend."""

from unittest import mock

import pytest
import torch
from support.cpu_flash import cpu_pair, plain_softcapped, plain_varlen
from support.families import NAMES
from support.leaks import (
    NUM_PARTS,
    assert_no_gradient_leaks,
    assert_no_value_leaks,
    chained,
    share_rows,
    told_apart,
    untied,
    words,
)
from support.ranks import run_ranks
from support.tiny_hybrids import ALONE, OWN, SHARED

from lit_longpo.engine import attention, plan_scoring, states
from lit_longpo.engine.backends import flash, sdpa, softcap
from lit_longpo.engine.backends.flash import VarlenKernel
from lit_longpo.engine.backends.sinks import folded_sinks
from lit_longpo.policy.checkpointing import enable_checkpointing

QUICK = ("Mistral", "Gemma2", "GptOss", "Qwen3_5Text", "FalconH1", "Lfm2")  # one of each kind of layer


def folded(query, key, value, plan, scaling, reach, sinks):
    """Sinks around kernels that know none."""
    return folded_sinks(query, key, value, sinks, cpu_pair(plan, scaling, reach))


# family: what attends in the place of a GPU's kernel
KERNELS = {"Mistral": plain_varlen, "Gemma2": plain_softcapped, "GptOss": folded, "DeepseekV3": plain_varlen}


def test_words_tell_the_parts_of_a_row_apart():
    groups, seen = told_apart()
    parts = [set(ids) for group in groups for ids in (group.prompt_ids, *(one.token_ids for one in group.responses))]
    assert len(parts) == NUM_PARTS
    assert all(part <= set(words(number)) for number, part in enumerate(parts))
    assert seen == [{0, 1}, {0, 2}, {3, 4}, {5, 6}, {5, 7}]
    assert max(words(NUM_PARTS - 1)) < 96


@pytest.mark.parametrize("name", QUICK)
def test_a_layer_of_each_kind(name):
    model, (groups, seen) = untied(name), told_apart()
    assert_no_gradient_leaks(model, groups, seen)
    assert_no_value_leaks(model, groups, seen, parts=(1, 5))


@pytest.mark.parametrize("name", ["Qwen2", "Mistral", "Gemma2", "GptOss", "FalconH1"])
def test_groups_that_share_a_beginning(name):
    model, (groups, seen) = untied(name), chained()
    assert_no_gradient_leaks(model, groups, seen)
    assert_no_value_leaks(model, groups, seen, parts=(0, 1, 4))


@pytest.mark.slow
@pytest.mark.parametrize("shared", [True, False], ids=["shared prompts", "a prompt each"])
@pytest.mark.parametrize("name", NAMES)
def test_every_family(name, shared):
    """As training scores it: packed, one sequence at a time, or by its own logits."""
    model = untied(name)
    plan = plan_scoring(model)
    assert (plan.path == "packed") == (name not in ALONE and name not in OWN)
    for leap in (False, True) if plan.no_leaps is None else (False,):
        groups, seen = told_apart(shared=shared, leap=leap)
        assert_no_gradient_leaks(model, groups, seen)
        assert_no_value_leaks(model, groups, seen)


@pytest.mark.slow
@pytest.mark.parametrize("how", [True, "keep_attention"])
@pytest.mark.parametrize("name", ["Mistral", "Gemma2", "GptOss", *SHARED])
def test_layers_that_are_computed_again_in_backward(name, how):
    model = untied(name).train()
    enable_checkpointing(model, how)
    assert_no_gradient_leaks(model, *told_apart(), once=True)


@pytest.mark.parametrize("name", KERNELS)
def test_a_flash_kernels_one_call(name):
    kernel = VarlenKernel("stand-in", KERNELS[name])
    with (
        mock.patch.object(attention, "_varlen_kernel", return_value=kernel),
        mock.patch.object(attention, "gradient_error", return_value=None),  # it asks GPUs' dtypes
    ):
        assert_no_gradient_leaks(untied(name), *told_apart())
        assert_no_gradient_leaks(untied(name), *chained())


@pytest.mark.parametrize("name", ["Mistral", "Gemma2"])
def test_windows_in_several_blocks(name):
    with mock.patch.object(sdpa, "MIN_WINDOW_BLOCK", 2), mock.patch.object(softcap, "MIN_WINDOW_BLOCK", 2):
        assert_no_gradient_leaks(untied(name), *told_apart())


def test_long_prompts_that_attend_alone():
    kernel = VarlenKernel("stand-in", plain_varlen)
    with (
        mock.patch.object(flash, "LONG", 20),
        mock.patch.object(flash, "prefers_cudnn", return_value=True),
        mock.patch.object(attention, "_varlen_kernel", return_value=kernel),
    ):
        assert_no_gradient_leaks(untied("Qwen2"), *told_apart())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Qwen2", "GptOss"])
def test_two_ranks_that_share_a_row(name):
    run_ranks(share_rows, name)


def test_a_leak_is_seen():
    """The two ways, on a model whose state runs through the row as if it were one sequence."""
    model, (groups, seen) = untied("Lfm2"), told_apart()
    with mock.patch.object(states, "predecessors", lambda table: tuple(range(-1, len(table.pieces) - 1))):
        with pytest.raises(AssertionError, match="response 1 depends on"):
            assert_no_gradient_leaks(model, groups, seen)
        with pytest.raises(AssertionError):
            assert_no_value_leaks(model, groups, seen, parts=(1,))


@pytest.mark.parametrize("name", ["Qwen2", "Qwen3_5Text"])
def test_half_precision_keeps_apart_to_the_bit(name):
    """Where the start-up probe's comparison of values is blunt."""
    assert_no_value_leaks(untied(name).to(torch.bfloat16), *told_apart(), parts=(1, 5))
