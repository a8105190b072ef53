"""Kills each cell at seeded moments, runs it again and compares; what is done is kept and not done again."""

import json
import random
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kills.cells import Cell
from kills.comparing import differences
from kills.processes import Ended, run
from kills.watching import Event, Moment, events

STORED = Path(__file__).parent / "stored"
_SAME = 1e-4  # seconds; what follows at once is no moment of its own


@dataclass
class Result:
    """What came of a cell.

    Args:
        kills: of each, the phase it came in, what was being done, and what differed afterwards.
    """

    command: str
    name: str
    machine: dict[str, Any]
    kills: list[dict[str, Any]] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """One JSON file, whole or not at all."""
        draft = path.with_name(f".{path.name}")
        draft.write_text(json.dumps(asdict(self), indent=1) + "\n")
        draft.replace(path)


class Campaign:
    """All kills of one cell."""

    def __init__(self, cell: Cell, work: Path, stored: Path, machine: dict[str, Any]) -> None:
        self.cell, self.folder = cell, work / cell.key
        self.path, self.machine = stored / f"{cell.key}.json", machine
        self.found, self.clean = self.folder / "run", self.folder / "clean"

    def run(self, num_kills: int) -> Result:
        """Kill so many times in all, those before included."""
        result = Result(self.cell.command, self.cell.name, self.machine)
        if self.path.exists():
            result = Result(**json.loads(self.path.read_text()))
        if len(result.kills) >= num_kills:
            return result
        traces = self._undisturbed()
        for number, (phase, moment) in enumerate(moments(self.cell.key, traces, num_kills)):
            if number >= len(result.kills):
                result.kills.append(self._kill(number, phase, moment))
                result.write(self.path)
                print(f"{self.cell.key} {number}: {json.dumps(result.kills[-1])}", flush=True)
        return result

    def _undisturbed(self) -> list[list[Event]]:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        if self.cell.input:
            self._ended_well(self._command(self.cell.input, "input"), "input")
        self._ended_well(self._command(self.cell.words, "clean"), "clean")
        self.found.rename(self.clean)
        return [events(self.folder / f"logs-clean/trace-{rank}.txt") for rank in range(self.cell.num_ranks)]

    def _command(self, words: Iterable[str], log: str, moment: Moment | None = None) -> Ended:
        places = {"{run}": str(self.found), "{input}": str(self.folder / "input")}
        filled = list(words)
        for name, place in places.items():
            filled = [word.replace(name, place) for word in filled]
        ranks = 1 if log == "input" else self.cell.num_ranks
        return run(filled, ranks, self.found, self.folder / f"logs-{log}", moment, fresh=self.cell.fresh)

    def _ended_well(self, ended: Ended, log: str) -> None:
        if any(ended.statuses):
            output = (self.folder / f"logs-{log}/output-0.txt").read_text(errors="replace")
            raise RuntimeError(f"{self.cell.key}: {log} ended with {ended.statuses}\n{output[-3000:]}")

    def _kill(self, number: int, phase: str, moment: Moment) -> dict[str, Any]:
        """One kill, one repetition, one comparison."""
        shutil.rmtree(self.found, ignore_errors=True)
        first = self._command(self.cell.words, f"killed-{number}", moment)
        last = events(self.folder / f"logs-killed-{number}/trace-{moment.rank}.txt")[-1]
        kill = {"phase": last.phase, "aimed": phase, "at": last.what, "share": round(moment.share, 3)}
        if not first.killed:
            return {**kill, "phase": "none: it had ended", "problems": []}
        problems = self._again(number)
        if problems:
            kept = self.folder / f"differing-{number}"
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(self.found, kept, symlinks=True)
        return {**kill, "problems": problems}

    def _again(self, number: int) -> list[str]:
        second = self._command((*self.cell.words, *self.cell.again), f"again-{number}")
        if second.hung:
            return ["run again, it hung"]
        output = (self.folder / f"logs-again-{number}/output-0.txt").read_text(errors="replace")
        is_whole = self.cell.command == "export" and "got a model" in output  # refused, as the model is there already
        if any(second.statuses) and not is_whole:
            return [f"run again, it ended with {second.statuses}: {output.strip().splitlines()[-1:]}"]
        return differences(self.clean, self.found, self.cell.tolerance)


def moments(seed: str, traces: Sequence[Sequence[Event]], count: int) -> list[tuple[str, Moment]]:
    """Seeded moments, spread over the phases of an undisturbed run in turn."""
    draw = random.Random(seed)
    phases = list(dict.fromkeys(event.phase for event in traces[0]))
    draw.shuffle(phases)
    return [_moment(draw, phases[number % len(phases)], traces) for number in range(count)]


def _moment(draw: random.Random, phase: str, traces: Sequence[Sequence[Event]]) -> tuple[str, Moment]:
    """Before an event of the phase, or, every other time, somewhere between it and the next."""
    rank = draw.randrange(len(traces))
    trace = traces[rank]
    number = draw.choice([i for i, event in enumerate(trace) if event.phase == phase] or [0])
    seconds = trace[number + 1].at - trace[number].at if number + 1 < len(trace) else 0.0
    share = draw.random() if draw.random() < 0.5 and seconds > _SAME else 0.0
    return phase, Moment(number, share, share * seconds, rank)
