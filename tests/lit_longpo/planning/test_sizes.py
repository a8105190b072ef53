"""What is trained and what is held, beside models that are really there."""

from itertools import chain

import pytest
import torch
from support.tiny_models import tiny_config
from transformers import AutoModelForCausalLM

from lit_longpo.optimization import FusedAdamW
from lit_longpo.planning.inputs.sharding import Sharding
from lit_longpo.planning.memory import states
from lit_longpo.planning.sizes import count
from lit_longpo.planning.tracing.model import ModelPlan
from lit_longpo.policy import LoRA, PolicyConfig, Quantization
from lit_longpo.policy.weights.quantization import quantization_state


def test_adapters_are_all_that_is_trained():
    """peft holds adapters in fp32 beside bf16 weights, unless a plugin casts the whole model."""
    adapted = count(ModelPlan(tiny_config("Llama"), torch.bfloat16, LoRA(r=4)))
    assert set(adapted.trained) == {torch.float32}
    whole = count(ModelPlan(tiny_config("Llama"), torch.bfloat16))
    converted = count(ModelPlan(tiny_config("Llama"), torch.bfloat16, LoRA(r=4), converted=True))
    assert set(converted.trained) == {torch.bfloat16}
    assert adapted.untied_head_bytes == 0
    assert adapted.num_trained == converted.num_trained == adapted.total - whole.total


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


def test_experts_that_are_chosen_by_layer_are_counted_as_one_number_for_all():
    """Hunyuan-A13B's files say both in lists, which ended `fit` and `plan` in a TypeError."""
    one, each = (
        count(ModelPlan(tiny_config("HunYuanMoEV1", head_dim=8, num_experts=4, moe_topk=chosen), torch.float32))
        for chosen in (2, [2, 2])
    )
    assert each == one
