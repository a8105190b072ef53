"""The flash backend: its one variable-length call means the same as sdpa's segments."""

import importlib.machinery
import sys
import types
from dataclasses import replace
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.cpu_flash import cpu_pair, plain_softcapped, plain_varlen
from support.groups import random_groups

from lit_longpo.engine import (
    ATTENTION_NAMES,
    PREFIX_SHARED,
    UnsupportedModelError,
    attention,
    generation_mode,
    pack,
    score,
)
from lit_longpo.engine.attention import prefix_shared_attention
from lit_longpo.engine.backends import flash
from lit_longpo.engine.backends.flash import VarlenKernel, find_kernel, flash_attention
from lit_longpo.engine.backends.gradient_check import gradient_error
from lit_longpo.engine.backends.sdpa import sdpa_attention
from lit_longpo.engine.backends.sinks import folded_sinks
from lit_longpo.engine.backends.softcap import softcapped_attention
from lit_longpo.log_once import log_once
from lit_longpo.policy import PolicyConfig

HAS_KERNEL = torch.cuda.is_available() and find_kernel("cuda", torch.bfloat16) is not None
sizes = st.lists(
    st.tuples(st.integers(1, 9), st.lists(st.integers(1, 5), min_size=1, max_size=3)), min_size=1, max_size=3
)


def tensors(total, dtype=torch.float64, device="cpu"):
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(1, heads, total, 16, generator=generator, dtype=torch.float64).to(device, dtype).requires_grad_()
        for heads in (4, 2, 2)
    ]


@given(sizes, st.sampled_from([None, 1, 3, 8]), st.sampled_from([None, 0.3]))
@settings(max_examples=60, deadline=None)
def test_one_call_equals_the_segments(groups, window, scaling):
    table = pack(random_groups(groups)).table
    results = []
    for attend in (sdpa_attention, lambda *a: flash_attention(*a, VarlenKernel("plain", plain_varlen))):
        inputs = tensors(table.num_tokens)
        output = attend(*inputs, table, scaling, window)
        output.square().sum().backward()
        results.append([output.detach(), *[tensor.grad for tensor in inputs]])
    for expected, actual in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected)


@given(sizes, st.integers(1, 12))
@settings(max_examples=30, deadline=None)
def test_long_prompts_alone_equal_the_segments(groups, long):
    """Those that torch's own attention serves faster, beside one call for all others."""
    table = pack(random_groups(groups)).table
    results = []
    with mock.patch.object(flash, "LONG", long), mock.patch.object(flash, "prefers_cudnn", return_value=True):
        alone = flash.alone_segments(table, torch.device("cpu"))
        for attend in (sdpa_attention, lambda *a: flash_attention(*a, VarlenKernel("plain", plain_varlen))):
            inputs = tensors(table.num_tokens)
            output = attend(*inputs, table, None, None)
            output.sin().sum().backward()
            results.append([output.detach(), *[tensor.grad for tensor in inputs]])
    assert len(alone) == sum(prompt + responses[0] >= long for prompt, responses in groups)
    for expected, actual in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected)


def test_on_a_cpu_and_in_windows_nothing_is_alone():
    table = pack(random_groups([(flash.LONG, [3])])).table
    assert flash.alone_segments(table, torch.device("cpu")) == ()


@pytest.mark.parametrize("parameters", ["scale, window_size", "scale, window_size, enable_gqa=False"])
def test_torchs_kernel_is_found_with_and_without_a_switch_for_grouped_heads(monkeypatch, parameters):
    """Torch 2.11 has none: its kernels take grouped heads as they are."""
    module, seen = types.ModuleType("torch.nn.attention.varlen"), []
    exec(
        f"def varlen_attn(query, key, value, *bounds, {parameters}): note(locals())",
        space := {"note": seen.append},
    )
    module.varlen_attn = space["varlen_attn"]
    module.__spec__ = importlib.machinery.ModuleSpec("torch.nn.attention.varlen", None)
    monkeypatch.setitem(sys.modules, "torch.nn.attention.varlen", module)
    kernel = find_kernel.__wrapped__("cuda", torch.bfloat16)
    table = pack(random_groups([(4, [2])])).table
    kernel.call(
        *(tensor[0] for tensor in tensors(table.num_tokens)),
        flash.varlen_plan(table, torch.device("cpu")),
        0.5,
        (-1, 0),
    )
    assert (seen[0]["scale"], seen[0]["window_size"]) == (0.5, (-1, 0))
    assert seen[0].get("enable_gqa", True) is True


