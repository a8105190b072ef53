"""A cache with room holds what transformers' own holds, and copies a token only."""

import copy

import pytest
import torch
from transformers.cache_utils import DynamicLayer

from lit_longpo.engine.generation.growing import BLOCK, GrowingLayer, right_aligned

KEYS = torch.randn(2, 3, 5, 4, generator=torch.Generator().manual_seed(0))
VALUES = torch.randn(2, 3, 5, 6, generator=torch.Generator().manual_seed(1))  # of another width, as in MLA


def pair():
    theirs = DynamicLayer()
    theirs.update(KEYS, VALUES)
    return GrowingLayer([right_aligned([states], 5, BLOCK) for states in (KEYS, VALUES)], 5), theirs


def feed(layer, count, size=1, rows=2):
    draw = torch.Generator().manual_seed(count)
    for _ in range(count):
        layer.update(*(torch.randn(rows, 3, size, width, generator=draw) for width in (4, 6)))


def same(ours, theirs):
    assert torch.equal(ours.keys, theirs.keys)
    assert torch.equal(ours.values, theirs.values)
    assert ours.get_mask_sizes(1) == theirs.get_mask_sizes(1)


def test_tokens_are_written_behind_the_others_without_a_copy_of_those():
    ours, theirs = pair()
    place = ours.keys.data_ptr()
    for layer in (ours, theirs):
        feed(layer, 7)
        feed(layer, 3, size=2)
    same(ours, theirs)
    assert ours.keys.data_ptr() == place


def test_a_full_room_is_left_for_a_larger_one():
    ours, theirs = pair()
    place = ours.keys.data_ptr()
    for layer in (ours, theirs):
        feed(layer, BLOCK + 3)
    same(ours, theirs)
    assert ours.keys.data_ptr() != place


CHANGES = {
    "rows selected": lambda layer: layer.batch_select_indices(torch.tensor([1, 1])),
    "rows reordered": lambda layer: layer.reorder_cache(torch.tensor([1, 0])),
    "rows repeated": lambda layer: layer.batch_repeat_interleave(2),
    "tokens taken back": lambda layer: layer.crop(-2),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_changed_from_outside_is_gone_on_from(change):
    ours, theirs = pair()
    for layer in (ours, theirs):
        feed(layer, 2)
        CHANGES[change](layer)
        feed(layer, 2, rows=len(layer.keys))
    same(ours, theirs)


def test_a_copy_goes_its_own_way():
    ours, theirs = pair()
    other = copy.deepcopy(ours)
    feed(other, 4)
    same(ours, theirs)
    feed(theirs, 4)
    same(other, theirs)


def test_rows_end_in_one_column_with_zeros_on_their_left():
    rows = [KEYS[:1, :, :2], KEYS[1:, :, :0], KEYS[1:]]
    out = right_aligned(rows, 5, 1)
    assert out.shape == (3, 3, 6, 4)
    assert torch.equal(out[0, :, 3:5], KEYS[0, :, :2])
    assert not out[0, :, :3].any()
    assert not out[1, :, :5].any()
    assert torch.equal(out[2, :, :5], KEYS[1])
