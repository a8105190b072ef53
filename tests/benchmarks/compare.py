"""Ours against the padded implementation, each in its own process, by turns; medians and ratios.

`make bench`, or: python tests/benchmarks/compare.py --rounds 3 --out runs/benchmarks -- --prompt 4000
What follows `--` goes to both sides (see step.py). Time on an idle machine only; the load is reported.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

STEP = Path(__file__).with_name("step.py")
ROOT = Path(__file__).resolve().parents[2]


def run_side(side: str, options: list[str]) -> dict:
    """One process; its last line of output is the result."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(STEP), side, *options], capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{side} failed with status {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def summarise(runs: list[dict]) -> dict:
    """Medians over all timed steps of one side's processes."""
    wall = [seconds for run in runs for seconds in run["wall"]]
    cpu = [seconds for run in runs for seconds in run["cpu"]]
    return {
        "loss": runs[0]["loss"],
        "wall": median(wall),
        "wall_min": min(wall),
        "wall_max": max(wall),
        "cpu": median(cpu),
        "peak_mib": median(run["peak_mib"] for run in runs),
        "grown_mib": median(run["grown_mib"] for run in runs),
    }


def compare(sides: list[str], rounds: int, options: list[str]) -> dict:
    """Summaries of all sides and ratios of the first to each other one.

    Raises:
        ValueError: the sides do not compute the same loss.
    """
    load = os.getloadavg()[0]
    runs: dict[str, list[dict]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side in sides:
            runs[side].append(run_side(side, options))
    made = {side: summarise(results) for side, results in runs.items()}
    losses = [summary["loss"] for summary in made.values()]
    if max(losses) - min(losses) > 2e-5:
        raise ValueError(f"expected equal losses (2e-5), got {dict(zip(sides, losses, strict=True))}")
    first = made[sides[0]]
    ratios = {
        side: {name: first[name] / made[side][name] for name in ("wall", "cpu", "peak_mib", "grown_mib")}
        for side in sides[1:]
    }
    return {"options": options, "load_before": load, "sides": made, "ratios": ratios}


def markdown(result: dict) -> str:
    """A table of the sides and a line for every ratio."""
    lines = [
        f"options: `{' '.join(result['options']) or 'defaults'}`, load before {result['load_before']:.2f}",
        "",
        "| side | wall s/step (min - max) | CPU s/step | peak MiB | growth MiB |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for side, row in result["sides"].items():
        wall = f"{row['wall']:.2f} ({row['wall_min']:.2f} - {row['wall_max']:.2f})"
        lines.append(f"| {side} | {wall} | {row['cpu']:.2f} | {row['peak_mib']:,.0f} | {row['grown_mib']:,.0f} |")
    first = next(iter(result["sides"]))
    for side, ratio in result["ratios"].items():
        lines += ["", f"{first} / {side}: time {ratio['wall']:.2f}, memory growth {ratio['grown_mib']:.2f}"]
    return "\n".join(lines) + "\n"


def main() -> None:
    split = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sides", nargs="+", default=["ours", "padded"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    options = parser.parse_args(sys.argv[1:split])
    result = compare(options.sides, options.rounds, sys.argv[split + 1 :])
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "compare.json").write_text(json.dumps(result, indent=2) + "\n")
    (options.out / "compare.md").write_text(markdown(result))
    print(markdown(result))  # noqa: T201


if __name__ == "__main__":
    main()
