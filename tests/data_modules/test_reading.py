"""Where pairs are read from, and what a label lets pass."""

from pathlib import Path

import pytest

from data_modules import PreferenceDataModule
from data_modules.reading import keep_verified
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
