"""Rows whose groups hold the beginning of their prompts together, against the same groups computed one by one."""

import dataclasses
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from support.groups import batches
from support.tiny_hybrids import SHARED, tiny_hybrid
from support.tiny_models import tiny_model

from lit_longpo.batch import Group, Response
from lit_longpo.engine import pack, packing, score, scoring
from lit_longpo.engine.attention import ordinary_attention
from lit_longpo.engine.decoder import base_model
from lit_longpo.engine.scoring import row_log_probs
from lit_longpo.engine.sequential.sequences import score_packed, score_sequentially
from lit_longpo.engine.sharing import refuse_sharing, sharing_problem, taken_apart
from lit_longpo.engine.startup.scoring_plan import plan_scoring
from lit_longpo.planning.flops import attention_flops
from lit_longpo.policy.checkpointing import enable_checkpointing

SYSTEM, BOOK, OTHER = (tuple(range(first, first + size)) for first, size in ((3, 6), (20, 11), (50, 9)))


def group(name, prompt, *answers, positions=None, **options):
    responses = tuple(
        Response("rejected" if n else "chosen", ids, (True,) * len(ids), max(0, n - 1)) for n, ids in enumerate(answers)
    )
    return Group(name, "long", prompt, responses, positions, **options)


def questions():
    """A system prompt over all; three questions about a book, one of them the book alone, and one about another."""
    return [
        group("first", (*SYSTEM, *BOOK, 70, 71, 72), (80, 81), (82, 83, 84)),
        group("apart", (90, 4, 5, 6, 7), (80,), (81, 82)),
        group("second", (*SYSTEM, *BOOK, 73), (85, 86, 87), (88,)),
        group("other", (*SYSTEM, *OTHER), (80, 84), score_sequence=True),
        group("third", (*SYSTEM, *BOOK), (89, 90), (91, 92), score_sequence=True),
    ]


def test_a_beginning_is_held_once_and_each_segment_sees_its_own_chain():
    """By hand: system, book, 70 71 72, two answers; then 73, and the answers to the book alone; the rest in order."""
    batch = pack(questions(), shared_from=4)
    assert batch.table.pieces == (6, 11, 3, 2, 3, 1, 3, 1, 2, 2, 9, 2, 5, 1, 2)
    assert [(one.query_length, one.key_pieces) for one in batch.table.segments] == [
        (22, (0, 1, 2, 3)),
        (3, (0, 1, 2, 4)),
        (4, (0, 1, 5, 6)),
        (1, (0, 1, 5, 7)),
        (2, (0, 1, 8)),
        (2, (0, 1, 9)),
        (11, (0, 10, 11)),
        (6, (12, 13)),
        (2, (12, 14)),
    ]
    assert batch.position_ids[0, :22].tolist() == list(range(22))
    assert batch.position_ids[0, 25:29].tolist() == [17, 18, 19, 20]
    assert batch.num_tokens == 53
    assert batch.num_held_tokens == sum(one.num_tokens for one in questions()) == 53 + 3 * 6 + 2 * 11


@pytest.mark.parametrize("shared_from", [None, 100])
def test_a_row_without_long_beginnings_in_common_is_the_row_that_it_was(shared_from):
    apart, batch = pack(questions()), pack(questions(), shared_from=shared_from)
    assert batch.table == apart.table
    assert torch.equal(batch.input_ids, apart.input_ids)
    assert batch.sharing is None


def test_groups_at_other_positions_share_nothing():
    leap = tuple(range(5)) + tuple(range(40, 52))
    one, two, three = (
        group(name, (*SYSTEM, *BOOK), (80,), positions=p) for name, p in zip("abc", (leap, leap, None), strict=True)
    )
    moved = dataclasses.replace(one, example="d", position_ids=(*leap[:5], *range(41, 53)))
    assert pack([one, three, moved], shared_from=6).sharing is None
    batch = pack([one, two, three, moved], shared_from=6)
    assert batch.num_held_tokens - batch.num_tokens == 17
    assert pack([one, moved], shared_from=4).num_tokens == 2 * 18 - 5


