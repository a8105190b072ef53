"""What is said about a policy at the start, and by which process."""

from types import SimpleNamespace

import torch

from lit_longpo.training.start import say_precision


def test_states_of_fewer_bits_are_said_by_one_process(caplog, monkeypatch):
    monkeypatch.setattr("lit_longpo.training.start.in_words", lambda _: "states of 8 bits")
    caplog.set_level("INFO")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))])
    say_precision(optimizer, SimpleNamespace(is_global_zero=False))
    assert not caplog.text
    say_precision(optimizer, SimpleNamespace(is_global_zero=True))
    assert "states of 8 bits" in caplog.text
