"""Where pairs are read from, and what a label lets pass."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from data_modules import PreferenceDataModule
from data_modules.formats import ids as ids_of_records
from data_modules.formats.loading import keep_verified
from data_modules.records import PreferencePair, write_pairs
from lit_longpo.files.strict_json import RecordError

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


@pytest.mark.parametrize(
    ("in_full", "said"), [(100, r"pairs.jsonl:4: field 'id'.*see .*pairs.jsonl:2"), (1, "records 2 and 4")]
)
def test_an_id_that_comes_twice_is_refused_however_many_there_are(tmp_path: Path, monkeypatch, in_full, said):
    monkeypatch.setattr(ids_of_records, "_IDS_IN_FULL", in_full)
    path = tmp_path / "pairs.jsonl"
    names = ["a", "b", "c", "b", "d"]
    write_pairs(path, [replace(LABELLED[0], id=f"{number}-{name}") for number, name in enumerate(names)])
    path.write_text(re.sub(r"\d-", "", path.read_text()))
    with pytest.raises(RecordError, match=said):
        PreferenceDataModule(str(path), val_fraction=0.0).pairs("train")
