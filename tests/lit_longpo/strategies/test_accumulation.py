"""An optimizer step is the mean over its examples, whatever the rows and the ranks that hold them."""

import pytest
import torch
from support import accumulation_worker as worker
from support.ranks import run_ranks
from support.zero3 import needs_deepspeed

from lit_longpo.engine import score
from lit_longpo.objectives import ORPO
from lit_longpo.policy import PolicyConfig


def windows(strategy):
    """Numbers of the examples in every step of two epochs."""
    rows = list(zip(*worker.examples(worker.num_ranks(strategy)), strict=True))
    starts = range(0, len(rows), worker.ACCUMULATE)
    return [rows[start : start + worker.ACCUMULATE] for start in starts] * 2


def plainly(folder, steps):
    """Plain torch: one row with all examples of a step, its mean loss, one step."""
    module = ORPO(policy=PolicyConfig(source=folder))
    module.configure_model()
    for window in steps:
        numbers = [number for rows in window for numbers in rows for number in numbers]
        losses, metrics = module.loss(score(module.model, worker.row(numbers, module.views).policy), None)
        module.model.zero_grad()
        losses.mean().backward()
        norm = torch.nn.utils.clip_grad_norm_(module.model.parameters(), worker.CLIP)
        with torch.no_grad():
            for parameter in module.model.parameters():
                parameter -= worker.RATE * parameter.grad
        means = {f"train/{name}": float(value.mean()) for name, value in {"loss": losses, **metrics}.items()}
        yield {name: value.detach().clone() for name, value in module.model.state_dict().items()}, means, float(norm)


@pytest.mark.parametrize(
    "strategy",
    [
        *("single", "ddp", "fsdp2"),
        *(pytest.param(f"zero{stage}", marks=[needs_deepspeed, pytest.mark.slow]) for stage in (1, 2)),
        pytest.param("zero3", marks=needs_deepspeed),
        *(pytest.param(f"zero{stage}_offload", marks=[needs_deepspeed, pytest.mark.slow]) for stage in (1, 2, 3)),
    ],
)
def test_accumulated_steps_equal_one_row_with_all_their_examples(strategy, policy_folder, tmp_path):
    run_ranks(worker.train, strategy, str(policy_folder), tmp_path / "out", num_ranks=worker.num_ranks(strategy))
    weights, metrics, rates = torch.load(tmp_path / "out", weights_only=True)
    expected = list(plainly(str(policy_folder), windows(strategy)))
    assert len(weights) == len(metrics) == len(expected) == 4
    assert rates == [worker.RATE] * 4
    assert any(norm > worker.CLIP for _, _, norm in expected)
    for actual, seen, (wanted, means, norm) in zip(weights, metrics, expected, strict=True):
        logged = {**means, "train/learning_rate": worker.RATE, "train/gradient_norm": norm}
        assert seen == pytest.approx(logged, rel=1e-4, abs=1e-5)
        for name, weight in wanted.items():
            torch.testing.assert_close(actual[name], weight, rtol=0.0, atol=1e-6, msg=name)
