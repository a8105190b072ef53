"""Two and four real processes train like one: same global batch, uneven shares, clipping on."""

from pathlib import Path

import pytest
import torch
from support.parallel_worker import CLIP, DEVICES, OBJECTIVES, objectives, train_all
from support.ranks import run_ranks
from support.zero3 import needs_deepspeed


def run(strategy, model, folder):
    """Results by objective."""
    out = folder / f"{strategy}.pt"
    run_ranks(train_all, strategy, str(model), out, num_ranks=DEVICES.get(strategy, 2))
    found = (Path(f"{out}.{name}") for name in OBJECTIVES)
    return {path.suffix[1:]: torch.load(path, weights_only=True) for path in found if path.exists()}


@pytest.fixture(scope="module")
def single(policy_folder, tmp_path_factory):
    return run("single", policy_folder, tmp_path_factory.mktemp("single"))


@pytest.mark.parametrize(
    "strategy",
    [
        pytest.param("ddp", marks=pytest.mark.slow),  # by default in test_accumulation.py
        "fsdp2",
        *[pytest.param(f"zero{kind}", marks=[needs_deepspeed, pytest.mark.slow]) for kind in ("1", "2")],
        pytest.param("zero3", marks=needs_deepspeed),
        pytest.param("zero3_offload", marks=[needs_deepspeed, pytest.mark.slow]),
        "ulysses",
        pytest.param("ulysses_twice", marks=pytest.mark.slow),
        pytest.param("ulysses_zero2", marks=[needs_deepspeed, pytest.mark.slow]),
        pytest.param("ulysses_zero3", marks=[needs_deepspeed, pytest.mark.slow]),
    ],
)
def test_losses_gradients_weights_and_answers_equal_one_process(strategy, single, policy_folder, tmp_path):
    results = run(strategy, policy_folder, tmp_path)
    assert list(results) == objectives(strategy)
    assert {"solopo", "longpo", "logo"} <= results.keys()
    for name, actual in results.items():
        expected = single[name]
        assert len(expected["losses"]) == 3
        assert expected["losses"][0] != pytest.approx(expected["losses"][-1], rel=1e-3)
        assert actual["losses"] == pytest.approx(expected["losses"], rel=1e-4)
        assert actual["losses"][0] == pytest.approx(expected["losses"][0], rel=1e-5)
        for seen, wanted in zip(actual["metrics"], expected["metrics"], strict=True):
            assert wanted
            assert seen == pytest.approx(wanted, rel=1e-3, abs=1e-5)
        assert expected["gradient_norm"] > CLIP
        assert actual["partitioned"]
        assert actual["answers"] == expected["answers"]
        if strategy.startswith("ulysses") and strategy != "ulysses_twice":  # all ranks share all rows
            assert actual["step_tokens"] == pytest.approx(expected["step_tokens"], rel=1e-3)
        assert_gradients_equal(actual["gradients"], expected["gradients"])
        assert actual["weights"].keys() == expected["weights"].keys()
        for key, weight in expected["weights"].items():
            torch.testing.assert_close(actual["weights"][key], weight, rtol=1e-4, atol=1e-5)


def assert_gradients_equal(actual, expected):
    """To 1e-5 of the largest one."""
    largest = max(float(value.abs().max()) for value in expected.values())
    assert largest > 1e-3
    assert actual.keys() == expected.keys()
    for key, value in expected.items():
        assert float((actual[key] - value).abs().max()) < 1e-5 * largest, key