@st.composite
def related(draw):
    """Groups of which some begin as another does."""
    groups = draw(batches())
    for number in draw(st.lists(st.integers(0, len(groups) - 1), max_size=3)):
        other, prompt = groups[number], groups[number].prompt_ids
        size, tail = draw(st.integers(1, len(prompt))), draw(st.lists(st.integers(0, 95), max_size=4))
        positions = other.position_ids and other.position_ids[:size] + tuple(
            other.position_ids[size - 1] + 1 + n for n in range(len(tail))
        )
        new = dataclasses.replace(
            other,
            example=f"like-{len(groups)}",
            prompt_ids=prompt[:size] + tuple(tail),
            position_ids=positions,
            sequence_mask=None,
        )
        groups.append(new)
    return groups


def sequences(batch):
    """Of each scored token the whole sequence that predicts it, with positions; found by walking the table."""
    starts = [sum(batch.table.pieces[:n]) for n in range(len(batch.table.pieces))]
    ids, positions = batch.input_ids[0].tolist(), batch.position_ids[0].tolist()
    seen, end = {}, 0
    for segment in batch.table.segments:
        rows = [starts[p] + n for p in segment.key_pieces for n in range(batch.table.pieces[p])]
        end += segment.query_length
        assert rows[len(rows) - segment.query_length :] == list(range(end - segment.query_length, end))
        for number in range(len(rows) - segment.query_length, len(rows)):
            seen[rows[number]] = [(ids[row], positions[row]) for row in rows[: number + 1]]
    owners = [batch.slots[owner] for owner in batch.score_owners.tolist()]
    indices = batch.score_index.tolist()
    return [(seen[i], t, o) for i, t, o in zip(indices, batch.score_targets.tolist(), owners, strict=True)]


