"""States of whole models' optimizers, beside what a real step leaves."""

from functools import partial

import pytest
import torch
from support.tiny_models import tiny_config
from torch import nn
from torch.utils._pytree import tree_leaves

from lit_longpo.errors import InputError
from lit_longpo.planning.optimizer_states import optimizer_states
from lit_longpo.planning.sizes import count
from lit_longpo.planning.tracing.model import ModelPlan
from lit_longpo.policy import LoRA

REFUSED = ("SparseAdam", "LBFGS")


TORCHS = [kind for kind in vars(torch.optim).values() if isinstance(kind, type) and kind is not torch.optim.Optimizer]
TORCHS = [kind for kind in TORCHS if issubclass(kind, torch.optim.Optimizer) and kind.__name__ not in REFUSED]


@pytest.mark.parametrize("kind", TORCHS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("lora", [None, LoRA(r=4)])
def test_states_of_torchs_optimizers_are_those_that_a_real_step_makes(kind, lora):
    """Of a matrix Adafactor keeps a row and a column; Muon takes matrices alone, as adapters are."""
    plan = ModelPlan(tiny_config("Llama"), torch.float32, lora)
    parameters = [parameter for parameter in plan.build().parameters() if parameter.requires_grad]
    if kind is torch.optim.Muon and lora is None:
        with pytest.raises(InputError, match=r"takes every trained parameter.*`policy.lora`"):
            optimizer_states(count(plan), kind)
        return
    counted = optimizer_states(count(plan), partial(kind, lr=1e-3))
    assert counted.states == pytest.approx(held_after_a_step(kind, parameters), abs=12 * len(parameters))
    one_at_a_time = kind in (torch.optim.Adafactor, torch.optim.Muon)
    assert not one_at_a_time or counted.borrowed < 4 * 4 * max(parameter.numel() for parameter in parameters)


def held_after_a_step(kind, parameters):
    """Bytes of the states, but for counts of steps."""
    parameters = [nn.Parameter(torch.ones(parameter.shape)) for parameter in parameters]
    optimizer = kind(parameters, lr=1e-3)
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return sum(value.nbytes for value in tree_leaves(dict(optimizer.state)) if getattr(value, "ndim", 0))
