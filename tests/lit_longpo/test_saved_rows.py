"""Rows in a file: read back as they were, and nothing else is taken for them."""

import dataclasses

import pytest
import torch
from support.preference_data import RandomPairs

from lit_longpo.batch import Group, PreferenceBatch, Response, View, Views
from lit_longpo.engine import pack
from lit_longpo.errors import InputError
from lit_longpo.saved_rows import read_rows, save_rows

PAIR = (View("long", "chosen"), View("long", "rejected"))
SHORT = (View("short", "chosen"), View("short", "rejected"))


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, PreferenceBatch) or dataclasses.is_dataclass(one):
        return vars(one).keys() == vars(other).keys() and all(same(v, vars(other)[n]) for n, v in vars(one).items())
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[name]) for name, value in one.items())
    return one == other


@pytest.mark.parametrize("views", [Views(PAIR), Views(PAIR, PAIR), Views(PAIR, SHORT)])
@pytest.mark.parametrize("emphasis", [False, True])
def test_rows_are_read_back_as_they_were(views, emphasis, tmp_path):
    rows = list(RandomPairs(views, emphasis=emphasis).train_dataloader())
    rows[0].sources = {"a": torch.tensor([True, False]), "b": torch.tensor([False, True])}
    save_rows(tmp_path / "rows.safetensors", rows)
    again = read_rows(tmp_path / "rows.safetensors")
    assert len(again) == len(rows)
    assert all(map(same, again, rows))
    assert [row.same_row for row in again] == [row.same_row for row in rows]


def test_rows_whose_groups_share_tokens_are_read_back(tmp_path):
    answer = Response("chosen", (5, 6), (True, True))
    row = pack([Group(name, "long", (1, 2, 3, last), (answer,)) for name, last in (("a", 4), ("b", 7))], shared_from=3)
    assert row.sharing is not None
    save_rows(tmp_path / "rows.safetensors", [PreferenceBatch(row)])
    assert same(read_rows(tmp_path / "rows.safetensors")[0].policy, row)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "rows.safetensors"
    save_rows(path, list(RandomPairs(Views(PAIR)).train_dataloader()))
    path.write_bytes(path.read_bytes()[:-8])
    for file in (path, tmp_path / "absent", __file__):
        with pytest.raises(InputError, match="expected rows as `NonFiniteGuard` saves them"):
            read_rows(file)