def test_torchs_kernel_without_windows_is_none(monkeypatch):
    module = types.ModuleType("torch.nn.attention.varlen")
    module.varlen_attn = lambda query, key, value, *bounds, scale=None: None
    module.__spec__ = importlib.machinery.ModuleSpec("torch.nn.attention.varlen", None)
    monkeypatch.setitem(sys.modules, "torch.nn.attention.varlen", module)
    assert find_kernel.__wrapped__("cuda", torch.bfloat16) is None


@given(sizes, st.sampled_from([None, 1, 3, 8]), st.sampled_from([None, 0.3]))
@settings(max_examples=30, deadline=None)
def test_folded_sinks_equal_a_key_for_each(groups, window, scaling):
    """Values and gradients, the sinks' own among them, around kernels that know nothing of sinks."""
    table = pack(random_groups(groups)).table

    def call(query, key, value, plan, scaling, reach, sinks):
        return folded_sinks(query, key, value, sinks, cpu_pair(plan, scaling, reach))

    results = []
    for attend in (sdpa_attention, lambda *a: flash_attention(*a[:-1], VarlenKernel("folded", call), sinks=a[-1])):
        inputs = [*tensors(table.num_tokens), torch.linspace(-2.0, 3.0, 4, dtype=torch.float64).requires_grad_()]
        output = attend(*inputs[:3], table, scaling, window, inputs[3])
        output.sin().sum().backward()
        results.append([output.detach(), *[tensor.grad for tensor in inputs]])
    for expected, actual in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected)


@given(sizes, st.sampled_from([None, 1, 3, 8]))
@settings(max_examples=15, deadline=None)
def test_a_kernel_with_a_soft_cap_is_told_it(groups, window):
    table = pack(random_groups(groups)).table
    inputs = tensors(table.num_tokens)
    expected = softcapped_attention(*inputs, table, None, window, 0.8)
    found = flash_attention(*inputs, table, None, window, VarlenKernel("plain", plain_softcapped), softcap=0.8)
    torch.testing.assert_close(found, expected)


def test_values_narrower_than_keys_are_widened_for_the_kernel():
    """Latent attention (DeepSeek-V3); flash kernels refuse it as it is."""
    table = pack(random_groups([(5, [3, 2])])).table
    query, key, value = tensors(table.num_tokens)
    seen = []

    def call(*args):
        seen.append({part.shape[-1] for part in args[:3]})
        return plain_varlen(*args)

    found = flash_attention(query, key, value[..., :10], table, None, None, VarlenKernel("plain", call))
    torch.testing.assert_close(found, sdpa_attention(query, key, value[..., :10], table, None, None))
    assert seen == [{16}]


def test_which_kernel_serves_what(monkeypatch):
    """Torch's kernels serve sinks; flash-attn alone serves a soft-cap, if it is new enough to have one."""
    find = find_kernel.__wrapped__
    assert "sinks folded in" in find("cuda", torch.bfloat16, "sinks").name
    for parameters, served in (("softcap=0.0", True), ("", False)):
        module = types.ModuleType("flash_attn")
        exec(f"def flash_attn_varlen_func(query, key, value, *bounds, {parameters}): pass", vars(module))
        module.__spec__ = importlib.machinery.ModuleSpec("flash_attn", None)
        monkeypatch.setitem(sys.modules, "flash_attn", module)
        assert (find("cuda", torch.bfloat16, "softcap") is not None) == served


@pytest.fixture
def hopper(monkeypatch):
    """FlashAttention-3 on its GPU, computed plainly; what it returns can be another shape, as its versions do."""
    module = types.ModuleType("flash_attn_interface")

    def varlen(q, k, v, *bounds, softmax_scale=None, causal=False, window_size=(-1, -1)):
        assert causal
        plan = flash.VarlenPlan(*bounds)
        return module.returned(module.gradient(plain_varlen(q, k, v, plan, softmax_scale, window_size)))

    module.flash_attn_varlen_func = varlen
    module.returned = module.gradient = lambda out: out
    module.__spec__ = importlib.machinery.ModuleSpec("flash_attn_interface", None)
    monkeypatch.setitem(sys.modules, "flash_attn_interface", module)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *device: (9, 0))
    return module


