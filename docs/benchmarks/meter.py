"""Seconds of every step, and memory before and at its peak."""

import time
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor

_MIB = 2**20


class Meter:
    """Fed by the training loop of whatever is measured.

    Seconds run from the end of one step to the end of the next, so everything a trainer does counts.
    A GPU is waited for at the end of every step. Memory is what the process holds (CPU) or what torch has
    allocated (GPU); growth is counted from the moment training starts, gradients and optimizer included.

    Args:
        device: "cpu" or "cuda".
        warmup: steps that are left out.
        profiler: runs from the end of the warm-up to `result`.
    """

    def __init__(self, device: str, warmup: int, profiler: torch.profiler.profile | None = None) -> None:
        self.device, self.warmup, self.profiler = device, warmup, profiler
        self.wall, self.cpu, self.losses = list[float](), list[float](), list[Tensor]()
        self.before = 0.0

    def start(self) -> None:
        """Training starts now."""
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        self.before = _now_mib(self.device)
        _reset_peak()
        self._mark()

    def loss(self, value: Tensor) -> None:
        """The loss of a step, before its update."""
        self.losses.append(value.detach().mean())

    def step(self) -> None:
        """An optimizer step ends now."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        self.wall.append(time.perf_counter() - self._wall)
        self.cpu.append(time.process_time() - self._cpu)
        if self.profiler is not None and len(self.wall) == self.warmup:
            self.profiler.start()
        self._mark()

    def result(self) -> dict[str, Any]:
        """Losses of all steps; seconds of those after the warm-up; memory."""
        if self.profiler is not None:
            self.profiler.stop()
        peak = _peak_mib(self.device)
        return {
            "losses": [loss.item() for loss in self.losses],
            "wall": self.wall[self.warmup :],
            "cpu": self.cpu[self.warmup :],
            "peak_mib": peak,
            "grown_mib": peak - self.before,
        }

    def _mark(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()


def _now_mib(device: str) -> float:
    return torch.cuda.memory_allocated() / _MIB if device == "cuda" else psutil.Process().memory_info().rss / _MIB


def _reset_peak() -> None:
    """Forget the peak of loading and set-up (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


def _peak_mib(device: str) -> float:
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / _MIB
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) / 1024
