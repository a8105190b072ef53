"""The table of states, strategy by strategy, and optimizers tried on a fake parameter."""

from functools import partial
from itertools import chain

import pytest
import torch
from support.tiny_models import tiny_config
from torch import nn
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM

from lit_longpo.errors import InputError
from lit_longpo.optimization import FusedAdamW
from lit_longpo.planning.memory import states
from lit_longpo.planning.model import ModelPlan, count, optimizer_bytes, optimizer_states
from lit_longpo.planning.sharding import Sharding
from lit_longpo.policy import LoRA, PolicyConfig, Quantization
from lit_longpo.policy.weights.quantization import quantization_state

SIZES = count(ModelPlan(tiny_config("Llama"), torch.bfloat16))
NUMBER = SIZES.total
REFUSED = ("SparseAdam", "LBFGS")


@pytest.mark.parametrize(
    ("optimizer", "per_parameter"), [(FusedAdamW, 8), (torch.optim.SGD, 0), (torch.optim.RMSprop, 4)]
)
def test_optimizer_states_are_measured(optimizer, per_parameter):
    assert optimizer_bytes(optimizer, torch.float32).states == pytest.approx(per_parameter, abs=0.01)
    assert optimizer_bytes(optimizer, torch.bfloat16).states == pytest.approx(per_parameter / 2, abs=0.01)


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


def test_a_history_that_grows_is_refused():
    with pytest.raises(InputError, match="LBFGS, whose history grows to 100"):
        optimizer_bytes(torch.optim.LBFGS, torch.float32)


@pytest.mark.parametrize(
    ("sharding", "parameters", "gradients", "optimizer"),
    [
        (Sharding("single"), 2, 2, 4),
        (Sharding("ddp", 4), 2, 2, 4),
        (Sharding("fsdp2", 4), 2 / 4, 2 / 4, 4 / 4),
        (Sharding("zero", 4, stage=1), 2, 2, 12 / 4),
        (Sharding("zero", 4, stage=2), 2, 2 / 4, 12 / 4),
        (Sharding("zero", 4, stage=3), 2 / 4, 2 / 4, 12 / 4),
        (Sharding("zero", 4, stage=3, offload_optimizer=True), 2 / 4, 2 / 4, 0),
        (Sharding("zero", 4, stage=3, offload_parameters=True), 0, 2 / 4, 12 / 4),
    ],
)
def test_bytes_per_parameter_in_bf16(sharding, parameters, gradients, optimizer):
    found = states(SIZES, sharding, FusedAdamW)
    assert found.parameters == pytest.approx(parameters * NUMBER, rel=1e-3)
    assert found.gradients == pytest.approx(gradients * NUMBER, rel=1e-3)
    assert found.optimizer == pytest.approx(optimizer * NUMBER, rel=1e-3)
    assert (found.host > 0) == (sharding.offload_optimizer or sharding.offload_parameters)


def test_ddp_copies_gradients_into_buckets():
    assert states(SIZES, Sharding("ddp", 2), FusedAdamW).buffers == SIZES.trained_bytes


def test_adapters_are_all_that_is_trained():
    """peft holds adapters in fp32 beside bf16 weights, unless a plugin casts the whole model."""
    adapted = count(ModelPlan(tiny_config("Llama"), torch.bfloat16, LoRA(r=4)))
    assert set(adapted.trained) == {torch.float32}
    converted = count(ModelPlan(tiny_config("Llama"), torch.bfloat16, LoRA(r=4), converted=True))
    assert set(converted.trained) == {torch.bfloat16}
    assert adapted.untied_head_bytes == 0
    assert adapted.num_trained == converted.num_trained == adapted.total - NUMBER


@pytest.mark.parametrize("quantization", [Quantization(), Quantization("fp4", double=False)])
def test_4_bit_weights_take_what_bitsandbytes_takes(quantization, tmp_path):
    """A model wide enough that the 16 values and the settings of each map are little."""
    pytest.importorskip("bitsandbytes")
    config = tiny_config("Llama", hidden_size=256, intermediate_size=512)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    model = PolicyConfig(source=str(tmp_path), dtype="bfloat16", quantization=quantization).load_base()
    states_of = [quantization_state(parameter).values() for parameter in model.parameters()]
    held = sum(tensor.nbytes for tensor in chain(model.parameters(), *states_of))
    planned = count(ModelPlan(config, torch.bfloat16, LoRA(r=4), quantization=quantization, converted=True))
    assert planned.total_bytes - planned.trained_bytes == pytest.approx(held, rel=0.03)
    assert planned.dequantized_bytes == 2 * 256 * 512
    whole = count(ModelPlan(config, torch.bfloat16, LoRA(r=4), converted=True))
    assert (whole.total, whole.frozen_linear) == (planned.total, planned.frozen_linear)
    assert states(planned, Sharding("ddp", 2), FusedAdamW).parameters == planned.total_bytes < 0.4 * whole.total_bytes