def test_flash_attention_3_goes_first_where_its_gpus_are(hopper, monkeypatch):
    find = find_kernel.__wrapped__
    kernel = find("cuda", torch.bfloat16)
    assert (kernel.name, kernel.otherwise.name) == (
        "FlashAttention-3, variable lengths",
        "torch flash, variable lengths",
    )
    assert "sinks folded in" in find("cuda", torch.bfloat16, "sinks").name
    assert find("cuda", torch.bfloat16, "softcap") is None  # this version has none
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *device: (10, 0))
    assert find("cuda", torch.bfloat16).name == kernel.otherwise.name


@pytest.mark.parametrize("returned", [lambda out: out, lambda out: (out, None)])
def test_flash_attention_3_is_called_as_it_wants_to_be(hopper, returned):
    hopper.returned = returned
    table = pack(random_groups([(40, [2, 3]), (6, [4])])).table
    query, key, value = tensors(table.num_tokens)
    found = flash_attention(query, key, value, table, 0.3, 5, find_kernel.__wrapped__("cuda", torch.bfloat16))
    torch.testing.assert_close(found, sdpa_attention(query, key, value, table, 0.3, 5))


def test_flash_attention_3_with_wrong_gradients_is_left_for_the_next_kernel(hopper, monkeypatch, caplog):
    usual = VarlenKernel("usual", plain_varlen)
    kernel = replace(find_kernel.__wrapped__("cuda", torch.bfloat16), otherwise=usual)
    monkeypatch.setattr(attention, "find_kernel", lambda *asked: kernel)
    table = pack(random_groups([(12, [2, 3])])).table
    inputs = [tensor.bfloat16() for tensor in tensors(table.num_tokens)]
    for gradient, said in ((lambda out: out, []), (lambda out: 2 * out - out.detach(), ["usual"])):
        hopper.gradient = gradient
        gradient_error.cache_clear()
        log_once.cache_clear()
        caplog.clear()
        with caplog.at_level("WARNING", logger="lit_longpo"):
            prefix_shared_attention(torch.nn.Identity(), *inputs, None, segment_table=table, backend="flash")
        assert [record.getMessage().rpartition(": ")[2] for record in caplog.records] == said


def test_no_kernel_without_gpu_or_half_precision():
    assert find_kernel("cpu", torch.bfloat16) is None
    assert find_kernel("cuda", torch.float32) is None


def test_asking_for_flash_where_it_cannot_run_is_an_error():
    table = pack(random_groups([(4, [2])])).table
    inputs = tensors(table.num_tokens)
    with pytest.raises(UnsupportedModelError, match=r"policy\.attention: auto"):
        prefix_shared_attention(torch.nn.Identity(), *inputs, None, segment_table=table, backend="flash")


def test_the_backend_is_said_once(caplog):
    table = pack(random_groups([(4, [2])])).table
    log_once.cache_clear()
    with caplog.at_level("INFO", logger="lit_longpo"):
        for backend in ("sdpa", "auto", "sdpa"):
            inputs = tensors(table.num_tokens)
            prefix_shared_attention(torch.nn.Identity(), *inputs, None, segment_table=table, backend=backend)
    assert [record.getMessage() for record in caplog.records] == ["attention backend: sdpa"]
    assert ATTENTION_NAMES["auto"] == PREFIX_SHARED == "prefix_shared"


def test_every_model_keeps_its_own_backend(policy_folder):
    batch = pack(random_groups([(4, [2])]))
    portable, fast = (PolicyConfig(source=str(policy_folder), attention=name).load() for name in ("sdpa", "flash"))
    for _ in range(2):  # in turns: neither changes the other
        assert torch.isfinite(score(portable, batch).sums).all()
        with pytest.raises(UnsupportedModelError, match=r"for `policy\.attention: flash`, got cpu"):
            score(fast, batch)
    with generation_mode(fast):
        assert fast.config._attn_implementation == "sdpa"
    assert fast.config._attn_implementation == ATTENTION_NAMES["flash"]


