"""What a measurement was taken on."""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from evaluation.running.facts import commit


def describe() -> dict[str, Any]:
    """Commit, processor, cores, threads, versions."""
    return {
        "commit": commit(),
        "processor": _processor(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": version("transformers"),
    }


def _processor() -> str:
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    model = names[0].partition(":")[2].strip() if names else platform.processor()
    return f"{model} ({torch.backends.cpu.get_cpu_capability()})"
