"""Counted FLOPs against torch's own counter, and windows against a loop."""

from collections import Counter

import pytest
import torch
from support.tiny_models import tiny_config, tiny_model
from torch.utils.flop_counter import FlopCounterMode

from lit_longpo.engine import score
from lit_longpo.objectives import DPO
from lit_longpo.planning.flops import attention_flops, pairs, row_flops
from lit_longpo.planning.inputs.row import RowPlan
from lit_longpo.planning.sizes import count
from lit_longpo.planning.tracing.model import ModelPlan
from lit_longpo.policy.checkpointing import enable_checkpointing

ROW = RowPlan(DPO().views, 1, 100, 8, 12).policy_row()


def counted(counter):
    """Without attention, and without rotary angles, which transformers 5.17 computes by a product and 5.23 does not."""
    by_module = counter.get_flop_counts()
    rotary = [name for name in by_module if name.endswith(".rotary_emb")]
    assert len(rotary) <= 1  # one for all layers
    products = Counter(by_module["Global"])
    for name in rotary:
        products.subtract(by_module[name])
    return sum(number for operation, number in products.items() if "attention" not in str(operation))


@pytest.mark.parametrize("checkpointing", [False, True, "keep_attention"])
def test_linear_maps_and_head_agree_with_torch(checkpointing):
    """The head is one tile here, which waits for backward."""
    model = tiny_model("Llama")
    if checkpointing:
        enable_checkpointing(model, checkpointing)
    with FlopCounterMode(display=False) as counter:
        score(model, ROW).sums.sum().backward()
    config = tiny_config("Llama")
    flops = row_flops(config, count(ModelPlan(config, torch.float32)), ROW, checkpointing=checkpointing)
    # Torch's counter knows neither attention on a CPU nor sums in place: the head's weight gradient.
    ours = flops.hardware - (4.5 if checkpointing is True else 3.5) * attention_flops(config, ROW.table)
    ours -= 2 * len(ROW.score_targets) * model.lm_head.weight.numel()
    if checkpointing:  # stops before each layer's last map, whose result nobody needs
        ours -= sum(2 * ROW.num_tokens * layer.mlp.down_proj.weight.numel() for layer in model.model.layers)
    assert ours == counted(counter)


@pytest.mark.parametrize("name", ["Llama", "Gemma2"])
def test_tiles_of_logits_are_computed_again_but_the_last(name, monkeypatch):
    """All of them under Gemma's soft-cap. A tile has 4 tokens here."""
    config = tiny_config(name)
    monkeypatch.setattr("lit_longpo.engine.log_probs.TILE_BYTES", 4 * 4 * config.vocab_size)
    sizes, scored = count(ModelPlan(config, torch.float32)), len(ROW.score_targets)
    flops = row_flops(config, sizes, ROW, checkpointing=False)
    again = scored if name == "Gemma2" else (scored - 1) // 4 * 4
    assert flops.hardware - flops.model - 0.5 * attention_flops(config, ROW.table) == 2 * again * sizes.head_weights


@pytest.mark.parametrize("name", ["Mixtral", "GptOss"])
def test_a_token_meets_only_the_experts_it_is_sent_to(name):
    model = tiny_model(name)
    model.set_experts_implementation("eager")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        score(model, ROW)
    config = tiny_config(name)
    flops = row_flops(config, count(ModelPlan(config, torch.float32)), ROW, checkpointing=False)
    assert flops.forward - attention_flops(config, ROW.table) == counted(counter)


@pytest.mark.parametrize(("queries", "keys", "window"), [(5, 9, 3), (5, 5, 3), (4, 10, None), (5, 9, 6), (7, 9, 4)])
def test_pairs_equal_a_loop(queries, keys, window):
    expected = sum(min(keys - queries + 1 + number, window or keys) for number in range(queries))
    assert pairs(queries, keys, window) == expected


def test_frozen_weights_need_no_gradient():
    from lit_longpo.policy.loading import LoRA

    config = tiny_config("Llama")
    full, lora = (count(ModelPlan(config, torch.float32, adapters)) for adapters in (None, LoRA(r=2)))
    assert lora.num_trained < 0.2 * full.num_trained
    trained, adapted = (row_flops(config, sizes, ROW, checkpointing=False) for sizes in (full, lora))
    assert adapted.model < 0.9 * trained.model
