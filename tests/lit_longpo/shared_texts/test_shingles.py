"""Shingles of lines: against a plain search over all windows; what two lines with a common run share."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_longpo.shared_texts import shingles
from lit_longpo.shared_texts.shingles import _hashes, chosen_shingles, window_for

LETTERS = "abcdefghijklmnopqrstuvwxyz ,.桥河é"


def text(seed: int, length: int) -> str:
    return "".join(random.Random(seed).choices(LETTERS, k=length))


@settings(max_examples=20)
@given(st.text(min_size=8, max_size=30), st.integers(1, 8))
def test_hashes_depend_on_the_run_alone(line, size):
    """Neither on where it stands nor on what stands around it; and they tell runs apart."""
    found = _hashes(line, size).tolist()
    runs = [line[start : start + size] for start in range(len(line) - size + 1)]
    alone = [_hashes(run, size).item() for run in runs]
    assert found == alone
    assert len(set(found)) == len(set(runs))


@pytest.mark.parametrize("length", [130, 131, 132, 400, 1500])
def test_the_smallest_of_every_window_is_chosen(length, monkeypatch):
    line = text(0, length)
    every = _hashes(line, 100)
    expected = {int(every[start : start + 32].min()) for start in range(len(every) - 31)}
    assert chosen_shingles(line, 100, 32) == expected
    monkeypatch.setattr(shingles, "_BLOCK", 300)  # long texts are read block by block
    assert chosen_shingles(line, 100, 32) == expected


@settings(max_examples=20)
@given(
    seed=st.integers(0, 999),
    around=st.tuples(st.integers(0, 300), st.integers(0, 300), st.integers(0, 3000), st.integers(0, 3000)),
    windows=st.tuples(st.sampled_from([32, 64]), st.sampled_from([64, 128])),
)
def test_a_common_run_of_a_shingle_and_a_window_is_found(seed, around, windows):
    common = text(seed, 100 + max(windows) - 1)
    before, behind, far_before, far_behind = (text(seed + n, length) for n, length in enumerate(around, 1))
    one = chosen_shingles(before + common + behind, 100, windows[0])
    other = chosen_shingles(far_before + common + far_behind, 100, windows[1])
    assert one & other
    assert not one & chosen_shingles(text(seed + 9, 2000), 100, windows[1])


@pytest.mark.parametrize("length", [100, 1_000, 100_000])
def test_how_many_are_chosen_does_not_grow_with_the_text(length):
    draw = np.random.default_rng(0)
    line = "".join(map(chr, draw.integers(0x4E00, 0x9FFF, length)))
    assert len(chosen_shingles(line, 100, window_for(length))) <= 90
