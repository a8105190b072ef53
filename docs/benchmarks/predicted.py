"""What `lit_longpo plan` says about a benchmark's setting; no GPU is needed for that."""

import tempfile
from pathlib import Path
from typing import Any

import yaml
from benchmarks.setting import Setting, save_policy

import data_modules  # noqa: F401  the command line finds its classes by name
from lit_longpo.planning.command import plan_for
from lit_longpo.planning.plan import Plan

GIB = 2**30


def predict(setting: Setting, device_gib: float = 78.0) -> dict[str, Any]:
    """Peak memory of a DPO step on one GPU, and the longest prompt that the plan lets it hold."""
    made = plan(setting, device_gib)
    peak = made.memory[made.mode]
    assert made.row.long_tokens == setting.prompt, made.row
    moments = {name: size / GIB for name, size in peak.moments.items()}
    return {
        "mode": made.mode,
        "peak_gib": peak.peak / GIB,
        "when": peak.when,
        "moments_gib": moments,
        "longest_prompt": made.longest_context[made.mode],
    }


def plan(setting: Setting, device_gib: float) -> Plan:
    """The whole plan."""
    with tempfile.TemporaryDirectory() as folder:
        save_policy(setting, Path(folder))
        (Path(folder) / "case.yaml").write_text(yaml.safe_dump(_case(setting, folder)))
        options = ["--response_tokens", str(max(setting.answers)), "--device_memory_gib", str(device_gib)]
        return plan_for(["--config", f"{folder}/case.yaml", *options])


def _case(setting: Setting, folder: str) -> dict[str, Any]:
    rate = {"class_path": "FusedAdamW", "init_args": {"lr": setting.lr}}
    return {
        "policy": {
            "source": folder,
            "weights": "random",
            "dtype": setting.dtype,
            "gradient_checkpointing": setting.checkpointing,
            "lora": {"r": setting.lora, "alpha": 2 * setting.lora} if setting.lora else None,
            "template": {"user": "{context} {question}", "chat": False},
        },
        "model": {"class_path": "DPO"},
        "optimization": {"optimizer": rate, "schedule": "constant", "warmup_fraction": 0.0},
        "data": {
            "class_path": "PreferenceDataModule",
            "init_args": {"path": "pairs.jsonl", "max_tokens": setting.prompt + sum(setting.answers)},
        },
        "trainer": {"accelerator": setting.accelerator, "devices": 1, "logger": False},
    }
