"""Exactness of the engine: packed rows against separate padded rows with whole logits."""

from contextlib import nullcontext

import pytest
import torch
from peft import LoraConfig, get_peft_model
from support.groups import random_groups
from support.padded_rows import padded_log_probs, plain_log_probs
from support.tiny_hybrids import tiny_hybrid
from support.tiny_models import ARCHITECTURES, tiny_model

from lit_longpo.batch import Group, Response
from lit_longpo.engine import UnsupportedModelError, pack, plan_scoring, score
from lit_longpo.engine.attention import ordinary_attention
from lit_longpo.engine.decoder import base_model
from lit_longpo.engine.scoring import row_log_probs
from lit_longpo.policy.checkpointing import enable_checkpointing

CASES = {
    "k=1": [(9, [4])],
    "k=2": [(11, [5, 3])],
    "k=4, one of one token": [(20, [4, 1, 6, 3])],
    "three groups": [(12, [3, 4]), (1, [2]), (25, [2, 5, 1])],
}


def relative(a, b):
    return float((a - b).abs().max() / b.abs().max())


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_parity(model, groups):
    """Token log-probabilities to 1e-5 and every parameter's gradient to 1e-4, with unequal weights."""
    weights = None
    results = []
    packed = (lambda: row_log_probs(model, pack(groups)), nullcontext())
    padded = (lambda: torch.cat(padded_log_probs(model, groups)), ordinary_attention(base_model(model)))
    for compute, attention in (packed, padded):
        with attention:  # around backward too: checkpointing attends again
            model.zero_grad()
            values = compute()
            weights = torch.linspace(-1.0, 2.0, len(values)) if weights is None else weights
            (values * weights).sum().backward()
        results.append((values.detach(), gradients(model)))
    (ours, our_grads), (theirs, their_grads) = results
    assert relative(ours, theirs) <= 1e-5
    assert our_grads.keys() == their_grads.keys()
    assert len(our_grads) > 5
    for name, grad in their_grads.items():
        scale = grad.norm()
        assert scale == 0 or float((our_grads[name] - grad).norm() / scale) <= 1e-4, name


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_parity(name, case):
    assert_parity(tiny_model(name), random_groups(CASES[case]))


@pytest.mark.parametrize("name", ["Qwen2", "Llama", "Mistral", "Qwen3", "Gemma2", "GptOss"])
def test_parity_with_jumping_positions(name):
    assert_parity(tiny_model(name), random_groups(CASES["three groups"], jump=True))


@pytest.mark.parametrize("how", [True, "keep_attention"])
@pytest.mark.parametrize("name", ["Qwen2", "Mistral", "Gemma3Text", "Gemma2", "GptOss"])
def test_parity_with_gradient_checkpointing(name, how):
    model = tiny_model(name)
    enable_checkpointing(model, how)
    assert_parity(model, random_groups(CASES["three groups"]))


@pytest.mark.parametrize("name", ["Qwen2", "Llama"])
def test_parity_with_a_tied_head(name):
    model = tiny_model(name, tie_word_embeddings=True)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert_parity(model, random_groups(CASES["k=4, one of one token"]))


@pytest.mark.parametrize("checkpointing", [False, True, "keep_attention"])
def test_parity_with_lora(checkpointing):
    model = tiny_model("Qwen2")
    if checkpointing:
        enable_checkpointing(model, checkpointing)
        model.enable_input_require_grads()
    model = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    assert_parity(model.train(), random_groups(CASES["three groups"]))


def test_masked_tokens_are_seen_but_not_scored():
    answer = Response("chosen", (7, 8, 9, 10), (True, False, False, True))
    group = Group("a", "long", (3, 4, 5), (answer, Response("rejected", (11, 12), (False, True))))
    assert_parity(tiny_model(), [group])


