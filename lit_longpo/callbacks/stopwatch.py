"""Measures where time goes without waiting for the device at every mark."""

import time

import torch


class Stopwatch:
    """Adds up the seconds between marks by name.

    On a GPU the marks are events in its queue: they say when the device got there, and are read only when
    `read` is called, which waits for the last of them once.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._last: float | torch.cuda.Event = self._now()
        self._host: dict[str, float] = {}
        self._events: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    def mark(self, name: str) -> None:
        """Attribute the time since the previous mark to `name`."""
        now = self._now()
        if isinstance(now, torch.cuda.Event):
            assert isinstance(self._last, torch.cuda.Event)
            self._events.append((name, self._last, now))
        else:
            assert isinstance(self._last, float)
            self._host[name] = self._host.get(name, 0.0) + now - self._last
        self._last = now

    def read(self) -> dict[str, float]:
        """Seconds by name since the last reading."""
        seconds, self._host = self._host, {}
        if self._events:
            self._events[-1][2].synchronize()
        for name, start, end in self._events:
            seconds[name] = seconds.get(name, 0.0) + start.elapsed_time(end) / 1000
        self._events.clear()
        return seconds

    def _now(self) -> "float | torch.cuda.Event":
        if not self._on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event
