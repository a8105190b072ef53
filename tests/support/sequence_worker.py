"""Scores rows alone and shared by ranks, and writes how much that differs; tests run it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from support.groups import random_groups
from support.padded_rows import padded_log_probs
from support.tiny_models import ARCHITECTURES, tiny_model
from torch import Tensor, distributed, nn

from lit_longpo.batch import Group, PackedBatch
from lit_longpo.engine import base_model, check_model, pack, score, sequence_ranks, set_sequence_group
from lit_longpo.engine.tiling.tiled_layers import tile_layers, tiles_of
from lit_longpo.policy.checkpointing import Checkpointing, enable_checkpointing
from lit_longpo.policy.loading import LoRA, add_adapters

# Prompts longer than the windows of the sliding models, positions that leap, an odd number of tokens.
GROUPS = random_groups([(13, [3, 2, 4]), (20, [1, 5])], jump=True)
GROUPS[0] = replace(GROUPS[0], score_sequence=True)
ROW = pack(GROUPS)
_SYSTEM, _BOOK = tuple(range(3, 9)), tuple(range(20, 31))
_ALONE = random_groups([(3, [2, 3]), (5, [4, 1]), (2, [1, 2, 2])])
# Two questions about one book and one about nothing, behind one system prompt.
TOGETHER = [
    replace(group, prompt_ids=(*_SYSTEM, *book, *group.prompt_ids))
    for group, book in zip(_ALONE, (_BOOK, _BOOK, ()), strict=True)
]
TOGETHER_ROW = pack(TOGETHER, shared_from=4)
_CHUNKED = {"num_attention_heads": 8, "num_key_value_heads": 4, "head_chunks": 2}
DYNAMIC = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4, "original_max_position_embeddings": 160}
CASES = {
    **{name: ({}, ROW) for name in ARCHITECTURES},
    "angles by length": (
        {"rope_parameters": DYNAMIC, "max_position_embeddings": 160},
        pack(random_groups([(170, [3, 2]), (9, [4])])),
    ),
    "one key/value head": ({"num_key_value_heads": 1}, ROW),
    "a rank that scores nothing": ({}, pack(random_groups([(40, [2])]))),
    "attention kept": ({"checkpointing": "keep_attention"}, ROW),
    "adapters": ({"lora": LoRA(r=2)}, ROW),
    "Mixtral, router loss": ({"router_loss": True}, ROW),
    "a row of one prompt token": ({}, pack(random_groups([(1, [1])]))),
    "in tiles": ({"tile_tokens": 7}, ROW),
    "Mixtral, in tiles, router loss": ({"tile_tokens": 7, "router_loss": True}, ROW),
    "GptOss, heads in chunks": ({"num_attention_heads": 8, "num_key_value_heads": 4, "head_chunks": 2}, ROW),
    "key heads one by one": ({"num_attention_heads": 16, "num_key_value_heads": 8, "head_chunks": 2}, ROW),
    "prompts together, in tiles, heads in chunks": ({"tile_tokens": 7, **_CHUNKED}, TOGETHER_ROW),
    "Mistral, prompts together, in tiles, heads in chunks": ({"tile_tokens": 7, **_CHUNKED}, TOGETHER_ROW),
    "half a key head's readers": ({"num_attention_heads": 16, "num_key_value_heads": 4, "head_chunks": 4}, ROW),
}
_OF_EACH_KIND = ("Qwen2", "Mistral", "Gemma2", "DeepseekV3", "GptOss")  # of attention
MOST = tuple(name for name in CASES if name not in ARCHITECTURES or name in _OF_EACH_KIND)
REST = tuple(name for name in CASES if name not in MOST)


def loss_and_gradients(
    model: nn.Module, row: PackedBatch, router_loss: bool = False
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of unequal weights, and gradients as a strategy makes them: averaged over all ranks."""
    model.zero_grad()
    scores = score(model, row, router_loss=router_loss)
    return _with_gradients(model, scores.sums, scores.router_loss)


def separate_loss_and_gradients(model: nn.Module, groups: list[Group]) -> tuple[Tensor, dict[str, Tensor]]:
    """The same from padded rows, each with its prompt."""
    model.zero_grad()
    return _with_gradients(model, torch.stack([row.sum() for row in padded_log_probs(model, groups)]))


def _with_gradients(
    model: nn.Module, sums: Tensor, router_loss: Tensor | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    loss = (sums * torch.linspace(-1.0, 2.0, len(sums))).sum()
    loss = loss if router_loss is None else loss + 10.0 * router_loss
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}
    for gradient in gradients.values():
        distributed.all_reduce(gradient)
        gradient /= distributed.get_world_size()
    return loss.detach(), gradients


def make_model(
    name: str,
    *,
    checkpointing: Checkpointing = True,
    lora: LoRA | None = None,
    tile_tokens: int | None = None,
    **options: Any,
) -> nn.Module:
    family = name.split(",")[0]
    model = tiny_model(family if family in ARCHITECTURES else "Llama", **options)
    tile_layers(base_model(model), tile_tokens, recomputed=True)
    if checkpointing:
        enable_checkpointing(model, checkpointing)
    if lora is None:
        return model
    adapted = add_adapters(model, lora)
    torch.manual_seed(0)
    for key, parameter in adapted.named_parameters():
        if "lora_B" in key:  # zero at first, and then A has no gradient
            nn.init.normal_(parameter, std=0.1)
    return adapted


def difference(options: dict[str, Any], name: str, row: PackedBatch) -> dict[str, float]:
    ours = {"router_loss": False, "head_chunks": 1} | options
    router_loss, head_chunks = ours.pop("router_loss"), ours.pop("head_chunks")
    model = make_model(name, **ours)
    set_sequence_group(None)
    if row is TOGETHER_ROW:
        plain = make_model(name, **(ours | {"checkpointing": False, "tile_tokens": None}))
        loss, alone = separate_loss_and_gradients(plain, TOGETHER)
    else:
        with tiles_of(model, row.num_tokens):
            loss, alone = loss_and_gradients(model, row, router_loss)
    set_sequence_group(distributed.group.WORLD, head_chunks)
    assert sequence_ranks().size == distributed.get_world_size()
    shared_loss, shared = loss_and_gradients(model, row, router_loss)
    largest = max(gradient.abs().max() for gradient in alone.values())
    worst = max((shared[key] - gradient).abs().max() for key, gradient in alone.items())
    return {
        "loss": float((shared_loss - loss).abs() / loss.abs()),
        "gradient": float(worst / largest),
        "largest": float(largest),
        "probe": check_model(model),
    }


def run(out: Path, names: tuple[str, ...]) -> None:
    """Differences by case, of every rank in a file OUT.RANK."""
    distributed.init_process_group("gloo")
    results = {name: difference(options, name, row) for name, (options, row) in CASES.items() if name in names}
    Path(f"{out}.{distributed.get_rank()}").write_text(json.dumps(results))
    distributed.barrier()
    distributed.destroy_process_group()
