"""Where pairs are read from, what a label lets pass, and how a split is held out."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_modules import PreferenceDataModule
from data_modules.reading import hold_out, keep_verified
from data_modules.records import PreferencePair, write_pairs

LABELLED = [
    PreferencePair(f"p{n}", "q", "short", "long", "yes", ("no",), verified=label)
    for n, label in enumerate((True, None, False))
]


@pytest.mark.parametrize(("keep", "ids"), [("all", "p0 p1 p2"), ("not_worse", "p0 p1"), ("verified", "p0")])
def test_fit_filters_by_the_label(tmp_path: Path, keep, ids):
    write_pairs(tmp_path / "pairs.jsonl", LABELLED)
    data = PreferenceDataModule(str(tmp_path / "pairs.jsonl"), val_fraction=0.0, keep=keep)
    assert " ".join(pair.id for pair in data.pairs("train")) == ids


def test_a_filter_that_leaves_nothing_says_what_to_do():
    with pytest.raises(ValueError, match="set it to `all`"):
        keep_verified(LABELLED[1:], "verified", "data.init_args.keep")


@given(st.integers(2, 60), st.floats(0, 0.9), st.integers(0, 3))
def test_held_out_share(count: int, fraction: float, seed: int) -> None:
    expected = max(1, round(fraction * count)) if fraction else 0
    if expected >= count:
        with pytest.raises(ValueError, match=r"lower `data.init_args.val_fraction`"):
            hold_out(range(count), fraction, seed)
        return
    kept, held = hold_out(range(count), fraction, seed)
    assert sorted(kept + held) == list(range(count))
    assert len(held) == expected
    assert (kept, held) == hold_out(range(count), fraction, seed)
    assert (kept, held) == (sorted(kept), sorted(held))
