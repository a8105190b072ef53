"""What is said about a policy at the start, and by which process."""

from types import SimpleNamespace

import pytest
import torch

from lit_longpo.training.start import say_precision, say_steps


def test_states_of_fewer_bits_are_said_by_one_process(caplog, monkeypatch):
    monkeypatch.setattr("lit_longpo.training.start.in_words", lambda _: "states of 8 bits")
    caplog.set_level("INFO")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))])
    say_precision(optimizer, SimpleNamespace(is_global_zero=False))
    assert not caplog.text
    say_precision(optimizer, SimpleNamespace(is_global_zero=True))
    assert "states of 8 bits" in caplog.text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, "2 optimizer steps in all, which change little; type --trainer.accumulate_grad_batches 1 (a step has 8"),
        ({"accumulate_grad_batches": 1}, "which change little; type --trainer.max_epochs 3"),
        ({"max_steps": 2}, ""),  # wanted
        ({"max_steps": 50}, "`trainer.max_steps: 50` is not reached: the training ends with `trainer.max_epochs: 1`, "),
        ({"limit_train_batches": 16}, ""),
        ({"limit_train_batches": 16, "max_steps": 16, "fast_dev_run": 16}, ""),
        ({"is_global_zero": False}, ""),
    ],
)
def test_few_steps_are_said_where_nobody_wants_so_few(change, said, caplog):
    trainer = {"max_steps": -1, "max_epochs": 1, "accumulate_grad_batches": 8, "limit_train_batches": 1.0}
    trainer["fast_dev_run"] = False
    say_steps(SimpleNamespace(**{**trainer, "is_global_zero": True, **change}), 2)
    assert said in caplog.text
    assert bool(said) == bool(caplog.text)
    caplog.clear()
    say_steps(SimpleNamespace(**trainer, is_global_zero=True), 10)
    assert not caplog.text
