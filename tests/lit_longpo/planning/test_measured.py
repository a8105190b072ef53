"""The plan against a real `fit`: peak of the allocator's own account, within 15 %."""

import pytest
from support.command_line import build
from support.measured_fit import STRATEGIES, measured_in_ranks, measured_peak, plan_arguments, write_case
from support.ranks import run_ranks

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


@pytest.mark.parametrize("case", SMALL)
@pytest.mark.slow
def test_small_runs(case, tmp_path):
    assert compare(tmp_path, SMALL[case]) == pytest.approx(1.0, abs=0.15)


def compare_ranks(folder, strategy, **sizes):
    """Predicted over measured, of the first of two ranks."""
    if strategy.startswith("zero"):
        pytest.importorskip("deepspeed", reason='needs pip install "lit_longpo[deepspeed]"')
    arguments = write_case(folder, strategy=strategy, tokens=600, **sizes)
    made = plan_for(plan_arguments(arguments))
    run_ranks(measured_in_ranks, arguments, 600, folder / "peak")
    steps, measured = (folder / "peak").read_text().split()
    assert steps == "3"
    return made.memory[made.mode].peak / int(measured)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_one_of_two_ranks(strategy, tmp_path):
    assert compare_ranks(tmp_path, strategy) == pytest.approx(1.0, abs=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_one_of_two_ranks_whose_weights_matter(strategy, tmp_path):
    sizes = {"hidden": 256, "layers": 6, "vocab": 8000, "checkpointing": True}
    assert compare_ranks(tmp_path, strategy, **sizes) == pytest.approx(1.0, abs=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("case", LARGE)
def test_larger_runs(case, tmp_path):
    assert compare(tmp_path, LARGE[case]) == pytest.approx(1.0, abs=0.15)