def test_scores_come_back_by_view():
    model = tiny_model()
    groups = random_groups([(6, [3, 2, 4]), (9, [1, 5, 2])])
    rows = [part.sum() for part in padded_log_probs(model, groups)]
    scores = score(model, pack(groups))
    assert relative(scores.log_probs("long", "chosen"), torch.stack([rows[0], rows[3]])) < 1e-5
    expected = torch.stack([torch.stack(rows[1:3]), torch.stack(rows[4:6])])
    assert relative(scores.log_probs("long", "rejected"), expected) < 1e-5
    assert scores.num_tokens("long", "rejected").tolist() == [[2, 4], [5, 2]]
    with pytest.raises(KeyError, match=r"short\.chosen was not scored"):
        scores.log_probs("short", "chosen")


def test_a_long_sum_is_as_exact_as_its_terms(monkeypatch):
    """Added up in fp32, twenty thousand terms lose digits that a margin between two responses needs."""
    terms = -3 * torch.rand(20_000, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr("lit_longpo.engine.scoring.row_log_probs", lambda model, batch: terms)
    sums = score(None, pack(random_groups([(5, [20_000])]))).sums
    assert sums.dtype == torch.float32
    assert sums.item() == terms.double().sum().float().item()
    one_by_one = torch.zeros(1).index_add(0, torch.zeros(20_000, dtype=torch.long), terms)
    assert one_by_one.item() != sums.item()


def test_no_response_leaks_into_another():
    model = tiny_model().eval()
    groups = random_groups([(6, [3, 3]), (5, [2])])
    before = score(model, pack(groups)).sums
    changed = random_groups([(6, [3, 3]), (5, [2])], seed=1)
    after = score(model, pack([groups[0], changed[1]])).sums
    torch.testing.assert_close(before[:2], after[:2])
    assert abs(before[2] - after[2]) > 1e-3


def test_bf16_adds_no_error_over_separate_rows():
    groups = random_groups(CASES["three groups"])
    with torch.no_grad():
        exact = torch.cat(padded_log_probs(tiny_model("Qwen2"), groups))
        low = tiny_model("Qwen2").bfloat16()
        ours = relative(row_log_probs(low, pack(groups)), exact)
        theirs = relative(torch.cat(padded_log_probs(low, groups)), exact)
    assert ours <= 2 * theirs
    assert ours < 5e-2


@pytest.mark.parametrize("name", ["Mamba", "Mamba2"])
def test_states_of_another_precision_than_the_heads_are_rounded_to_it(name):
    """Their last norm gives fp32 under bf16 weights; transformers' head takes them in bf16."""
    [group] = random_groups([(20, [5, 3])])
    half = tiny_hybrid(name).bfloat16()
    plan_scoring(half)
    ours = row_log_probs(half, pack([group]))
    plain = torch.cat(plain_log_probs(half, [group]))
    assert float((ours - plain).abs().max() / plain.abs().max()) <= 1e-2
    ours.sum().backward()
    assert {parameter.grad.dtype for parameter in half.parameters() if parameter.grad is not None} == {torch.bfloat16}


def test_the_scored_tokens_are_all_that_reaches_the_head(monkeypatch):
    from lit_longpo.engine import head

    seen = []
    original = head.token_log_probs
    monkeypatch.setattr(
        head,
        "token_log_probs",
        lambda hidden, *a, **k: seen.append(len(hidden)) or original(hidden, *a, **k),
    )
    score(tiny_model(), pack(random_groups([(50, [3, 2])])))
    assert seen == [5]


def test_a_model_with_ordinary_attention_is_refused():
    model = tiny_model()
    model.set_attn_implementation("sdpa")
    with pytest.raises(UnsupportedModelError, match="prefix_shared"):
        score(model, pack(random_groups([(4, [2])])))


def test_an_adapter_on_the_head_is_refused():
    model = get_peft_model(tiny_model(), LoraConfig(r=2, target_modules=["lm_head"]))
    with pytest.raises(UnsupportedModelError, match="lm_head"):
        score(model, pack(random_groups([(4, [2])])))
