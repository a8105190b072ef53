"""What a measurement was taken on."""

import os
import platform
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

_ROOT = Path(__file__).resolve().parents[2]


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


def commit() -> str:
    """Short hash of the checkout, or "unknown" outside of one or without git."""
    if shutil.which("git") is None:
        return "unknown"
    command = ["git", "-C", str(_ROOT), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def _processor() -> str:
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    model = names[0].partition(":")[2].strip() if names else platform.processor()
    return f"{model} ({torch.backends.cpu.get_cpu_capability()})"
