"""Returns memory that a training on CPUs has freed to the system."""

import ctypes
import os
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

_STATM = Path("/proc/self/statm")
_GROWTH = 1.25


class HostMemory(Callback):
    """Gives back what the C library holds of freed memory, when the process has grown by a quarter of a step's size.

    glibc serves tensors of up to 32 MiB from its heap as soon as one of that size has been freed (its threshold for
    pages of their own follows what is freed). Rows differ in size, so holes fit no longer, and the heap grows at a
    constant number of tokens. `malloc_trim` gives the holes' pages back; the next step pays for new ones, about a
    sixth of its time, which is why it is called on growth only. On GPUs and without glibc nothing is done.

    MALLOC_MMAP_THRESHOLD_=1048576 before the command keeps tensors out of the heap altogether: half of the peak, at
    two fifths more time on 2 CPU cores.
    """

    def __init__(self) -> None:
        self._usual: int | None = None  # bytes after a step
        self._step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The first step will say what is usual."""
        self._usual, self._step = None, trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """After an optimizer step on a CPU, look."""
        if pl_module.device.type != "cpu" or trainer.global_step == self._step:
            return
        self._step = trainer.global_step
        now = resident_bytes()
        if now is None:
            return
        if self._usual is None:
            self._usual = now
        elif now > _GROWTH * self._usual:
            release_free_memory()
            self._usual = None  # as the next step will be: it may have longer rows


def resident_bytes() -> int | None:
    """Bytes that this process holds in memory; `None` where the system does not say."""
    try:
        pages = _STATM.read_text().split()[1]
    except OSError:  # not on Linux
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def release_free_memory() -> None:
    """Give whole pages of freed memory back to the system, wherever they lie in the heap; glibc can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
