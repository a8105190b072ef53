"""Norms and MLPs by other code: the same scores and gradients, found by formula, refused where nothing runs."""

import importlib.machinery
import re
import sys
import types

import pytest
import torch
from support.groups import random_groups
from support.sequence_worker import make_model
from support.tiny_models import tiny_model
from torch import nn
from torch.nn.functional import silu

from lit_longpo.engine import UnsupportedModelError, layer_kernels, liger_kernels, pack, score
from lit_longpo.engine.layer_kernels import check_layer_kernels, use_layer_kernels
from lit_longpo.engine.tiling.tiled_layers import norms_and_mlps, tile_layers, untile
from lit_longpo.errors import InputError, MissingPackageError
from lit_longpo.policy import LoRA, PolicyConfig
from lit_longpo.policy.adapters.lora import add_adapters
from lit_longpo.policy.trainable import training_problem

ROW = pack(random_groups([(13, [3, 2, 4]), (20, [1, 5])]))


def scored(model, row=ROW):
    """Scores and gradients with unequal weights."""
    model.zero_grad()
    sums = score(model, row).sums
    (sums * torch.linspace(-1, 2, len(sums))).sum().backward()
    return sums.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def assert_same(found, expected, tolerance=1e-6):
    torch.testing.assert_close(found[0], expected[0], rtol=tolerance, atol=0.0)
    assert found[1].keys() == expected[1].keys()
    largest = max(float(gradient.abs().max()) for gradient in expected[1].values())
    for name, gradient in expected[1].items():
        assert float((found[1][name] - gradient).abs().max()) <= tolerance * largest, name


def with_adapters(model, dropout=0.0):
    adapted = add_adapters(model, LoRA(r=2, dropout=dropout))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
    return adapted


@pytest.fixture
def liger(monkeypatch):
    """Liger's two functions as its pages describe them, in torch, on a machine that seems to have a GPU."""
    called = []

    def rms_norm(rows, weight, eps, offset, casting_mode, in_place):
        called.append((offset, casting_mode))
        assert not in_place
        wide = rows.float() * (rows.float().pow(2).mean(-1, keepdim=True) + eps).rsqrt()
        if casting_mode == "llama":
            return wide.to(rows.dtype) * (offset + weight)
        return (wide * (offset + weight.float())).to(rows.dtype)

    def swiglu(gate, up):
        called.append("swiglu")
        return silu(gate) * up

    for name in ("liger_kernel", "liger_kernel.transformers", "liger_kernel.transformers.functional"):
        module = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        monkeypatch.setitem(sys.modules, name, module)
    module.liger_rms_norm, module.liger_swiglu = rms_norm, swiglu
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(liger_kernels, "_require_gpu", lambda rows: None)
    liger_kernels._liger_rms_norm.cache_clear()
    liger_kernels._require_right.cache_clear()
    yield called
    liger_kernels._liger_rms_norm.cache_clear()


LLAMA, GEMMA = (0.0, "llama"), (1.0, "gemma")


@pytest.mark.parametrize(
    ("name", "kernels"),
    [
        ("Llama", {LLAMA, "swiglu"}),
        ("Qwen3", {LLAMA, "swiglu"}),  # norms of queries and keys among them
        ("Gemma2", {GEMMA}),  # its MLP is gated by GELU
        ("Cohere", {"swiglu"}),  # its norm takes the mean away
        ("Mixtral", {LLAMA}),  # its experts stay
    ],
)
def test_what_liger_has_a_kernel_for_is_found_by_its_formula(name, kernels, liger):
    model = make_model(name)
    expected = scored(model)
    use_layer_kernels(model, "liger")
    assert_same(scored(model), expected)
    assert set(liger) == kernels
    replaced = [module for module in norms_and_mlps(model) if "layer_kernel" in vars(module)]
    liger.clear()
    score(model, ROW)
    assert len(liger) == len(replaced)  # each is called, and none is tried twice


def test_adapters_and_tiles_go_around_the_kernels(liger):
    model = make_model("Llama", checkpointing=True)
    plain = with_adapters(make_model("Llama"))
    use_layer_kernels(model, "liger")
    tile_layers(model, 20, recomputed=True)
    adapted = with_adapters(model)
    adapted.load_state_dict(plain.state_dict())
    expected = scored(plain)
    assert_same(scored(adapted), expected)
    tiled = liger.count("swiglu")
    untile(adapted)
    liger.clear()
    assert_same(scored(adapted), expected)
    assert 0 < liger.count("swiglu") < tiled


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("liger_rms_norm", lambda right: lambda rows, *given: right(rows, *given) * 1.01),
        ("liger_swiglu", lambda right: lambda gate, up: right(gate, up) + gate - gate.detach()),  # gradients alone
        ("liger_swiglu", lambda right: lambda gate, up: right(gate, up) * float("nan")),
    ],
)
def test_a_kernel_that_is_off_its_formula_is_refused_at_its_first_call(name, wrong, liger, monkeypatch):
    functional = sys.modules["liger_kernel.transformers.functional"]
    monkeypatch.setattr(functional, name, wrong(getattr(functional, name)))
    model = make_model("Llama")
    use_layer_kernels(model, "liger")
    with pytest.raises(UnsupportedModelError, match=r"to be its formula on this device in torch\.float32, .* off by"):
        score(model, ROW)


