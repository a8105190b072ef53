"""How long tiles are: for memory, for time, on CPUs and GPUs."""

import pytest
import torch
from support.tiny_models import tiny_config, tiny_model

from lit_longpo.engine.tiling.tile_lengths import auto_tile, mlp_sizes, quick_tile
from lit_longpo.engine.tiling.tiled_layers import tile_layers


@pytest.mark.parametrize(
    ("tokens", "hidden", "inside", "expected"),
    [
        (511, 896, 4864, None),  # two tiles at least
        (512, 896, 4864, 256),
        (4096, 896, 4864, 256),
        (8192, 896, 4864, 512),
        (65536, 896, 4864, 4096),
        (131072, 4096, 14336, 8192),
        (2**20, 4096, 14336, 8192),
        (4096, 4096, 64, None),  # there is little to save
    ],
)
def test_tiles_grow_with_rows_within_bounds(tokens, hidden, inside, expected):
    assert auto_tile(tokens, hidden, inside, on_cpu=True) == expected


@pytest.mark.parametrize(
    ("tokens", "hidden", "inside", "expected"),
    [
        (16_383, 896, 4864, None),
        (17_408, 896, 4864, 8192),  # three tiles; 17 took an H200 twice TRL's time
        (9216, 4096, 14336, 2048),
        (32_768, 4096, 14336, 4096),
        (4096, 8192, 28672, 1024),
        (2**20, 8192, 28672, 8192),
    ],
)
def test_a_tile_keeps_a_gpu_busy(tokens, hidden, inside, expected):
    """Each of its kernels treats four to eight million numbers."""
    assert auto_tile(tokens, hidden, inside, on_cpu=False) == expected


def test_devices_have_tiles_of_their_own():
    model = tiny_model("Llama")  # 32 channels
    tile_layers(model, "auto", recomputed=True)
    tiles = model.model.layers[0].mlp.tiles
    assert [tiles.of(12_000, torch.ones(1, device=device)) for device in ("cpu", "meta")] == [2048, 12_000]


def test_experts_count_as_often_as_a_token_meets_them():
    assert mlp_sizes(tiny_model("Qwen3Moe").config) == (32, 2 * 16)
    assert mlp_sizes(tiny_model("Llama").config) == (32, 48)
    by_layer = {"num_experts": 4, "moe_topk": [2, 3], "moe_intermediate_size": [16, 16]}  # as Hunyuan-A13B's files say
    assert mlp_sizes(tiny_config("HunYuanMoEV1", **by_layer)) == (32, 3 * 16)


def test_auto_leaves_rows_whole_whose_activations_are_kept(monkeypatch):
    monkeypatch.setattr("lit_longpo.engine.tiling.tile_lengths.SHORTEST", 8)
    model = tiny_model("Llama")
    tile_layers(model, "auto", recomputed=False)
    tiles, row = model.model.layers[0].mlp.tiles, torch.ones(1)
    assert tiles.of(100, row) == 100
    with torch.no_grad():
        assert tiles.of(100, row) == 32
    tiles.recomputed = True
    assert (tiles.of(100, row), tiles.of(15, row)) == (32, 15)


def test_on_cpus_mlps_whose_tensors_would_be_mapped_anew_are_tiled_where_attention_is_kept():
    """A number's bytes decide: 8,738 tokens of 960 channels in fp32 are 32 MiB; of them 2,184 are 8 MiB."""
    assert [quick_tile(tokens, 960, 4) for tokens in (8738, 8739)] == [None, 2184]
    assert [quick_tile(tokens, 960, 2) for tokens in (17476, 17477)] == [None, 4369]
    model = tiny_model("Llama")  # 48 channels inside
    tile_layers(model, "auto", recomputed=False, attention_kept=True)
    layer, row, long = model.model.layers[0], torch.ones(1), 200_000
    assert layer.mlp.tiles.of(long, row) == 2**23 // (48 * 4)
    assert layer.mlp.tiles.of(long, torch.ones(1, device="meta")) == long
    assert layer.input_layernorm.tiles.of(long, row) == long
    with torch.autocast("cpu", torch.bfloat16):  # products are half as wide then; `plan` counts so, too
        assert layer.mlp.tiles.of(long, row) == long
        assert layer.mlp.tiles.of(2 * long, row) == 2**23 // (48 * 2)
