"""How near a DPO step comes to what the machine's matrix products reach, part by part, on a CPU.

    PYTHONPATH=docs python -m benchmarks.ceiling                                 # on an idle machine
    OMP_NUM_THREADS=1 PYTHONPATH=docs python -m benchmarks.ceiling --clock cpu   # beside other jobs

The peak is that of one large fp32 product, by as many threads. Attention (the row's, as the engine computes it), head,
optimizer and packing are measured alone, a whole step under Lightning; what is left of it is the rest of the layers:
their products, norms, activations, rotations and casts, and what is computed twice. FLOPs are those of `flops.py`: what
the model asks for, no recomputation, so what is computed twice lowers the share.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from benchmarks.compare import Side, run_side, write
from benchmarks.flops import attention_flops, head_flops, layer_flops, step_flops
from benchmarks.machine import describe
from benchmarks.ours import SeededDPO, groups, run
from benchmarks.setting import Setting
from transformers import AutoModelForCausalLM

from lit_longpo.batch import PackedBatch
from lit_longpo.engine import pack
from lit_longpo.engine.backends.sdpa import sdpa_attention
from lit_longpo.engine.log_probs import token_log_probs
from lit_longpo.optimization import FusedAdamW

Clocks = dict[str, float]  # seconds: "wall", and "cpu" of all threads

PRODUCT = 2048  # rows and columns of the peak's matrices
# As in `bars.py`: where layers are recomputed, attention is not.
CASES = {
    "2,000 x 2": Setting(),
    "4,096 x 4": Setting(prompt=4096, answers=(128,) * 4, checkpointing="keep_attention"),
    "8,192 x 4": Setting(prompt=8192, answers=(256,) * 4, checkpointing="keep_attention"),
}


def measure(setting: Setting, rounds: int = 3, product: int = PRODUCT) -> dict[str, Any]:
    """Seconds and FLOPs of a step and its parts; medians over the rounds.

    Args:
        setting: of the step.
        rounds: how often each is measured, by turns.
        product: rows and columns of the peak's matrices.
    """
    row = pack(groups(setting, SeededDPO().views))
    parts = {
        "peak": (2.0 * product**3, _product(product)),
        "attention": (attention_flops(setting), _attention(setting, row)),
        "head": (head_flops(setting), _head(setting, row)),
        "optimizer": (0.0, _optimizer(setting)),
        "packing": (0.0, lambda: pack(groups(setting, SeededDPO().views))),
    }
    found: dict[str, list[Clocks]] = {name: [] for name in ("step", *parts)}
    for number in range(rounds + 1):
        for name, (_, compute) in parts.items():
            clocks = clocked(compute)
            found[name] += [clocks] if number else []
        if number:  # round 0 warms up
            step = run(setting)
            found["step"] += [{"wall": wall, "cpu": cpu} for wall, cpu in zip(step["wall"], step["cpu"], strict=True)]
    numbers = {name: (flops, clocks_of(found[name])) for name, (flops, _) in parts.items()}
    numbers["step"] = (step_flops(setting), clocks_of(found["step"]))
    numbers["rest of the layers"] = (layer_flops(setting), _rest(numbers))
    return {
        "threads": torch.get_num_threads(),
        **{name: {"flops": f, **clocks} for name, (f, clocks) in numbers.items()},
    }


def clocked(compute: Callable[[], Any]) -> Clocks:
    """Seconds of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    compute()
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def clocks_of(measured: list[Clocks]) -> Clocks:
    """The median by every clock."""
    return {name: median(each[name] for each in measured) for name in ("wall", "cpu")}


def _rest(numbers: dict[str, tuple[float, Clocks]]) -> Clocks:
    alone = [clocks for name, (_, clocks) in numbers.items() if name not in ("peak", "step")]
    step = numbers["step"][1]
    return {name: step[name] - sum(clocks[name] for clocks in alone) for name in step}


def _product(size: int) -> Callable[[], Any]:
    left, right, out = (torch.randn(size, size) for _ in range(3))
    return lambda: torch.mm(left, right, out=out)


def _attention(setting: Setting, row: PackedBatch) -> Callable[[], Any]:
    """Forward and backward of all layers; the model hands over transposed views."""
    shape = setting.sizes
    heads = (shape.heads, shape.kv_heads, shape.kv_heads)
    views = [torch.randn(1, row.table.num_tokens, number, shape.head_size).transpose(1, 2) for number in heads]
    slope = torch.randn(1, row.table.num_tokens, shape.heads, shape.head_size)

    def compute() -> None:
        for _ in range(shape.layers):
            query, key, value = (view.detach().requires_grad_() for view in views)
            sdpa_attention(query, key, value, row.table, None, None).backward(slope)

    return compute


def _head(setting: Setting, row: PackedBatch) -> Callable[[], Any]:
    shape = setting.sizes
    weight = torch.randn(shape.vocab, shape.hidden).mul_(0.02).requires_grad_()
    hidden = torch.randn(len(row.score_targets), shape.hidden).requires_grad_()

    def compute() -> None:
        weight.grad = hidden.grad = None
        token_log_probs(hidden, weight, row.score_targets).sum().backward()

    return compute


def _optimizer(setting: Setting) -> Callable[[], Any]:
    model = AutoModelForCausalLM.from_config(setting.sizes.config())
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    return FusedAdamW(model.parameters(), lr=setting.lr).step


def table(name: str, numbers: dict[str, Any], clock: str) -> str:
    """A line for every part; shares of the peak by one clock.

    Args:
        name: of the case.
        numbers: from `measure`.
        clock: "wall" or "cpu".
    """
    peak = numbers["peak"]["flops"] / numbers["peak"][clock]
    lines = [
        f"## {name}: {peak / 1e9:,.0f} GFLOP/s of a product by {numbers['threads']} threads, {clock} seconds",
        "",
        "| part | seconds | CPU seconds | of the step | GFLOP | of the peak |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for part in ("step", "attention", "head", "rest of the layers", "optimizer", "packing"):
        each = numbers[part]
        share = each[clock] / numbers["step"][clock]
        reached = f"{each['flops'] / each[clock] / peak:.0%}" if each["flops"] else ""
        seconds, flops = f"{each['wall']:.3f} | {each['cpu']:.3f}", f"{each['flops'] / 1e9:,.1f}"
        lines.append(f"| {part} | {seconds} | {share:.1%} | {flops} | {reached} |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--steps", type=int, default=3, help="timed steps of a round")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    options = parser.parse_args()
    results, texts = dict[str, Any](), list[str]()
    for name in options.case:
        setting = replace(CASES[name], steps=options.steps)
        results[name] = {"machine": describe(), **run_side(Side(name, "ceiling", setting))}
        texts.append(table(name, results[name], options.clock))
        print(texts[-1], flush=True)
        write(options.out, "ceiling", results, "\n".join(texts))


if __name__ == "__main__":
    main()