def test_transformers_takes_our_names_for_nothing_else():
    """It looks for kernels behind "flash", and for torch's attention behind "sdpa", and makes masks for them."""
    assert all("flash" not in name and "sdpa" not in name for name in ATTENTION_NAMES.values())
    assert len(set(ATTENTION_NAMES.values())) == 3


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_KERNEL, reason="needs a CUDA device and a flash kernel with variable lengths")
@pytest.mark.parametrize("window", [None, 300])
def test_the_kernel_is_no_worse_than_sdpa_in_bf16(window):
    """Both against fp64: the flash error stays within twice the bf16 error of sdpa."""
    table = pack(random_groups([(2000, [64, 40, 7]), (500, [30])])).table
    exact = sdpa_attention(*tensors(table.num_tokens), table, None, window)
    half = [tensor.detach() for tensor in tensors(table.num_tokens, torch.bfloat16, "cuda")]
    kernel = find_kernel("cuda", torch.bfloat16)
    errors = [
        (output.cpu().double() - exact).abs().max()
        for output in (sdpa_attention(*half, table, None, window), flash_attention(*half, table, None, window, kernel))
    ]
    assert errors[1] <= 2 * errors[0]


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_KERNEL, reason="needs a CUDA device and a flash kernel with variable lengths")
@pytest.mark.parametrize("window", [None, 300])
def test_folded_sinks_are_no_worse_than_a_key_for_each_in_bf16(window):
    """Against fp64, values and all gradients: within twice the bf16 error of sdpa."""
    table = pack(random_groups([(2000, [64, 40, 7]), (500, [30])])).table
    kernel = find_kernel("cuda", torch.bfloat16, "sinks")
    results = []
    for device, dtype in (("cpu", torch.float64), ("cuda", torch.bfloat16), ("cuda", torch.bfloat16)):
        inputs = [tensor.detach().requires_grad_() for tensor in tensors(table.num_tokens, dtype, device)]
        sinks = torch.linspace(-2.0, 3.0, 4, dtype=dtype, device=device).requires_grad_()
        if len(results) < 2:
            output = sdpa_attention(*inputs, table, None, window, sinks)
        else:
            output = flash_attention(*inputs, table, None, window, kernel, sinks=sinks)
        output.float().square().sum().backward()
        results.append([output.detach(), *[tensor.grad for tensor in (*inputs, sinks)]])
    for exact, portable, folded in zip(*results, strict=True):
        errors = [(part.cpu().double() - exact).abs().max() for part in (portable, folded)]
        assert errors[1] <= 2 * errors[0] + 1e-2 * exact.abs().max()


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_KERNEL, reason="needs a CUDA device and a flash kernel with variable lengths")
def test_gradients_of_long_prompts_and_of_the_rest_are_no_worse_than_sdpa_in_bf16(monkeypatch):
    """Against fp64: both ways of a row, together and with its long prompts alone."""
    table = pack(random_groups([(3000, [64, 40, 7]), (500, [30])])).table
    kernel = find_kernel("cuda", torch.bfloat16)
    monkeypatch.setattr(flash, "LONG", 2000)

    def gradients(dtype, device, attend):
        inputs = [tensor.detach().requires_grad_() for tensor in tensors(table.num_tokens, dtype, device)]
        output = attend(*inputs, table, None, None)
        output.float().square().sum().backward()
        return [part.cpu().double() for part in (output.detach(), *[tensor.grad for tensor in inputs])]

    def together(*args):
        with monkeypatch.context() as patch:
            patch.setattr(flash, "prefers_cudnn", lambda device: False)
            return flash_attention(*args, kernel)

    exact = gradients(torch.float64, "cpu", sdpa_attention)
    portable = gradients(torch.bfloat16, "cuda", sdpa_attention)
    for attend in (together, lambda *args: flash_attention(*args, kernel)):
        found = gradients(torch.bfloat16, "cuda", attend)
        for one, other, right in zip(found, portable, exact, strict=True):
            assert (one - right).abs().max() <= 2 * (other - right).abs().max() + 1e-2 * right.abs().max()


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sdpa_on_a_gpu_writes_no_scores_out(dtype):
    """Peak memory far below that of the Q x K scores of the second response, which has a mask."""
    table = pack(random_groups([(40_000, [16, 4_000])])).table
    inputs = [tensor.detach().requires_grad_() for tensor in tensors(table.num_tokens, dtype, "cuda")]
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    sdpa_attention(*inputs, table, None, None).float().square().sum().backward()
    scores = 4 * 4_000 * 44_000 * dtype.itemsize
    assert torch.cuda.max_memory_allocated() - before < scores