def test_a_norm_with_a_formula_of_its_own_keeps_its_code(liger):
    model = make_model("Llama")
    kind = type(model.model.norm)

    class ScaledRMSNorm(kind):
        def forward(self, rows):
            return 1.01 * super().forward(rows)

    for module in model.modules():
        if isinstance(module, kind):
            module.__class__ = ScaledRMSNorm
    expected = scored(model)
    use_layer_kernels(model, "liger")
    assert_same(scored(model), expected)
    assert set(liger) == {"swiglu"}


def test_a_model_without_such_layers_is_refused(liger):
    with pytest.raises(UnsupportedModelError, match=r"got none in GPT2\w+; type --policy\.layer_kernels null"):
        use_layer_kernels(tiny_model("GPT2"), "liger")


def test_what_cannot_run_here_is_refused_before_a_model_is_loaded(monkeypatch):
    check_layer_kernels(None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(MissingPackageError, match=r'pip install "lit_longpo\[liger\]", or type --policy\.layer_kern'):
        check_layer_kernels("liger")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name == "liger_kernel" or None)
    with pytest.raises(InputError, match=r"expected a GPU for `policy\.layer_kernels: liger`, got none"):
        check_layer_kernels("liger")
    check_layer_kernels("compile")
    monkeypatch.setattr(layer_kernels.shutil, "which", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"C\+\+ compiler"):
        check_layer_kernels("compile")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(MissingPackageError, match=r"`triton`"):
        check_layer_kernels("compile")
    with pytest.raises(InputError, match=r"expected a GPU .* got cpu"):
        liger_kernels._require_gpu(torch.zeros(1))


def test_layers_with_dropout_are_left_to_their_own_code(monkeypatch):
    """One that is run again in backward has to drop the same numbers."""
    calls = []

    def compile_as_it_is(function, **options):
        assert options["dynamic"]
        return lambda module, *given: calls.append(type(module).__name__) or function(module, *given)

    monkeypatch.setattr(torch, "compile", compile_as_it_is)
    layer_kernels._compiled_forward.cache_clear()
    try:
        for dropout, compiled in ((0.5, {"LlamaRMSNorm"}), (0.0, {"LlamaRMSNorm", "LlamaMLP"})):
            model, plain = make_model("Llama"), with_adapters(make_model("Llama"), dropout)
            use_layer_kernels(model, "compile")
            tile_layers(model, 20, recomputed=True)
            adapted = with_adapters(model, dropout)
            adapted.load_state_dict(plain.state_dict())
            assert_same(scored(adapted.eval()), scored(plain.eval()))
            calls.clear()
            scored(adapted.train())
            assert set(calls) == compiled
    finally:
        layer_kernels._compiled_forward.cache_clear()


def test_compiling_under_a_strategy_that_splits_parameters_is_refused():
    compiled, plain = (PolicyConfig(layer_kernels=kind) for kind in ("compile", None))
    for split in ("ZeRO-3", "FSDP2"):
        message = training_problem(compiled, split)
        assert re.fullmatch(
            rf"expected .* leaves parameters whole .*, got {split}, .* --policy\.layer_kernels .*", message
        )
        assert training_problem(plain, split) is None
    assert training_problem(compiled, None) is None


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [False, True, "keep_attention"])
def test_compiled_layers_have_the_values_and_gradients_of_plain_ones_and_are_compiled_once_for_all_rows(checkpointing):
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    model, plain = make_model("Llama", checkpointing=checkpointing), with_adapters(make_model("Llama"))
    use_layer_kernels(model, "compile")
    tile_layers(model, 20, recomputed=True)
    adapted = with_adapters(model)
    adapted.load_state_dict(plain.state_dict())
    compiled = []
    # The first row's last tile is one token, which is a variant of its own; the second is run whole.
    for sizes in ([(50, [6, 5])], [(13, [3, 2])], [(30, [4])], [(9, [2, 2]), (7, [3])], [(23, [8])], [(64, [3])]):
        row = pack(random_groups(sizes))
        assert_same(scored(adapted, row), scored(plain, row), 1e-5)
        compiled.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert 2 <= compiled[-1] <= 10  # norms and MLPs, the first of inputs without gradients; whole and in tiles
    assert compiled[1:] == compiled[-1:] * 5
