"""Time and memory against prompt length, and against the number of responses, ours and TRL's.

    PYTHONPATH=docs python -m benchmarks.growth --out docs/pictures

Writes growth.json, growth.md (tables and slopes) and growth.png. Checkpointing is on and answers are short, so
that what grows is the prompt. About 40 minutes on two idle cores up to 16K; `--prompts 1024 2048 4096` takes five.
"""

import argparse
import math
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from benchmarks.compare import Side, compare, write
from benchmarks.machine import describe
from benchmarks.setting import Setting

_SIDES = ("ours", "trl_compact")
_STYLE = {"ours": {"color": "tab:blue", "marker": "o"}, "trl_compact": {"color": "tab:orange", "marker": "s"}}
_LABELS = {"ours": "lit_longpo", "trl_compact": "TRL, response-only head"}


def point(shape: str, prompt: int, responses: int, answer: int, steps: int, clock: str) -> dict[str, Any]:
    """Both sides at one size; a single response is supervised fine-tuning, which is a pair's half."""
    setting = Setting(
        shape=shape,
        objective="sft" if responses == 1 else "dpo",
        prompt=prompt,
        answers=(answer,) * responses,
        checkpointing=True,
        steps=steps,
    )
    result = compare([Side(name, name, setting) for name in _SIDES], rounds=1)
    rows = {name: {"seconds": row[clock], "grown_mib": row["grown_mib"]} for name, row in result["sides"].items()}
    return {"prompt": prompt, "responses": responses, **rows}


def slope(points: list[dict[str, Any]], side: str, number: str, by: str) -> float:
    """Exponent between the last two points: 1 is linear growth, 2 is quadratic."""
    first, last = points[-2:]
    return math.log(last[side][number] / first[side][number]) / math.log(last[by] / first[by])


def table(points: list[dict[str, Any]], by: str) -> str:
    """One line per size."""
    lines = [f"| {by} | seconds: ours | TRL | ratio | growth MiB: ours | TRL | ratio |", "| ---: " * 7 + "|"]
    for p in points:
        cells = [f"{p[by]:,}"]
        for number, digits in (("seconds", 2), ("grown_mib", 0)):
            a, b = (p[side][number] for side in _SIDES)
            cells += [f"{a:,.{digits}f}", f"{b:,.{digits}f}", f"{a / b:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    if len(points) > 1:
        words = [
            f"{number} {side} ~ {by}^{slope(points, side, number, by):.2f}"
            for number in ("seconds", "grown_mib")
            for side in _SIDES
        ]
        lines += ["", f"Growth between the last two sizes: {', '.join(words)}."]
    return "\n".join([*lines, ""])


def draw(series: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Four small plots: seconds and memory, by prompt and by responses."""
    figure, axes = plt.subplots(2, len(series), figsize=(10, 7), squeeze=False)
    names = {"seconds": "seconds a step", "grown_mib": "memory growth, MiB"}
    for column, (by, points) in enumerate(series.items()):
        for line, (number, name) in enumerate(names.items()):
            axis = axes[line][column]
            for side in _SIDES:
                values = [p[side][number] for p in points]
                axis.plot([p[by] for p in points], values, label=_LABELS[side], **_STYLE[side])
            axis.set_xscale("log", base=2)
            if by == "prompt":
                axis.set_yscale("log", base=2)
                axis.yaxis.set_major_formatter("{x:,g}")
            axis.set_xticks([p[by] for p in points], [f"{p[by]:,}" for p in points])
            axis.set_xlabel("prompt tokens" if by == "prompt" else "responses to one prompt")
            axis.set_ylabel(name)
            axis.grid(alpha=0.3)
    axes[0][0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="small")
    parser.add_argument("--prompts", type=int, nargs="+", default=[1024, 2048, 4096, 8192, 16384])
    parser.add_argument("--responses", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--answer", type=int, default=64)
    parser.add_argument("--prompt", type=int, default=4096, help="prompt of the series over responses")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    options = parser.parse_args()
    common = (options.answer, options.steps, options.clock)
    series: dict[str, list[dict[str, Any]]] = {"prompt": [], "responses": []}
    for prompt in options.prompts:
        series["prompt"].append(point(options.shape, prompt, 2, *common))
        report(series, options.out)
    for responses in options.responses:
        series["responses"].append(point(options.shape, options.prompt, responses, *common))
        report(series, options.out)


def report(series: dict[str, list[dict[str, Any]]], folder: Path) -> None:
    """Everything measured so far, so that an interrupted run leaves something."""
    filled = {by: points for by, points in series.items() if points}
    text = "\n".join(table(points, by) for by, points in filled.items())
    write(folder, "growth", {"machine": describe(), **filled}, text)
    draw(filled, folder / "growth.png")
    print(text, flush=True)


if __name__ == "__main__":
    main()
