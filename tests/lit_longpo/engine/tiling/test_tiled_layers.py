"""Layers in tiles: which modules, and the same scores and gradients as whole rows."""

import copy

import pytest
import torch
from support.groups import random_groups
from support.sequence_worker import make_model
from support.tiny_hybrids import tiny_hybrid
from support.tiny_models import tiny_model
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from lit_longpo.engine import UnsupportedModelError, pack, score
from lit_longpo.engine.startup.comparisons import check_tiles
from lit_longpo.engine.tiling.tiled_layers import (
    tile_layers,
    tiled_modules,
    tiles_of,
    token_wise,
    untile,
)
from lit_longpo.live_bytes import LiveBytes
from lit_longpo.policy import LoRA, PolicyConfig
from lit_longpo.policy.adapters.lora import add_adapters
from lit_longpo.policy.checkpointing import enable_checkpointing

ROW = pack(random_groups([(13, [3, 2, 4]), (20, [1, 5])]))


def scored(model, **options):
    """Scores and gradients with unequal weights."""
    model.zero_grad()
    scores = score(model, ROW, **options)
    loss = (scores.sums * torch.linspace(-1, 2, len(scores.sums))).sum()
    loss = loss if scores.router_loss is None else loss + 10 * scores.router_loss
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def assert_same(found, expected, tolerance):
    torch.testing.assert_close(found[0], expected[0], rtol=tolerance, atol=0.0)
    assert found[1].keys() == expected[1].keys()
    largest = max(float(gradient.abs().max()) for gradient in expected[1].values())
    for name, gradient in expected[1].items():
        assert float((found[1][name] - gradient).abs().max()) <= tolerance * largest, name


@pytest.mark.parametrize(
    ("case", "tolerance", "options"),
    [
        ("Llama", 1e-12, {}),
        ("Qwen3", 1e-12, {"checkpointing": "keep_attention"}),
        ("Llama, adapters", 1e-12, {}),
        ("Gemma2", 1e-6, {}),  # its norms are fp32, whatever the weights
        ("DeepseekV3", 1e-6, {}),  # experts, a dense layer, a shared expert
        ("Mixtral, adapters", 1e-6, {}),  # on stacked experts, which stay whole
    ],
)
def test_scores_and_gradients_are_those_of_whole_rows(case, tolerance, options):
    model = make_model(case.split(",")[0], **options)
    tile_layers(model, 7, recomputed=True)  # as adapters are added when a policy is loaded: later
    model = with_adapters(model) if "adapters" in case else model
    model = model.double() if tolerance < 1e-6 else model
    found = scored(model)
    with tiles_of(model, ROW.num_tokens):
        assert_same(found, scored(model), tolerance)
    untile(model)
    assert_same(found, scored(model), tolerance)


def with_adapters(model):
    """Small ones, whose second factor is not zero."""
    adapted = add_adapters(model, LoRA(r=2))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
    return adapted


def test_routers_see_the_whole_row():
    model = make_model("Mixtral")
    expected = scored(model, router_loss=True)
    tile_layers(model, 7, recomputed=True)
    assert any("Experts" in type(module).__name__ for module in tiled_modules(model))
    assert_same(scored(model, router_loss=True), expected, 2e-6)  # experts have no float64; AVX-512: 1.03e-6


def test_experts_are_found_where_zero3_has_left_an_empty_vector():
    """They stayed whole: without a word where a model has other MLPs, and refused as Mixtral's where it has none."""
    model = make_model("Mixtral")
    expected = [type(module) for module in token_wise(model)]
    for parameter in model.parameters():
        parameter.ds_shape, parameter.data = parameter.shape, parameter.new_empty(0)
    assert [type(module) for module in token_wise(model)] == expected
    assert any("Experts" in kind.__name__ for kind in expected)


