"""Peak bytes of activations per token, layers whole and in tiles: traced without values, and one length for real.

PYTHONPATH=docs python -m benchmarks.tiles             # the table, about a minute of a CPU
PYTHONPATH=docs python -m benchmarks.tiles --real 4096  # steps with values, each in a process of its own
PYTHONPATH=docs python -m benchmarks.tiles --times 4096 # what tiles cost: CPU seconds of one thread, by turns
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import fields
from itertools import product
from statistics import median
from typing import Any

import torch
from benchmarks.machine import describe
from torch import nn
from transformers import Qwen2Config

from lit_longpo.batch import View, Views
from lit_longpo.engine import score
from lit_longpo.live_bytes import LiveBytes
from lit_longpo.planning.inputs.row import RowPlan
from lit_longpo.planning.tracing.activations import Activations, Tracer
from lit_longpo.planning.tracing.model import ModelPlan
from lit_longpo.planning.tracing.steps import materialised
from lit_longpo.policy.loading import LoRA

ROWS = ((4096, 1024), (4096, 512), (4096, "auto"), (16384, "auto"), (65536, "auto"))  # tokens, and those of a tile
DTYPES = (torch.float32, torch.bfloat16)
RESPONSE = 256
PAIR = Views(policy=(View("long", "chosen"), View("long", "rejected")), reference=())


def stack(dtype: torch.dtype, tile_tokens: Any, lora: LoRA | None = None) -> ModelPlan:
    """Four layers of Qwen2.5-0.5B's shape, with a small vocabulary: layers are measured here, not the head.

    In a CPU's tiles: where a GPU treats so few tokens they are one.
    """
    config = Qwen2Config(
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=4,
        num_attention_heads=14,
        num_key_value_heads=2,
        vocab_size=1024,
        tie_word_embeddings=True,
    )
    return ModelPlan(config, dtype, lora, tile_tokens=tile_tokens, on_cpu=True)


def pair(tokens: int) -> RowPlan:
    """One prompt with two responses, so many tokens together."""
    return RowPlan(PAIR, 1, tokens - 2 * RESPONSE, 1, RESPONSE, True)


def peak(activations: Activations) -> int:
    """Of all moments of a step; what a layer's inputs take on a host is left out."""
    whole = activations.offloaded().whole
    return max(getattr(whole, part.name) for part in fields(whole))


def traced() -> list[str]:
    """Lines of a table."""
    lines = ["| trained | tokens | a tile | whole, bytes a token | in tiles | ratio |", "| --- " + "| ---: " * 5 + "|"]
    for dtype, lora in product(DTYPES, (None, LoRA(r=8))):
        whole = Tracer(stack(dtype, None, lora))
        for tokens, tile in ROWS:
            tiled = Tracer(stack(dtype, tile, lora))
            bytes_ = [peak(tracer.activations(pair(tokens), checkpointing=True)) for tracer in (whole, tiled)]
            size = tiled.model.tile_of(tokens, True)
            per_token = " | ".join(f"{number / tokens:,.0f}" for number in bytes_)
            name = str(dtype).removeprefix("torch.") + (", LoRA" if lora else "")
            lines.append(f"| {name} | {tokens:,} | {size:,} | {per_token} | {bytes_[1] / bytes_[0]:.2f} |")
    return lines


def _with_values(dtype: torch.dtype, tile_tokens: Any, lora: LoRA | None = None) -> nn.Module:
    """The stack in tiles, recomputed, with small random weights whose gradients are freed where they are made."""
    torch.manual_seed(0)
    model = materialised(stack(dtype, tile_tokens, lora).build(4, checkpointing=True))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(lambda made: setattr(made, "grad", None))
    for buffer in model.buffers():  # rotary frequencies
        buffer.fill_(0.1)
    return model


def times(tokens: int, rounds: int = 3) -> Iterator[str]:
    """Lines of a table: CPU seconds of whole layers, and of tiles over that, by turns, in one process and thread."""
    torch.set_num_threads(1)
    row, sizes = pair(tokens).policy_row(), (None, 1024, 512, 256)
    yield "| trained | whole | tiles of 1,024 | 512 | 256 |"
    yield "| --- " + "| ---: " * 4 + "|"
    for dtype, lora, learns in product(DTYPES, (None, LoRA(r=8)), (True, False)):
        models = {size: _with_values(dtype, size, lora) for size in sizes}
        spent: dict[int | None, list[float]] = {size: [] for size in sizes}
        for _, (size, model) in product(range(rounds + 1), models.items()):
            start = time.process_time()
            with torch.set_grad_enabled(learns):
                loss = score(model, row).sums.sum()
            if learns:
                loss.backward()
            spent[size].append(time.process_time() - start)
        whole, *tiled = (median(seconds[1:]) for seconds in spent.values())  # without each one's first step
        name = str(dtype).removeprefix("torch.") + (", LoRA" if lora else "") + ("" if learns else ", forward alone")
        yield f"| {name} | {whole:.2f} s | " + " | ".join(f"{seconds / whole:.2f}" for seconds in tiled) + " |"


def step(tokens: int, tile_tokens: Any) -> dict[str, float]:
    """One step with values, everything recomputed; bytes beyond weights and gradients, and what the process grew by."""
    model = _with_values(torch.float32, tile_tokens)
    row = pair(tokens).policy_row()
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with LiveBytes() as memory:
        for tensor in (*model.parameters(), *model.buffers()):
            memory.add(tensor)
        weights = memory.live
        loss = score(model, row).sums.sum()
        loss.backward()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    seconds = time.process_time() - start
    return {"account": memory.peak - weights, "grown": grown * 1024, "cpu_seconds": seconds, "loss": float(loss)}


def main() -> None:
    """See the top of this module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--real", type=int)
    parser.add_argument("--times", type=int)
    parser.add_argument("--tiles", choices=["whole", "auto"])
    flags = parser.parse_args()
    if flags.tiles:
        print(json.dumps(step(flags.real, None if flags.tiles == "whole" else "auto")))
        return
    print(describe())
    if flags.times:
        for line in times(flags.times):
            print(line, flush=True)
        return
    if flags.real is None:
        print("\n".join(traced()))
        return
    for tiles in ("whole", "auto"):
        command = [sys.executable, "-m", "benchmarks.tiles", "--real", str(flags.real), "--tiles", tiles]
        print(tiles, subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())


if __name__ == "__main__":
    main()
