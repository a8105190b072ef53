"""Everything that is measured on a GPU, in one command; results as JSON.

    PYTHONPATH=docs python -m benchmarks.gpu --out runs/gpu                # all parts, hours on one card
    PYTHONPATH=docs python -m benchmarks.gpu --parts speed --shapes 8b --prompts 32768 --trainings lora
    PYTHONPATH=docs python -m benchmarks.gpu --smoke                       # seconds, on a CPU

- `parity`: our attention backends in bf16 against separate rows, both against fp32;
- `speed`: tokens/s, peak memory and MFU of a step, ours against TRL, bf16, LoRA and all weights, k = 2 and 4;
- `kernels`: our step with the layers' own code, Liger's kernels and torch's compiler (`policy.layer_kernels`), one
  after the other, and how much faster than the first each is;
- `longest`: the longest prompt that one LoRA step of the largest shape survives, by doubling, then halving.

A configuration that runs out of memory is recorded as such, after a second try with recomputed activations and
a third with layer inputs in host memory. Results are written after every measurement. TRL is left out, and
said to be, where it is not installed.
"""

import argparse
import importlib.util
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.compare import Side, run_here, run_side
from benchmarks.flops import PEAK_TFLOPS, step_flops
from benchmarks.machine import describe
from benchmarks.setting import Setting

_CHECKPOINTING: tuple[bool | str, ...] = (False, True, "offload")
_LONG = 16384  # from here on activations are recomputed at once


Run = Callable[[Side], dict[str, Any]]


def measure(run: Run, side: str, setting: Setting) -> dict[str, Any]:
    """One side, with the least recomputation that fits; out of memory is a result, anything else an error."""
    tried = _CHECKPOINTING if setting.prompt < _LONG else _CHECKPOINTING[1:]
    for checkpointing in tried:
        chosen = replace(setting, checkpointing=checkpointing)
        try:
            return {"checkpointing": checkpointing, **numbers(run(Side(side, side, chosen)), chosen)}
        except RuntimeError as error:
            if "out of memory" not in str(error).lower():
                raise
    return {"out_of_memory": True}


def numbers(result: dict[str, Any], setting: Setting) -> dict[str, Any]:
    """Seconds, speed and memory of a step, from what a side gave."""
    seconds = median(result["wall"])
    flops = step_flops(setting)
    peak = PEAK_TFLOPS.get(setting.dtype)
    return {
        "loss": result["losses"][0],
        "seconds": seconds,
        "tokens_per_second": setting.num_row_tokens / seconds,
        "tflops": flops / seconds / 1e12,
        "mfu": flops / seconds / 1e12 / peak if peak and setting.accelerator == "gpu" else None,
        "peak_gib": result["peak_mib"] / 1024,
    }