class Products(TorchDispatchMode):
    """Counts matrix products."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func.name() in ("aten::mm", "aten::addmm")
        return func(*args, **(kwargs or {}))


def test_tiles_of_a_recomputed_layer_cost_no_product_more():
    model, counts = make_model("Llama"), []
    for tile in (None, 20):
        if tile:
            tile_layers(model, tile, recomputed=True)
        with Products() as products:
            score(model, ROW).sums.sum().backward()
        counts.append(products.count)
    # 3 forward, 2 recomputed (the last one's output nobody needs), 6 backward; in tiles each of the 3 as much.
    assert ROW.num_tokens == 48
    assert counts[1] - counts[0] == 2 * (3 * 11 - 11)


def test_tiles_for_speed_leave_values_and_gradients(monkeypatch):
    monkeypatch.setattr("lit_longpo.engine.tiling.tile_lengths.MAPPED", 2000)
    monkeypatch.setattr("lit_longpo.engine.tiling.tile_lengths.SERVED", 7 * 48 * 8)
    results, lengths = [], []
    for tokens in (None, "auto"):
        model = tiny_model("Llama").double().train()
        enable_checkpointing(model, "keep_attention")
        tile_layers(model, tokens, recomputed=False, attention_kept=True)
        model.model.layers[0].mlp.down_proj.register_forward_pre_hook(
            lambda _, given: lengths.append(given[0].shape[1])
        )
        results.append(scored(model))
    assert lengths[:2] == [ROW.num_tokens] * 2  # forward, and again
    assert max(lengths[2:]) == 7  # tokens that are served
    assert_same(results[1], results[0], 1e-12)


def test_layers_keep_as_much_as_whole_ones():
    """Nothing of a layer outlives it but its input."""
    model, kept = make_model("Qwen3"), []
    for tiled in (False, True):
        if tiled:
            tile_layers(model, 7, recomputed=True)
        with LiveBytes() as memory:
            score(model, ROW)
            scores = score(model, ROW)
        kept.append(memory.live)
        del scores
    assert kept[1] <= kept[0]


def test_a_copy_is_tiled_by_itself():
    model = tiny_model("Llama")
    tile_layers(model, 7, recomputed=True)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
        assert score(model, ROW).sums.abs().min() > 0
        torch.testing.assert_close(score(other, ROW).sums / score(other, ROW).counts, torch.full((5,), -4.5643482))
    untile(other)
    assert not tiled_modules(other)
    assert tiled_modules(model)


class Mixing(nn.Module):
    """Looks like an MLP, and hands something on from token to token."""

    def __init__(self, hidden):
        super().__init__()
        self.up, self.down = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)

    def forward(self, x):
        return self.down(self.up(x).cumsum(1))


def test_what_mixes_tokens_is_noticed_before_training(caplog):
    model = tiny_model("Llama")
    model.model.layers[1].mlp = Mixing(32)
    tile_layers(model, 64, recomputed=True)
    with pytest.raises(UnsupportedModelError, match=r"LlamaForCausalLM gives other .* --policy.tile_tokens null"):
        check_tiles(model)
    untile(model)
    tile_layers(model, "auto", recomputed=True)
    check_tiles(model)
    assert "layers are run whole" in caplog.text
    assert not tiled_modules(model)
    plain = tiny_model("Llama")
    tile_layers(plain, 64, recomputed=True)
    check_tiles(plain)
    assert tiled_modules(plain)


class Several(nn.Module):
    """Looks like an MLP, and gives its input back beside its output, as Qwen4's gated residuals do."""

    def __init__(self, hidden):
        super().__init__()
        self.up, self.down = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)

    def forward(self, x):
        return self.down(self.up(x)), x


class First(nn.Module):
    """The output alone; keywords keep it from being taken for an MLP itself."""

    def __init__(self, hidden):
        super().__init__()
        self.mixer = Several(hidden)

    def forward(self, x, **_):
        return self.mixer(x)[0]


def test_what_gives_several_tensors_stays_whole_and_all_else_is_tiled():
    model = tiny_model("Llama")
    model.model.layers[1].mlp = First(32)
    expected = scored(model)
    tile_layers(model, 4, recomputed=True)
    assert model.model.layers[1].mlp.mixer in tiled_modules(model)
    check_tiles(model)
    kinds = {type(module).__name__ for module in tiled_modules(model)}
    assert kinds == {"LlamaMLP", "LlamaRMSNorm"}
    assert_same(scored(model), expected, 1e-5)


def test_models_without_mlps_of_their_own_are_refused_or_left_alone():
    model = tiny_hybrid("Mamba")
    with pytest.raises(ValueError, match=r"tile_tokens: 4`, but no MLP of Mamba.*--policy.tile_tokens null"):
        tile_layers(model, 4, recomputed=True)
    tile_layers(model, "auto", recomputed=True)
    assert not tiled_modules(model)


def test_routers_that_are_linear_maps_are_no_part_of_an_mlp():
    kinds = {type(module).__name__ for module in token_wise(tiny_hybrid("Llama4Text"))}
    assert kinds == {"Llama4TextMLP", "Llama4TextRMSNorm"}


def test_the_setting_reaches_the_model_and_is_checked(policy_folder):
    assert tiled_modules(PolicyConfig(source=str(policy_folder)).load())
    assert not tiled_modules(PolicyConfig(source=str(policy_folder), tile_tokens=None).load())
    with pytest.raises(ValueError, match=r"`policy.tile_tokens` of at least 1, auto or null, got 0; 1024"):
        PolicyConfig(tile_tokens=0)
