"""Optimizers tried on fake parameters."""

import pytest
import torch

from lit_longpo.errors import InputError
from lit_longpo.optimization import FusedAdamW
from lit_longpo.optimization.state_bytes import optimizer_bytes


@pytest.mark.parametrize(
    ("optimizer", "per_parameter"), [(FusedAdamW, 8), (torch.optim.SGD, 0), (torch.optim.RMSprop, 4)]
)
def test_optimizer_states_are_measured(optimizer, per_parameter):
    assert optimizer_bytes(optimizer, torch.float32).states == pytest.approx(per_parameter, abs=0.01)
    assert optimizer_bytes(optimizer, torch.bfloat16).states == pytest.approx(per_parameter / 2, abs=0.01)


class ReadsMemory(torch.optim.AdamW):
    """As a compiled step does, which a fake tensor's memory would end with a segmentation fault."""

    def step(self, closure=None):
        assert all(parameter.data_ptr() for group in self.param_groups for parameter in group["params"])
        return super().step(closure)


def test_an_optimizer_that_reads_memory_itself_is_tried_on_real_tensors():
    found, expected = (optimizer_bytes(kind, torch.float32) for kind in (ReadsMemory, torch.optim.AdamW))
    assert found == expected
    assert found.states == pytest.approx(8, abs=0.01)


def test_a_history_that_grows_is_refused():
    with pytest.raises(InputError, match="LBFGS, whose history grows to 100"):
        optimizer_bytes(torch.optim.LBFGS, torch.float32)
