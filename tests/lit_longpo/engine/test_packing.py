import dataclasses

import pytest
import torch
from hypothesis import given, settings
from support.groups import batches, random_groups

from lit_longpo.batch import Group, Response, Slot
from lit_longpo.engine.packing import fingerprint, pack


def naive_expectation(groups):
    """Walk the row token by token: (row index of the predictor, target, slot) of every scored token."""
    expected, cursor = [], 0
    for number, group in enumerate(groups):
        prompt_end = cursor + len(group.prompt_ids) - 1
        rest = naive_rest(group, cursor, Slot(number, group.context, "rest", 0))
        cursor += len(group.prompt_ids)
        for response in group.responses:
            previous = prompt_end
            for token, scored in zip(response.token_ids, response.mask, strict=True):
                if scored:
                    slot = Slot(number, group.context, response.role, response.index)
                    expected.append((previous, token, slot))
                previous = cursor
                cursor += 1
            expected += rest  # right after the first response
            rest = []
    return expected


def naive_rest(group, start, slot):
    """Prompt and first response lie side by side from `start`: everything but the first token and the answers."""
    if not group.score_sequence:
        return []
    response = group.responses[0]
    tokens = [*group.prompt_ids, *response.token_ids]
    answers = [False] * len(group.prompt_ids) + list(response.mask)
    counted = group.sequence_mask or [True] * len(tokens)
    return [(start + n - 1, tokens[n], slot) for n in range(1, len(tokens)) if counted[n] and not answers[n]]


@given(batches())
@settings(max_examples=150, deadline=None)
def test_every_wanted_token_is_scored_exactly_once_and_nothing_else(groups):
    batch = pack(groups)
    owners = [batch.slots[owner] for owner in batch.score_owners.tolist()]
    scored = list(zip(batch.score_index.tolist(), batch.score_targets.tolist(), owners, strict=True))
    assert scored == naive_expectation(groups)


def test_a_sequence_is_scored_once_token_by_token():
    """Prompt 3 4 5, chosen 6 (hidden) 7: answer 7; the rest 4 5 6, by 3 4 5."""
    chosen = Response("chosen", (6, 7), (False, True))
    batch = pack([Group("a", "long", (3, 4, 5), (chosen,), score_sequence=True)])
    assert batch.slots == (Slot(0, "long", "chosen", 0), Slot(0, "long", "rest", 0))
    assert batch.score_index.tolist() == [3, 0, 1, 2]
    assert batch.score_targets.tolist() == [7, 4, 5, 6]
    assert batch.score_owners.tolist() == [0, 1, 1, 1]
    assert batch.num_scored.tolist() == [1, 3]


@given(batches())
@settings(max_examples=100, deadline=None)
def test_the_table_covers_the_row_and_segments_see_their_own_group_only(groups):
    batch = pack(groups)
    table = batch.table
    assert sum(table.pieces) == batch.num_tokens == sum(group.num_tokens for group in groups)
    assert sum(segment.query_length for segment in table.segments) == batch.num_tokens
    piece = 0
    segments = iter(table.segments)
    for group in groups:
        prompt = piece
        for response in group.responses:
            piece += 1
            segment = next(segments)
            assert segment.key_pieces == (prompt, piece)
            own = len(response.token_ids) + (len(group.prompt_ids) if piece == prompt + 1 else 0)
            assert segment.query_length == own
        piece += 1


@given(batches())
@settings(max_examples=100, deadline=None)
def test_responses_continue_from_the_prompts_last_position(groups):
    positions = iter(pack(groups).position_ids[0].tolist())
    for group in groups:
        prompt = [next(positions) for _ in group.prompt_ids]
        assert prompt == list(group.position_ids or range(len(group.prompt_ids)))
        for response in group.responses:
            answer = [next(positions) for _ in response.token_ids]
            assert answer == [prompt[-1] + 1 + offset for offset in range(len(answer))]


def test_groups_of_one_example_share_it_and_turns_add_up():
    answer = Response("chosen", (5,), (True,))
    turns = [Group("a", "short", (3,), (answer,), turn=0), Group("a", "short", (4,), (answer,), turn=1)]
    batch = pack([*turns, Group("b", "short", (3,), (answer,))])
    assert batch.examples == ("a", "b")
    assert batch.slots == (Slot(0, "short", "chosen", 0), Slot(1, "short", "chosen", 0))
    assert batch.score_owners.tolist() == [0, 0, 1]


def test_fingerprints_follow_content_and_not_names():
    group = random_groups([(5, [2, 3])])[0]
    renamed = dataclasses.replace(group, example="other")
    moved = dataclasses.replace(group, position_ids=(0, 1, 2, 3, 9))
    assert pack([group]).fingerprints == pack([renamed]).fingerprints
    assert not set(pack([group]).fingerprints) & set(pack([moved]).fingerprints)
    response = group.responses[1]
    hidden = dataclasses.replace(response, mask=(True, False, True))
    assert fingerprint(group, response) != fingerprint(group, hidden)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt_ids": ()}, "at least one prompt token"),
        ({"responses": ()}, "at least one response"),
        ({"position_ids": (0, 1)}, "expected 3 position ids"),
        ({"position_ids": (0, 2, 2)}, "strictly increasing"),
        ({"responses": (Response("chosen", (5, 6), (True,)),)}, "one mask entry per token"),
        ({"responses": (Response("chosen", (5,), (False,)),)}, "at least one scored token"),
        ({"responses": (Response("chosen", (5,), (True,)),) * 2}, "got two"),
    ],
)
def test_broken_groups_are_named(change, message):
    group = Group("qa-17", "long", (3, 4, 5), (Response("chosen", (5,), (True,)),))
    with pytest.raises(ValueError, match=message) as raised:
        pack([dataclasses.replace(group, **change)])
    assert "qa-17" in str(raised.value)


def test_an_empty_batch_is_refused():
    with pytest.raises(ValueError, match="at least one group"):
        pack([])


def test_moving_keeps_host_data_and_moves_tensors():
    batch = pack(random_groups([(4, [2, 2])]))
    moved = batch.to("meta")
    assert moved.table is batch.table
    assert moved.input_ids.device == torch.device("meta")
