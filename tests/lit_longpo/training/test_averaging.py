"""Means over examples: against one mean over everything, in one process and in several."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier
from types import SimpleNamespace

import pytest
import torch
from support import validation_worker as worker
from support.ranks import run_ranks
from torch import nn

from lit_longpo.training.averaging import ExampleMeans, StepMean

ROWS = [[3.0], [1.0, 5.0, 9.0], [2.0, 4.0]]


def alone(value, reduce_op):
    return value


def test_every_example_counts_the_same():
    means = ExampleMeans()
    for row in ROWS:
        means.add({"loss": torch.tensor(row), "nll": -torch.tensor(row)})
    means.add({"loss": torch.tensor([float("nan")]), "nll": torch.zeros(1)}, counted=False)
    found, examples = means.over_all_ranks(alone)
    assert {name: float(value) for name, value in found.items()} == {"loss": 4.0, "nll": -4.0}
    assert float(examples) == 6.0


def test_means_of_each_source_are_over_its_examples_alone():
    """3 | 1 5 9 | 2 4: the first, third and last are of one source; another's infinity is not in its mean."""
    means = ExampleMeans()
    for row, mask in zip(ROWS, ([1.0], [0.0, 1.0, 0.0], [0.0, 1.0]), strict=True):
        of_a = torch.tensor(mask)
        values = torch.where(of_a > 0, torch.tensor(row), float("inf"))
        sources = {"a": of_a, "b": 1 - of_a}
        means.add({"loss": torch.tensor(row), "nll": values}, sources=sources)
    means.add(
        {"loss": torch.ones(1), "nll": torch.ones(1)}, counted=False, sources={"a": torch.ones(1), "b": torch.zeros(1)}
    )
    found, examples = means.over_all_ranks(alone)
    assert {name: float(found[name]) for name in ("loss", "a/loss", "b/loss", "a/nll")} == {
        "loss": 4.0, "a/loss": 4.0, "b/loss": 4.0, "a/nll": 4.0
    }  # fmt: skip
    assert list(found) == ["loss", "nll", "a/loss", "a/nll", "b/loss", "b/nll"]
    assert float(examples) == 6.0


def test_a_source_without_an_example_has_no_means():
    means = ExampleMeans()
    means.add({"loss": torch.tensor([3.0])}, sources={"a": torch.ones(1), "b": torch.zeros(1)})
    found, _ = means.over_all_ranks(alone)
    assert {name: float(value) for name, value in found.items()} == {"loss": 3.0, "a/loss": 3.0}


class ThreadRanks:
    """`Strategy.reduce` between threads; like torch's collectives it overwrites what it is given."""

    def __init__(self, size):
        self.barrier, self.values = Barrier(size), [None] * size

    def reduce(self, rank, tensor, reduce_op):
        self.values[rank] = tensor.clone()
        self.barrier.wait()
        total = torch.stack(self.values).sum(0)
        self.barrier.wait()
        return tensor.copy_(total / len(self.values) if reduce_op == "mean" else total)


def test_every_example_counts_the_same_however_ranks_are_filled():
    """3, then 2 4 on one rank, 1 5, then 9 on the other: mean 9 / 3, then 24 / 6; asking keeps a rank's own sums."""
    ranks = ThreadRanks(2)

    def rank(number):
        means, answers = ExampleMeans(), []
        for row in ([[3.0], [2.0, 4.0]], [[1.0, 5.0], [9.0]])[number]:
            means.add({"loss": torch.tensor(row), "nll": -torch.tensor(row)})
            answers.append(means.over_all_ranks(partial(ranks.reduce, number)))
        return answers

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(rank, range(2)))
    for (first, few), (both, all_of_them) in results:
        assert {name: float(value) for name, value in first.items()} == {"loss": 3.0, "nll": -3.0}
        assert {name: float(value) for name, value in both.items()} == {"loss": 4.0, "nll": -4.0}
        assert (float(few), float(all_of_them)) == (1.5, 3.0)


def test_many_rows_lose_nothing_to_rounding():
    means = ExampleMeans()
    for _ in range(2_000):
        means.add({"loss": torch.tensor([0.1])})
    assert float(means.over_all_ranks(alone)[0]["loss"]) == pytest.approx(0.1, rel=1e-7)


@pytest.mark.parametrize(("rows", "accumulate", "mean"), [(ROWS, 3, 4.0), (ROWS, 8, 4.0), (ROWS[1:2], 1, 5.0)])
def test_a_steps_gradient_is_the_mean_over_its_examples(rows, accumulate, mean):
    """Also of a step that the end of an epoch has cut short; Lightning divides every row's loss by the same number."""
    model, step = nn.Linear(1, 1, bias=False), StepMean()
    for row in rows:
        trainer = SimpleNamespace(
            accumulate_grad_batches=accumulate,
            strategy=SimpleNamespace(reduce=alone),
            fit_loop=SimpleNamespace(_should_accumulate=lambda row=row: row is not rows[-1]),
        )
        loss, means = step.add({"loss": model(torch.tensor(row)[:, None])[:, 0]}, trainer)
        (loss / accumulate).backward()
        step.correct_gradients(trainer, model)
        assert bool(means) == (row is rows[-1])
    assert float(model.weight.grad) == pytest.approx(mean)
    assert float(means["loss"]) == pytest.approx(mean * float(model.weight))


@pytest.fixture(scope="module")
def alone_on_everything(tmp_path_factory):
    out = tmp_path_factory.mktemp("alone") / "out"
    run_ranks(worker.main, 1, out, num_ranks=1)
    return torch.load(out, weights_only=True)


@pytest.mark.parametrize("ranks", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_several_ranks_validate_and_test_like_one(ranks, alone_on_everything, tmp_path):
    run_ranks(worker.main, ranks, tmp_path / "out", num_ranks=ranks)
    found = torch.load(tmp_path / "out", weights_only=True)
    for split, (validated, tested), (alone_validated, alone_tested) in zip(
        worker.SPLITS, found, alone_on_everything, strict=True
    ):
        assert len(alone_validated) > 5
        assert validated == pytest.approx(alone_validated, rel=1e-5, abs=1e-6), split
        assert tested == pytest.approx(alone_tested, rel=1e-5, abs=1e-6), split
        assert tested["test/loss"] == pytest.approx(alone_validated["val/loss"], rel=1e-5)


def test_one_process_says_the_same_whatever_the_rows(alone_on_everything):
    (whole, _), *others = alone_on_everything[:3]
    for validated, _ in others:
        assert validated == pytest.approx(whole, rel=1e-5, abs=1e-6)
