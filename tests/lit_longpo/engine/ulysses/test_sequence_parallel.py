"""Rows shared by ranks: what each rank gets, and that two real ranks compute what one does."""

import json
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import sequence_worker
from support.groups import batches, random_groups
from support.ranks import run_ranks
from support.sequence_worker import MOST, REST
from support.tiny_models import tiny_config, tiny_model

from lit_longpo.engine import check_heads, feasible_degrees, pack, score
from lit_longpo.engine.ulysses import sequence_parallel
from lit_longpo.engine.ulysses.sequence_parallel import SequenceRanks, padded
from lit_longpo.policy import PolicyConfig


@cache
def differences(num_ranks, cases, folder):
    """Of all ranks, by case."""
    out = folder / f"{cases[0]}-shared-by-{num_ranks}"
    run_ranks(sequence_worker.run, out, cases, num_ranks=num_ranks)
    return [json.loads(Path(f"{out}.{rank}").read_text()) for rank in range(num_ranks)]


RUNS = {(2, MOST): (), (2, REST): pytest.mark.slow, (4, MOST): pytest.mark.slow}
CASES = [
    pytest.param(num_ranks, cases, case, marks=marks, id=f"{num_ranks}-{case}")
    for (num_ranks, cases), marks in RUNS.items()
    for case in cases
]


@pytest.mark.parametrize(("num_ranks", "cases", "case"), CASES)
def test_ranks_that_share_a_row_score_and_differentiate_like_one(num_ranks, cases, case, tmp_path_factory):
    """Checkpointing on; the start-up probe runs through the shared row too."""
    for rank in differences(num_ranks, cases, tmp_path_factory.getbasetemp()):
        assert rank[case]["largest"] > 1e-2
        assert rank[case]["loss"] <= 1e-5
        assert rank[case]["gradient"] <= 1e-5
        assert rank[case]["probe"] <= 1e-4


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no failure
@given(batches(), st.integers(1, 5))
def test_every_token_and_every_score_belongs_to_one_rank(groups, size):
    batch = pack(groups)
    row = padded(batch, size)
    parts = [SequenceRanks(size, rank).split(batch) for rank in range(size)]
    assert row.num_tokens % size == 0
    assert row.num_tokens - batch.num_tokens < size
    assert all(torch.equal(part.row.position_ids, row.position_ids) for part in parts)
    assert all(part.row.table == row.table for part in parts)
    assert torch.equal(torch.cat([row.input_ids[:, part.span] for part in parts], dim=1), row.input_ids)
    if size == 1:
        return
    order = torch.cat([part.scored for part in parts])
    length = row.num_tokens // size
    index = torch.cat([part.score_index + rank * length for rank, part in enumerate(parts)])
    targets = torch.cat([part.score_targets for part in parts])
    assert sorted(order.tolist()) == list(range(len(batch.score_index)))
    assert torch.equal(index, batch.score_index[order])
    assert torch.equal(targets, batch.score_targets[order])


@pytest.mark.parametrize("name", ["Llama", "Mistral"])
def test_padding_changes_nothing(name):
    model, batch = tiny_model(name), pack(random_groups([(11, [5, 3]), (4, [2])]))
    results = []
    for row in (batch, padded(batch, 8)):
        model.zero_grad()
        sums = score(model, row).sums
        sums.square().sum().backward()
        results.append((sums.detach(), [parameter.grad.clone() for parameter in model.parameters()]))
    assert padded(batch, 8).num_tokens == 32 > batch.num_tokens
    (sums, gradients), (padded_sums, padded_gradients) = results
    torch.testing.assert_close(padded_sums, sums, rtol=1e-6, atol=0.0)
    largest = max(float(gradient.abs().max()) for gradient in gradients)
    for ours, theirs in zip(padded_gradients, gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0.0, atol=1e-6 * largest)


@pytest.mark.parametrize(
    ("heads", "kv_heads", "world_size", "expected"),
    [
        (28, 4, None, [1, 2, 4, 28]),  # Qwen2.5-7B: never 8
        (12, 2, None, [1, 2, 4, 6, 12]),  # Qwen2.5-1.5B
        (32, 8, None, [1, 2, 4, 8, 16, 32]),  # Llama-3-8B, Mistral-7B
        (9, 3, None, [1, 3, 9]),  # SmolLM2-135M
        (28, 4, 8, [1, 2, 4]),
        (32, 8, 6, [1, 2]),
        (4, 1, None, [1, 2, 4]),
    ],
)
def test_feasible_degrees(heads, kv_heads, world_size, expected):
    assert feasible_degrees(heads, kv_heads, world_size) == expected


def test_heads_that_ranks_cannot_share_are_refused_before_weights_are_read(monkeypatch, policy_folder, tmp_path):
    monkeypatch.setattr(sequence_parallel, "_ranks", SequenceRanks(size=3))
    (tmp_path / "config.json").write_text((policy_folder / "config.json").read_text())  # and no weights
    message = r"one of \[1, 2, 4\], got 3: LlamaConfig has 4 attention heads and 2 key/value heads"
    with pytest.raises(ValueError, match=message):
        PolicyConfig(source=str(tmp_path)).load()


def test_heads_are_not_looked_at_without_sharing(monkeypatch):
    check_heads(lambda: pytest.fail("the configuration was read"))
    monkeypatch.setattr(sequence_parallel, "_ranks", SequenceRanks(size=4))
    check_heads(lambda: tiny_config("Llama"))
