"""One sequence at a time against the model's own logits, written without the engine."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from support.groups import random_groups
from support.parity import assert_parity
from support.tiny_hybrids import ALONE, SHARED, tiny_hybrid
from support.tiny_models import tiny_model

from lit_longpo.engine import UnsupportedModelError, pack, plan_scoring
from lit_longpo.engine.decoder import decoder_of
from lit_longpo.engine.scoring import row_log_probs
from lit_longpo.engine.sequential.sequences import score_sequentially
from lit_longpo.engine.ulysses import sequence_parallel
from lit_longpo.policy.checkpointing import enable_checkpointing

GROUPS = [(40, [5, 19, 1]), (23, [3]), (1, [2, 4])]
QUICK = {"GPTNeo", "StableLm", "RecurrentGemma"}
EVERY = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in ALONE]


@pytest.mark.parametrize("name", EVERY)
def test_models_that_cannot_be_packed(name):
    model = tiny_hybrid(name)
    plan = plan_scoring(model)
    assert plan.path == "sequential"
    assert_parity(model, random_groups(GROUPS))
    if plan.no_leaps is None:
        assert_parity(model, random_groups(GROUPS, jump=True))


@pytest.mark.parametrize("name", [*SHARED, "Llama"])
@pytest.mark.slow
def test_models_that_could_be_packed(name):
    model = tiny_model(name) if name == "Llama" else tiny_hybrid(name)
    score_sequentially(model)
    assert_parity(model, random_groups(GROUPS, jump=True))


@pytest.mark.parametrize("how", [True, pytest.param("keep_attention", marks=pytest.mark.slow)])
def test_with_checkpointed_layers_and_adapters(how):
    model = tiny_hybrid("StableLm")
    enable_checkpointing(model, how)
    model.enable_input_require_grads()
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)).train()
    assert plan_scoring(adapted).path == "sequential"
    assert_parity(adapted, random_groups(GROUPS))


def test_one_sequence_lives_at_a_time():
    """Several are recomputed in backward, each by itself; a single one is computed once."""
    model = tiny_model("Llama")
    score_sequentially(model)
    lengths = []
    decoder_of(model).register_forward_pre_hook(
        lambda module, args, options: lengths.append(options["input_ids"].shape[1]), with_kwargs=True
    )
    row_log_probs(model, pack(random_groups([(9, [4, 2]), (5, [3])]))).sum().backward()
    assert lengths == [13, 11, 8, 8, 11, 13]
    lengths.clear()
    row_log_probs(model, pack(random_groups([(9, [4])]))).sum().backward()
    assert lengths == [13]


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_angles_by_length_are_those_of_packed_rows(kind):
    """A short response beside a long one has that one's angles, whichever path scores it: one meaning for one cache."""
    kinds = {
        "dynamic": {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4},
        "longrope": {
            "rope_type": "longrope",
            "rope_theta": 1e4,
            "short_factor": [1.0] * 4,
            "long_factor": [4.0] * 4,
            "original_max_position_embeddings": 32,
        },
    }
    model = tiny_model("Llama", rope_parameters=kinds[kind], max_position_embeddings=32)
    row = pack(random_groups([(30, [1, 19]), (9, [2])]))
    packed = row_log_probs(model, row)
    score_sequentially(model)
    torch.testing.assert_close(row_log_probs(model, row), packed, rtol=1e-5, atol=1e-5)
    alone = row_log_probs(model, pack(random_groups([(30, [1])])))
    assert (alone - packed[:1]).abs() > 1e-4


def test_ranks_that_share_rows_are_refused(monkeypatch):
    model = tiny_model("Llama")
    score_sequentially(model)
    monkeypatch.setattr(sequence_parallel, "_ranks", sequence_parallel.SequenceRanks(2, 0))
    with pytest.raises(UnsupportedModelError, match="sequence_parallel: 1"):
        row_log_probs(model, pack(random_groups([(9, [3])])))
