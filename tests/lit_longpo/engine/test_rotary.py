"""RoPE whose frequencies depend on the length: every group gets those of its own longest sequence."""

import pytest
import torch
from support.groups import random_groups
from support.padded_rows import padded_log_probs
from support.tiny_models import ARCHITECTURES, tiny_model

from lit_longpo.engine import UnsupportedModelError, pack, plan_scoring
from lit_longpo.engine.rotary import depends_on_length
from lit_longpo.engine.scoring import row_log_probs

DYNAMIC = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0] * 4,
    "long_factor": [1.0, 2.0, 3.0, 4.0],
    "factor": 2.0,
}
KINDS = {"dynamic": DYNAMIC, "longrope": LONGROPE}
GROUPS = random_groups([(10, [3, 2]), (60, [4, 7, 2]), (45, [2, 5])])


def model(kind, trained_length=32):
    rope = {**KINDS[kind], "original_max_position_embeddings": trained_length}
    return tiny_model("Llama", max_position_embeddings=trained_length, rope_parameters=rope)


def padded(kind, group):
    """The rows of one group as one padded batch of a model that has seen nothing else."""
    return torch.cat(padded_log_probs(model(kind), [group]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_equals_one_padded_batch_for_each_group(kind):
    packed = row_log_probs(model(kind), pack(GROUPS))
    torch.testing.assert_close(packed, torch.cat([padded(kind, group) for group in GROUPS]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_too(kind):
    packed, separate = model(kind), model(kind)
    row_log_probs(packed, pack(GROUPS[1:2])).sum().backward()
    torch.cat(padded_log_probs(separate, GROUPS[1:2])).sum().backward()
    for ours, theirs in zip(packed.parameters(), separate.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-4 * float(theirs.grad.abs().max()))


def test_lengths_matter_here():
    """Without its own angles the short group would differ by far more than rounding."""
    together = padded_log_probs(model("dynamic"), GROUPS)
    assert (torch.cat(together[:2]) - padded("dynamic", GROUPS[0])).abs().max() > 1e-2


def test_what_was_scored_before_does_not_matter():
    one = model("dynamic")
    first = row_log_probs(one, pack(GROUPS[2:]))
    row_log_probs(one, pack(GROUPS[1:2]))
    assert torch.equal(first, row_log_probs(one, pack(GROUPS[2:])))


@pytest.mark.parametrize("trained_length", [8, 16, 26, 64, 512])  # 26: inside of the check's plain group
@pytest.mark.parametrize("kind", KINDS)
def test_the_start_up_check_passes(kind, trained_length):
    """Its separate rows had the angles of their own lengths: a short origin was called a layer that carries state."""
    one = model(kind, trained_length)
    assert plan_scoring(one).path == "packed"


def test_ordinary_kinds_are_left_alone():
    plain = tiny_model("Llama")
    rotary = plain.get_decoder().rotary_emb
    assert not depends_on_length(rotary)
    row_log_probs(plain, pack(GROUPS))
    assert plain.get_decoder().rotary_emb is rotary
    assert not depends_on_length(None)


# Angles that are complex numbers; in a module of another name; of positions in three dimensions.
FAMILIES = {
    "DeepseekV2": {
        **{name: ARCHITECTURES["DeepseekV3"][name] for name in ("kv_lora_rank", "q_lora_rank", "v_head_dim")},
        "qk_rope_head_dim": 4,
        "qk_nope_head_dim": 4,
        "head_dim": 4,
        "num_key_value_heads": 4,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "first_k_dense_replace": 2,
    },
    "Lfm2Moe": {
        "layer_types": ["full_attention"] * 2,
        "num_dense_layers": 2,
        "num_experts": 4,
        "num_experts_per_tok": 2,
    },
    "Qwen3_5Text": {"layer_types": ["full_attention"] * 2, "head_dim": 32},
}


@pytest.mark.parametrize("name", FAMILIES)
def test_angles_of_every_form_follow_each_groups_length(name):
    def fresh():
        rope = {"rope_parameters": DYNAMIC, "max_position_embeddings": 32}
        return tiny_model(name, **FAMILIES[name], **rope)

    packed = row_log_probs(fresh(), pack(GROUPS))
    alone = [torch.cat(padded_log_probs(fresh(), [group])) for group in GROUPS]
    torch.testing.assert_close(packed, torch.cat(alone), rtol=1e-5, atol=1e-5)
    together = torch.cat(padded_log_probs(fresh(), GROUPS))
    assert (together - torch.cat(alone)).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["GraniteSWA", "GraniteMoeSWA"])
def test_angles_that_several_modules_compute_are_refused_where_they_depend_on_length(name):
    """Beyond the trained length, and so beyond what the start-up check looks at, a packed row was off by a third."""
    turned = {**DYNAMIC, "partial_rotary_factor": 1.0}
    rope = {"rope_parameters": turned, "max_position_embeddings": 512, "layer_rope_theta": [1e4, 1e4]}
    model = tiny_model(name, layer_types=["sliding_attention", "full_attention"], sliding_window=8, **rope)
    with pytest.raises(UnsupportedModelError, match="more than one module computes them; set a type that does not"):
        plan_scoring(model)
