"""Our engine and TRL's trainers on the same weights, tokens and optimizer, each in its own process, by turns.

    PYTHONPATH=docs python -m benchmarks.compare --prompt 4000 --answers 128 128 --sides ours trl_compact

`make bench` compares ours, TRL as shipped and TRL with its response-only head forced on, for DPO, SimPO and
ORPO. Losses are compared first. Time on an idle machine only; the load is reported.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from math import nan
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.machine import describe
from benchmarks.setting import Setting, add_flags, from_flags

ROOT = Path(__file__).resolve().parents[2]
LOSS_TOLERANCE = 2e-5
NUMBERS = ("wall", "cpu", "peak_mib", "grown_mib")


@dataclass(frozen=True)
class Side:
    """Something that is measured.

    Args:
        implementation: name in `benchmarks.side.SIDES`.
    """

    label: str
    implementation: str
    setting: Setting


def run_side(side: Side) -> dict[str, Any]:
    """One process; its last line of output is the result."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "docs")])
    command = [sys.executable, "-m", "benchmarks.side", side.implementation, side.setting.dumps()]
    environment = {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise RuntimeError(f"{side.label} failed with status {done.returncode}:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def run_here(side: Side) -> dict[str, Any]:
    """The side in this process, for tests: no start-up, but memory means nothing."""
    from benchmarks.side import SIDES

    return SIDES[side.implementation](side.setting)


def compare(
    sides: list[Side], rounds: int, *, same_loss: bool = True, run: Callable[[Side], dict[str, Any]] = run_side
) -> dict[str, Any]:
    """Summaries of all sides, and ratios of the first to each other one.

    Args:
        sides: measured one after the other, again and again.
        rounds: how often each is measured.
        same_loss: check that all compute the same loss in their first step.
        run: how a side is measured.

    Raises:
        ValueError: the sides do not compute the same loss; nothing more is measured then.
    """
    load = os.getloadavg()[0]
    runs: dict[str, list[dict[str, Any]]] = {side.label: [] for side in sides}
    for number in range(rounds):
        for side in sides:
            runs[side.label].append(run(side))
        if number == 0 and same_loss:
            check_losses({label: results[0]["losses"][0] for label, results in runs.items()})
    return {
        "machine": {**describe(), "load_before": load, "load_after": os.getloadavg()[0]},
        "rounds": rounds,
        "sides": {side.label: summarise(side, runs[side.label]) for side in sides},
        "ratios": {side.label: ratios(runs[sides[0].label], runs[side.label]) for side in sides[1:]},
    }


def check_losses(losses: dict[str, float]) -> None:
    """Refuse to compare different work."""
    first = next(iter(losses.values()))
    if not all(abs(loss - first) <= LOSS_TOLERANCE for loss in losses.values()):
        raise ValueError(f"expected equal losses of the first step (within {LOSS_TOLERANCE}), got {losses}")


def summarise(side: Side, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over all timed steps of one side's processes."""
    wall = [seconds for run in runs for seconds in run["wall"]]
    return {
        "implementation": side.implementation,
        "setting": asdict(side.setting),
        "losses": runs[0]["losses"],
        "steps": len(wall),
        "wall": median(wall),
        "wall_min": min(wall),
        "wall_max": max(wall),
        "cpu": median(seconds for run in runs for seconds in run["cpu"]),
        "tokens_per_second": side.setting.num_row_tokens / median(wall),
        "peak_mib": median(run["peak_mib"] for run in runs),
        "grown_mib": median(run["grown_mib"] for run in runs),
    }


def ratios(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Per number: ratio of the medians, and the smallest and largest ratio of one round."""
    made = {}
    for name in NUMBERS:
        rounds = [_ratio(_value(a, name), _value(b, name)) for a, b in zip(first, second, strict=True)]
        whole = _ratio(_whole(first, name), _whole(second, name))
        made[name] = {"ratio": whole, "min": min(rounds), "max": max(rounds)}
    return made


def _ratio(first: float, second: float) -> float:
    """Not a number where the second measured nothing: tiny runs may grow by no page of memory."""
    return first / second if second else nan


def _value(run: dict[str, Any], name: str) -> float:
    return median(run[name]) if isinstance(run[name], list) else run[name]


def _whole(runs: list[dict[str, Any]], name: str) -> float:
    values = [run[name] for run in runs]
    return median(value for part in values for value in (part if isinstance(part, list) else [part]))


def markdown(title: str, result: dict[str, Any]) -> str:
    """A table of the sides and a line for every ratio."""
    machine = result["machine"]
    lines = [
        f"## {title}",
        "",
        f"load {machine['load_before']:.1f} -> {machine['load_after']:.1f}; `{setting_line(result)}`",
        "",
        "| side | wall s/step (min - max) | CPU s/step | tokens/s | peak MiB | growth MiB |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for label, row in result["sides"].items():
        wall = f"{row['wall']:.2f} ({row['wall_min']:.2f} - {row['wall_max']:.2f})"
        numbers = f"{row['tokens_per_second']:,.0f} | {row['peak_mib']:,.0f} | {row['grown_mib']:,.0f}"
        lines.append(f"| {label} | {wall} | {row['cpu']:.2f} | {numbers} |")
    first = next(iter(result["sides"]))
    for label, ratio in result["ratios"].items():
        parts = [f"{name} {r['ratio']:.2f} ({r['min']:.2f} - {r['max']:.2f})" for name, r in ratio.items()]
        lines += ["", f"{first} / {label}: {', '.join(parts)}"]
    return "\n".join([*lines, ""])


def setting_line(result: dict[str, Any]) -> str:
    """What the first side was set to, as flags."""
    setting, plain = next(iter(result["sides"].values()))["setting"], asdict(Setting())
    changed = {name: value for name, value in setting.items() if value != plain[name] or name in ("prompt", "answers")}
    return " ".join(f"{name}={value}" for name, value in changed.items())


def write(folder: Path, name: str, results: Any, text: str) -> None:
    """`name.json` and `name.md`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(results, indent=2) + "\n")
    (folder / f"{name}.md").write_text(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", nargs="+", default=["ours", "trl_compact", "trl"])
    parser.add_argument("--objectives", nargs="+", help="compared one after another; the default is --objective")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    add_flags(parser)
    options = parser.parse_args()
    results, texts = {}, []
    for objective in options.objectives or [options.objective]:
        setting = replace(from_flags(options), objective=objective)
        # SimPO's and ORPO's trainers have no response-only head to force.
        names = [side for side in options.sides if side != "trl_compact" or objective in ("dpo", "sft")]
        results[objective] = compare([Side(name, name, setting) for name in names], options.rounds)
        texts.append(markdown(objective, results[objective]))
        print(texts[-1], flush=True)
        write(options.out, "compare", results, "\n".join(texts))


if __name__ == "__main__":
    main()
