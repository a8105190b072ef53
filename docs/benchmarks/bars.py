"""The bars: how much faster and leaner we have to be, measured.

    PYTHONPATH=docs python -m benchmarks.bars                       # every case, about 20 minutes on 2 idle cores
    PYTHONPATH=docs python -m benchmarks.bars --case prompt_2000    # one of them

`--clock cpu` judges CPU seconds, which a busy machine disturbs less than wall seconds. Beside a ratio of times stands
that of the counted FLOPs, repeats and all: what it would be if both sides computed equally fast.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.compare import Side, compare, markdown, run_side, write
from benchmarks.flops import computed_flops
from benchmarks.machine import describe
from benchmarks.setting import Setting


@dataclass(frozen=True)
class Verdict:
    """One measured number and its bar; `counted` is the ratio of FLOPs where times are compared."""

    case: str
    what: str
    measured: float
    bar: float
    at_least: bool = False
    counted: float | None = None

    @property
    def passed(self) -> bool:
        return self.measured >= self.bar if self.at_least else self.measured <= self.bar


@dataclass(frozen=True)
class Comparison:
    """A case that compares sides; the bars are on ratios of the first side to another.

    Args:
        sides: label -> (implementation, changes of the case's setting).
        bars: (other side, "time" or a number's name, largest ratio).
        setting: what all sides run.
        rounds: processes per side.
        same_loss: whether the sides must compute the same loss.
    """

    sides: dict[str, tuple[str, dict[str, Any]]]
    bars: tuple[tuple[str, str, float], ...]
    setting: Setting
    rounds: int = 2
    same_loss: bool = True

    def run(self, name: str, clock: str) -> tuple[list[Verdict], Any, str]:
        sides = [Side(label, how, replace(self.setting, **changes)) for label, (how, changes) in self.sides.items()]
        result = compare(sides, self.rounds, same_loss=self.same_loss)
        verdicts = []
        for other, what, bar in self.bars:
            measured = result["ratios"][other][clock if what == "time" else what]["ratio"]
            counted = _counted(sides[0], sides[list(self.sides).index(other)]) if what == "time" else None
            verdicts.append(Verdict(name, f"{what}, {sides[0].label} / {other}", measured, bar, counted=counted))
        return verdicts, result, markdown(name, result)


def _counted(first: Side, second: Side) -> float | None:
    """Ratio of the FLOPs of two trainings; `None` for anything else."""
    if not {first.implementation, second.implementation} <= {"ours", "trl_compact"}:
        return None
    ours, theirs = (computed_flops(side.setting, ours=side.implementation == "ours") for side in (first, second))
    return ours / theirs


@dataclass(frozen=True)
class Measurement:
    """A case of one process that returns named numbers, and what is made of them."""

    implementation: str
    judge: Callable[[str, dict[str, float]], list[Verdict]]
    setting: Setting

    def run(self, name: str, clock: str) -> tuple[list[Verdict], Any, str]:
        numbers = run_side(Side(name, self.implementation, self.setting))
        lines = [f"## {name}", "", *(f"- {key}: {value:,.4g}" for key, value in numbers.items()), ""]
        return self.judge(name, numbers), {"machine": describe(), **numbers}, "\n".join(lines)


def _against_trl(*bars: tuple[str, float], **setting: Any) -> Comparison:
    return Comparison(
        {"ours": ("ours", {}), "trl_compact": ("trl_compact", {})},
        tuple(("trl_compact", what, bar) for what, bar in bars),
        Setting(**setting),
    )


def _recomputed(*bars: tuple[str, float], kept_by_trl: float | None = None, **setting: Any) -> Comparison:
    """Ours as it is best against TRL with its own switch; beside them, each with the other's way.

    Args:
        bars: on the ratio to TRL with its own switch.
        kept_by_trl: the bar on time where TRL keeps attention, too; `None` leaves that out.
        setting: of all sides.
    """
    all_of_it, but_attention = {"checkpointing": True}, {"checkpointing": "keep_attention"}
    sides = {
        "ours": ("ours", but_attention),
        "trl_compact": ("trl_compact", all_of_it),
        "ours_all_recomputed": ("ours", all_of_it),
    }
    all_bars = [("trl_compact", what, bar) for what, bar in bars]
    if kept_by_trl is not None:
        sides["trl_attention_kept"] = ("trl_compact", but_attention)
        all_bars.append(("trl_attention_kept", "time", kept_by_trl))
    return Comparison(sides, tuple(all_bars), Setting(**setting))


def _reference(name: str, numbers: dict[str, float]) -> list[Verdict]:
    return [
        Verdict(name, "values computed by the second run", numbers["second_values"], 0),
        Verdict(
            name, "reference seconds, second run / first", numbers["second_seconds"] / numbers["first_seconds"], 0.05
        ),
    ]


def _data(name: str, numbers: dict[str, float]) -> list[Verdict]:
    ratio = numbers["data_tokens_per_second"] / numbers["engine_tokens_per_second"]
    return [Verdict(name, "tokens/s, data / engine", ratio, 20, at_least=True)]


CASES: dict[str, Comparison | Measurement] = {
    "prompt_2000": _against_trl(("time", 0.54), ("grown_mib", 0.60), steps=5),
    "prompt_4096_k4": _recomputed(("time", 0.225), kept_by_trl=0.275, prompt=4096, answers=(128,) * 4),
    "prompt_8192_k4": _recomputed(("time", 0.225), ("grown_mib", 0.50), prompt=8192, answers=(256,) * 4),
    "head": Comparison(
        {"ours": ("head_ours", {}), "trl": ("head_trl", {})},
        (("trl", "time", 0.50), ("trl", "grown_mib", 0.12)),
        Setting(prompt=2304, vocab=151936),
    ),
    "unequal": Comparison(
        {
            "unequal": ("ours", {"answers": (96, 32)}),
            "equal": ("ours", {}),
            "trl_unequal": ("trl_compact", {"answers": (96, 32)}),
        },
        (("equal", "time", 1.05),),
        Setting(steps=8),
        rounds=3,
        same_loss=False,
    ),
    "solopo": Comparison(
        {
            "solopo": ("ours", {"objective": "solopo"}),
            "dpo_trl": ("trl_compact", {"checkpointing": True}),
            "solopo_all_recomputed": ("ours", {"objective": "solopo", "checkpointing": True}),
            "dpo_separate": ("ours", {"separate": True}),
            "dpo_shared": ("ours", {}),
        },
        (("dpo_trl", "time", 0.52), ("dpo_separate", "time", 0.60)),
        Setting(prompt=8192, short=1024, answers=(256, 256), checkpointing="keep_attention"),
        same_loss=False,
    ),
    "reference_cache": Measurement("reference_cache", _reference, Setting(prompt=1000)),
    "data": Measurement("data_speed", _data, Setting(steps=5)),
}


def table(verdicts: list[Verdict]) -> str:
    """Measured against bar."""
    lines = ["| case | what | measured | counted | bar | |", "| --- | --- | ---: | ---: | ---: | --- |"]
    for verdict in verdicts:
        sign = ">=" if verdict.at_least else "<="
        word = "pass" if verdict.passed else "FAIL"
        counted = "" if verdict.counted is None else f"{verdict.counted:.3g}"
        numbers = f"{verdict.measured:.3g} | {counted} | {sign} {verdict.bar}"
        lines.append(f"| {verdict.case} | {verdict.what} | {numbers} | {word} |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--rounds", type=int, help="processes per side instead of the case's own number")
    parser.add_argument("--steps", type=int, help="timed steps per process instead of the case's own number")
    parser.add_argument("--toy", action="store_true", help="toy sizes: does every case run?")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    options = parser.parse_args()
    verdicts, results, texts = list[Verdict](), dict[str, Any](), list[str]()
    for name in options.case:
        made, results[name], text = adjusted(CASES[name], options).run(name, options.clock)
        verdicts += made
        texts.append(text)
        print(text, table(made), sep="\n", flush=True)
        write(options.out, "bars", results, "\n".join([table(verdicts), *texts]))
    print(table(verdicts))
    sys.exit(not all(verdict.passed for verdict in verdicts))


def adjusted(case: Comparison | Measurement, options: argparse.Namespace) -> Comparison | Measurement:
    """The case with other sizes and numbers of rounds and steps."""
    if options.toy:
        small = {"shape": "smoke", "prompt": 64, "short": 16 if case.setting.short else 0, "vocab": 0}
        case = replace(case, setting=replace(case.setting, **small))
    if options.steps:
        case = replace(case, setting=replace(case.setting, steps=options.steps))
    if options.rounds and isinstance(case, Comparison):
        case = replace(case, rounds=options.rounds)
    return case


if __name__ == "__main__":
    main()