def speed(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Every shape, training, prompt and k, ours and TRL's one after the other."""
    for shape in options.shapes:
        for training in options.trainings:
            for prompt in options.prompts:
                for responses in options.responses:
                    setting = setting_of(options, shape, training, prompt, responses)
                    row: dict[str, Any] = {"shape": shape, "training": training, "prompt": prompt, "k": responses}
                    for side in options.sides:
                        row[side] = measure(options.run, side, setting)
                    if all("seconds" in row[side] for side in ("ours", "trl") if side in row) and "trl" in row:
                        row["speedup"] = row["trl"]["seconds"] / row["ours"]["seconds"]
                    yield row


def kernels(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Every shape, training and prompt, with each code for norms and MLPs that is there."""
    left_out = [] if importlib.util.find_spec("liger_kernel") else ["liger"]  # the package is not there
    for shape in options.shapes:
        for training in options.trainings:
            for prompt in options.prompts:
                setting = setting_of(options, shape, training, prompt, 2)
                row: dict[str, Any] = {"shape": shape, "training": training, "prompt": prompt, "left_out": left_out}
                for name in (name for name in options.layer_kernels if name not in left_out):
                    row[name] = measure(options.run, "ours", replace(setting, layer_kernels=name, warmup=3))
                timed = {name: row[name]["seconds"] for name in options.layer_kernels if "seconds" in row.get(name, ())}
                row["speedup"] = {name: timed["own"] / seconds for name, seconds in timed.items() if "own" in timed}
                yield row


def longest(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The longest prompt that fits, for each side."""
    for side in options.sides:
        setting = setting_of(options, options.shapes[-1], "lora", options.prompts[0], 2)
        tried: dict[int, dict[str, Any]] = {}

        def fits(
            prompt: int, side: str = side, setting: Setting = setting, tried: dict[int, dict[str, Any]] = tried
        ) -> bool:
            tried[prompt] = measure(options.run, side, replace(setting, prompt=prompt, steps=1, warmup=1))
            return "seconds" in tried[prompt]

        found = largest(fits, options.prompts[0], options.longest_limit, options.longest_grain)
        yield {"side": side, "shape": options.shapes[-1], "longest_prompt": found, "tried": tried}


def largest(fits: Callable[[int], bool], start: int, limit: int, grain: int) -> int:
    """The largest size that fits, by doubling and then bisecting down to `grain`; 0 if not even `start` does."""
    good, bad = 0, None
    size = start
    while bad is None and size <= limit:
        good, bad = (size, None) if fits(size) else (good, size)
        size *= 2
    while bad is not None and bad - good > max(grain, 1) and good:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return good


def parity(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Errors of each backend, from a process of its own."""
    setting = Setting(shape=options.parity_shape, prompt=options.prompts[0], answers=(96, 64, 32), steps=1)
    yield options.run(Side("parity", "parity", replace(setting, accelerator=options.accelerator)))


def setting_of(options: argparse.Namespace, shape: str, training: str, prompt: int, responses: int) -> Setting:
    """A step over one prompt and its responses, as the options say."""
    return Setting(
        shape=shape,
        prompt=prompt,
        answers=(options.answer,) * responses,
        dtype=options.dtype,
        lora=16 if training == "lora" else 0,
        steps=options.steps,
        warmup=1,
        accelerator=options.accelerator,
        lr=1e-6,
    )


PARTS = {"parity": parity, "speed": speed, "kernels": kernels, "longest": longest}


def main(flags: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--sides", nargs="+", default=["ours", "trl"])
    parser.add_argument("--shapes", nargs="+", default=["0.5b", "8b"])
    parser.add_argument("--trainings", nargs="+", choices=("lora", "full"), default=["lora", "full"])
    parser.add_argument("--prompts", type=int, nargs="+", default=[8192, 32768, 65536, 131072])
    parser.add_argument("--responses", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--layer-kernels", nargs="+", default=["own", "liger", "compile"])
    parser.add_argument("--answer", type=int, default=512)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--longest-limit", type=int, default=2**20)
    parser.add_argument("--longest-grain", type=int, default=8192)
    parser.add_argument("--parity-shape", default="small")
    parser.add_argument("--smoke", action="store_true", help="the same code on a CPU at toy sizes")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"))
    parser.set_defaults(accelerator="gpu", dtype="bfloat16", run=run_side)
    options = parser.parse_args(flags)
    if options.smoke:
        parser.set_defaults(**_SMOKE)
        options = parser.parse_args(flags)
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    results: dict[str, Any] = {"machine": describe(), "left_out": []}
    if importlib.util.find_spec("trl") is None and "trl" in options.sides:
        options.sides = [side for side in options.sides if side != "trl"]
        results["left_out"].append("trl is not installed")
    options.out.mkdir(parents=True, exist_ok=True)
    for part in options.parts:
        results[part] = []
        for row in PARTS[part](options):
            results[part].append(row)
            (options.out / "gpu.json").write_text(json.dumps(results, indent=2) + "\n")
            print(part, json.dumps(row), flush=True)


_SMOKE: dict[str, Any] = {
    "run": run_here,
    "accelerator": "cpu",
    "dtype": "float32",
    "shapes": ["smoke"],
    "trainings": ["lora"],
    "prompts": [48],
    "responses": [2],
    "layer_kernels": ["own"],
    "answer": 6,
    "steps": 1,
    "longest_limit": 96,
    "longest_grain": 48,
    "parity_shape": "smoke",
}

if __name__ == "__main__":
    main()