@given(related(), st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_each_scored_token_is_predicted_by_the_sequence_that_it_would_be_alone(groups, shared_from):
    batch, apart = pack(groups, shared_from=shared_from), pack(groups)
    assert sequences(batch) == sequences(apart)
    assert batch.fingerprints == apart.fingerprints
    assert batch.num_tokens <= apart.num_tokens == batch.num_held_tokens
    assert_taken_apart(batch, apart)


def assert_taken_apart(batch, apart):
    found = batch if batch.sharing is None else taken_apart(batch, batch.sharing)
    assert found.table == apart.table
    for name in ("input_ids", "position_ids", "score_index", "score_targets", "score_owners"):
        assert torch.equal(getattr(found, name), getattr(apart, name)), name
    for tail, needed, segment in zip(found.scored_tails, apart.scored_tails, apart.table.segments, strict=True):
        assert needed <= tail <= segment.query_length


def naive_log_probs(model, groups):
    """Of every scored token in the row's order: each response a row of its own, whole logits of the model's own."""
    found = []
    for one in groups:
        for response in one.responses:
            ids = torch.tensor([one.prompt_ids + response.token_ids])
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[0]
            values = logits[:-1].double().log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
            found.append(values[len(one.prompt_ids) - 1 :])
            if one.score_sequence and response is one.responses[0]:
                found.append(values[: len(one.prompt_ids) - 1])
    return torch.cat(found)


def gradients(model, values):
    model.zero_grad()
    (values * torch.linspace(-1.0, 2.0, len(values), dtype=values.dtype)).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_parity(model, groups, tolerance, shared_from=4):
    """Values and gradients of a shared row and of naive rows."""
    row = pack(groups, shared_from=shared_from)
    assert row.sharing is not None
    ours = row_log_probs(model, row)
    our_grads = gradients(model, ours)
    with ordinary_attention(base_model(model)):
        theirs = naive_log_probs(model, groups)
        their_grads = gradients(model, theirs)
    assert float((ours - theirs).abs().max() / theirs.abs().max()) <= tolerance
    assert our_grads.keys() == their_grads.keys()
    assert len(our_grads) > 5
    scale = max(float(grad.norm()) for grad in their_grads.values())
    for name, grad in their_grads.items():
        assert float((our_grads[name] - grad).norm()) <= 5 * tolerance * max(float(grad.norm()), 0.01 * scale), name


@pytest.mark.parametrize(
    "name", ["Qwen2", "Qwen3", "Mistral", "Gemma3Text", "Gemma2", "GptOss", "Qwen3Moe", "DeepseekV3"]
)
def test_values_and_gradients_are_those_of_separate_rows(name):
    """A window, a soft-cap, sinks, experts, latent attention."""
    assert_parity(tiny_model(name), questions(), 1e-6)


def test_in_double_precision_nothing_is_left_of_the_difference():
    """Of a model whose norms stay in double precision."""
    assert_parity(tiny_model("GPT2", attn_pdrop=0.0).double().eval(), questions(), 1e-12)


@pytest.mark.parametrize("name", ["Qwen3_5Text", "OlmoHybrid", "Bamba", "FalconH1", "Lfm2"])
def test_a_state_is_handed_along_the_chain(name):
    assert name in SHARED
    model = tiny_hybrid(name)
    score_packed(model)
    assert_parity(model, questions(), 1e-5)


@pytest.mark.parametrize(("name", "how"), [("Mistral", True), ("Llama", "keep_attention")])
def test_under_gradient_checkpointing(name, how):
    model = tiny_model(name)
    enable_checkpointing(model, how)
    assert_parity(model, questions(), 1e-6)


def test_with_adapters():
    model = get_peft_model(tiny_model("Qwen2"), LoraConfig(r=4, target_modules="all-linear"))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    assert_parity(model, questions(), 2e-6)


@pytest.mark.parametrize("rope", ["dynamic", "sequential"])
def test_a_model_that_cannot_share_takes_the_row_apart(rope):
    """Angles that depend on the length of a sequence; and one sequence at a time."""
    options = {"rope_scaling": {"rope_type": "dynamic", "factor": 4.0}, "max_position_embeddings": 18}
    model = tiny_model("Llama", **options if rope == "dynamic" else {})
    if rope == "sequential":
        score_sequentially(model)
    groups = questions()
    assert sharing_problem(model) is not None
    shared, apart = (row_log_probs(model, pack(groups, shared_from=n)) for n in (4, None))
    assert torch.equal(shared, apart)
    refuse_sharing(other := tiny_model("Llama"), "it was told so")
    assert torch.equal(row_log_probs(other, pack(groups, shared_from=4)), row_log_probs(other, pack(groups)))


def test_the_start_up_check_finds_a_model_whose_chains_are_wrong():
    model = tiny_model("Llama")
    assert plan_scoring(model).no_sharing is None

    def positions(group):
        length = len(group.prompt_ids)
        return group.position_ids or (range(length) if length <= 24 else range(0, 2 * length, 2))

    broken = mock.patch.object(packing, "positions_of", positions)
    with broken:  # what goes on from a longer prompt begins at other positions
        problem = plan_scoring(model).no_sharing
    assert problem is not None
    assert "share tokens" in problem


def test_experts_are_balanced_over_every_groups_tokens():
    model = tiny_model("Qwen3Moe").eval()
    rows = [pack(questions(), shared_from=4), pack(questions())]
    shared, apart = (score(model, row, router_loss=True).router_loss.item() for row in rows)
    assert shared == pytest.approx(apart, rel=1e-6)
    with mock.patch.object(scoring, "copies_of", return_value=None):
        assert score(model, rows[0], router_loss=True).router_loss.item() != pytest.approx(apart, rel=1e-6)


def test_attention_flops_are_those_of_each_segments_own_queries():
    """2 layers, 4 heads of 8: a run of 17 tokens, then 1 + 2 and 2 + 1 behind it."""
    model = tiny_model("Llama")
    groups = [group("a", (*SYSTEM, *BOOK, 73), (80, 81)), group("b", (*SYSTEM, *BOOK, 70, 71), (80,))]
    pairs = sum(range(1, 21)) + (18 + 19 + 20)
    assert attention_flops(model.config, pack(groups, shared_from=4).table) == 4 * 4 * 8 * 2 * pairs
