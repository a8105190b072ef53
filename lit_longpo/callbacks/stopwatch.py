"""Measures where time goes without waiting for the device at every mark."""

import time
from itertools import pairwise
from typing import Any

import torch


class Stopwatch:
    """Adds up the seconds between marks by name.

    On a GPU the marks are events in its queue: they say when the device got there, and are read only when
    `read` is called, which waits for the last of them once.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._marks: list[tuple[str, Any]] = [("", self._now())]

    def mark(self, name: str) -> None:
        """Attribute the time since the previous mark to `name`."""
        self._marks.append((name, self._now()))

    def read(self) -> dict[str, float]:
        """Seconds by name since the last reading."""
        seconds = dict[str, float]()
        if self._on_gpu:
            self._marks[-1][1].synchronize()
        for (_, start), (name, end) in pairwise(self._marks):
            passed = start.elapsed_time(end) / 1000 if self._on_gpu else end - start
            seconds[name] = seconds.get(name, 0.0) + passed
        del self._marks[:-1]
        return seconds

    def _now(self) -> Any:
        """An event in the device's queue, or the host's clock."""
        if not self._on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event
