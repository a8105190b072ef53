"""The plan against a real `fit`: peak of the allocator's own account, within 15 %."""

import pytest
from support.command_line import build
from support.measured_fit import measured_peak, plan_arguments, write_case

from lit_longpo.planning.command import plan_for

SMALL = {
    "everything": {"tokens": 600},
    "recomputed": {"tokens": 600, "checkpointing": True},
    "attention kept": {"tokens": 600, "checkpointing": "keep_attention"},
}
LARGE = {
    "adapters": {"tokens": 600, "lora": True, "checkpointing": True},
    "2K": {"tokens": 2000, "hidden": 256, "layers": 4, "vocab": 8000},
    "2K, recomputed": {"tokens": 2000, "hidden": 256, "layers": 4, "vocab": 8000, "checkpointing": True},
    "2K, adapters": {"tokens": 2000, "hidden": 256, "layers": 4, "vocab": 8000, "lora": True},
    "2K, attention kept": {
        "tokens": 2000,
        "hidden": 256,
        "layers": 4,
        "vocab": 8000,
        "checkpointing": "keep_attention",
    },
    "4K, recomputed": {"tokens": 4000, "hidden": 256, "layers": 4, "vocab": 8000, "checkpointing": True},
    "2K, cached reference": {"tokens": 2000, "hidden": 256, "layers": 2, "objective": "DPO"},
    "1K, accumulated": {"tokens": 1000, "hidden": 256, "layers": 4, "accumulate": 2, "checkpointing": True},
}


def compare(folder, sizes):
    """Predicted over measured."""
    arguments = write_case(folder, **sizes)
    made = plan_for(plan_arguments(arguments))
    cli = build(*arguments)
    measured = measured_peak(cli, sizes["tokens"])
    assert cli.trainer.global_step >= 3
    return made.memory[made.mode].peak / measured


@pytest.fixture(autouse=True)
def _no_arguments_of_pytest(monkeypatch):
    monkeypatch.setattr("sys.argv", ["lit_longpo"])


@pytest.mark.parametrize("case", SMALL)
def test_small_runs(case, tmp_path):
    assert compare(tmp_path, SMALL[case]) == pytest.approx(1.0, abs=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("case", LARGE)
def test_larger_runs(case, tmp_path):
    assert compare(tmp_path, LARGE[case]) == pytest.approx(1.0, abs=0.15)
