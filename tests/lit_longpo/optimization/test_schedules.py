"""Shapes of the learning rate against transformers'."""

import pytest
import torch
from transformers.optimization import get_scheduler

from lit_longpo.optimization.schedules import build_schedule, steps_of, stretch_schedule

PEAK = 3e-4


def rates(build, num_steps):
    """Of a fit and a few steps beyond it, as a run with more epochs than it was told would take."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    schedule, seen = build(optimizer), []
    for _ in range(num_steps + 3):
        seen.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return seen, schedule.state_dict()


@pytest.mark.parametrize("warmup", [0, 1, 7])
@pytest.mark.parametrize(
    ("shape", "floor", "name", "options"),
    [
        ("constant", 0.0, "constant_with_warmup", None),
        ("linear", 0.0, "linear", None),
        ("cosine", 0.0, "cosine", None),
        ("cosine", 0.1, "cosine_with_min_lr", {"min_lr_rate": 0.1}),
        ("linear", 0.1, "polynomial", {"power": 1.0, "lr_end": 0.1 * PEAK}),
    ],
)
def test_rates_and_state_are_those_of_transformers(shape, floor, name, options, warmup):
    actual, state = rates(lambda optimizer: build_schedule(optimizer, shape, warmup, 23, floor), 23)
    expected, their_state = rates(
        lambda optimizer: get_scheduler(name, optimizer, warmup, 23, scheduler_specific_kwargs=options), 23
    )
    assert actual[:24] == pytest.approx(expected[:24], rel=1e-12, abs=1e-18)
    assert actual[24:] == pytest.approx([actual[23]] * 2, rel=1e-12)  # theirs rise again behind the end of a cosine
    assert state.keys() == their_state.keys()
    assert state["lr_lambdas"] == their_state["lr_lambdas"]


def test_a_schedule_of_other_length_is_the_one_that_was_begun_with_it():
    """From where it stands, with the rate of the next step."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    schedule = build_schedule(optimizer, "cosine", 2, 23, 0.1)
    for _ in range(9):
        optimizer.step()
        schedule.step()
    stretch_schedule(schedule, 30, 3)
    assert steps_of(schedule) == 30
    expected, _ = rates(lambda optimizer: build_schedule(optimizer, "cosine", 3, 30, 0.1), 30)
    for step in range(9, 33):
        assert optimizer.param_groups[0]["lr"] == schedule.get_last_lr()[0] == pytest.approx(expected[step], rel=1e-12)
        optimizer.step()
        schedule.step()
    assert steps_of(torch.optim.lr_scheduler.StepLR(optimizer, 3)) is None


@pytest.mark.parametrize("shape", ["linear", "cosine"])
def test_a_fit_that_is_all_warm_up_has_a_rate_after_it(shape):
    actual, _ = rates(lambda optimizer: build_schedule(optimizer, shape, 4, 4, 0.1), 4)
    assert actual == pytest.approx([0.0, PEAK / 4, PEAK / 2, 3 * PEAK / 4, PEAK, PEAK / 10, *actual[6:]])
