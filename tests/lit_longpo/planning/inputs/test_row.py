"""The fullest row, by objective."""

import pytest

from lit_longpo.objectives import DPO, LOGO, SFT, LongPO, SoLoPO
from lit_longpo.planning.inputs.row import fill_row

SIZES = {"budget": 4096, "max_length": None, "max_examples": None, "response_tokens": 64, "short_tokens": 256}


@pytest.mark.parametrize(
    ("objective", "prompts", "responses"),
    [
        (SFT(), 4096 - 64, 1),
        (DPO(), 4096 - 2 * 64, 2),
        (LongPO(), 4096 - 2 * 64, 2),
        (LOGO(num_rejected=3), 4096 - 4 * 64, 4),
        (SoLoPO(), 4096 - 3 * 64 - 256, 3),
    ],
    ids=lambda value: type(value).__name__,
)
def test_one_example_fills_the_row(objective, prompts, responses):
    row = fill_row(objective.views, **SIZES, prefix_sharing=True)
    batch = row.policy_row()
    assert (row.num_examples, row.long_tokens, row.num_tokens) == (1, prompts, 4096)
    assert batch.num_tokens == 4096
    assert len([slot for slot in batch.slots if slot.role != "rest"]) == responses


def test_a_whole_sequence_scores_every_token_but_the_first():
    row = fill_row(LongPO().views, **SIZES, prefix_sharing=True)
    assert len(row.policy_row().score_targets) == 4096 - 1


def test_the_only_context_is_stretched():
    row = fill_row(SFT(context="short").views, **SIZES, prefix_sharing=True)
    assert row.prompt_tokens("short") == 4096 - 64


def test_the_longest_sequence_decides_how_many_fit():
    row = fill_row(DPO().views, **{**SIZES, "max_length": 1000}, prefix_sharing=True)
    assert row.num_examples == 3
    assert row.num_tokens == pytest.approx(4096, abs=row.num_examples)
    two = fill_row(DPO().views, **{**SIZES, "max_length": 1000, "max_examples": 2}, prefix_sharing=True)
    assert (two.num_examples, two.num_tokens) == (2, 2 * (1000 + 64))  # not stretched beyond what may come


def test_without_sharing_every_response_has_its_prompt():
    row = fill_row(LOGO(num_rejected=2).views, **SIZES, prefix_sharing=False)
    assert row.long_tokens == (4096 - 3 * 64) // 3
    assert len(row.policy_row().table.segments) == 3


def test_the_references_row_has_its_own_contexts():
    row = fill_row(LongPO().views, **SIZES, prefix_sharing=True)
    assert row.reference_row().num_tokens == 256 + 2 * 64
    assert fill_row(LOGO().views, **SIZES, prefix_sharing=True).reference_row() is None
    assert row.refilled(1000, None).num_examples == 1000 // (256 + 2 * 64)
    assert row.refilled(10**6, 7).num_examples == 7
    assert row.refilled(5, None).num_examples == 1


def test_a_row_too_small_for_its_responses_is_refused():
    with pytest.raises(ValueError, match=r"row of 100 tokens.*lower --response_tokens"):
        fill_row(DPO().views, **{**SIZES, "budget": 100}, prefix_sharing=True)


def test_a_ranks_share_is_a_shorter_row():
    row = fill_row(DPO().views, **SIZES, prefix_sharing=True)
    assert row.divided(4).num_tokens == 4096 // 4
