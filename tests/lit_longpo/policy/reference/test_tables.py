import random
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support.groups import random_groups

from lit_longpo.engine import pack
from lit_longpo.policy.reference import tables as reference_tables
from lit_longpo.policy.reference.cache import ReferenceCache
from lit_longpo.policy.reference.reference import check_shared
from lit_longpo.policy.reference.tables import ValueTable, merged_table, table_keys

ROWS = [pack(random_groups([(5, [2, 3])], seed=seed)) for seed in range(4)]


def many(count, seed=0):
    """Fingerprints with zeros at both ends and in between, which C strings would end at, and neighbours."""
    draw = random.Random(seed)
    made = {bytes(draw.choice([0, 0, 1, 32, 255]) for _ in range(16)).hex() for _ in range(count)}
    return {fingerprint: np.float32(draw.gauss(-50, 30)).item() for fingerprint in sorted(made, key=hash)}


@pytest.mark.parametrize("merged", [False, True])
def test_a_table_gives_what_a_dictionary_does(tmp_path, merged):
    values = many(2000)
    absent = [name for name in many(500, seed=1) if name not in values]
    ValueTable.of(values).save(tmp_path / "a", merged=merged)
    table = ValueTable.read(tmp_path / "a")
    assert (len(table), table.merged) == (len(values), merged)
    assert table.find(table_keys(list(values))).tolist() == list(values.values())
    assert len(absent) > 100
    assert np.isnan(table.find(table_keys(absent))).all()
    assert np.isnan(ValueTable.of({}).find(table_keys(absent))).all()


def test_of_a_key_in_several_tables_the_first_counts_and_what_stays_is_left_out():
    first, second = ({f"{n:032x}": value for n in numbers} for numbers, value in (((1, 2, 3), -1.0), ((3, 4), -2.0)))
    table = merged_table([ValueTable.of(first), ValueTable.of(second)], [ValueTable.of({f"{2:032x}": -9.0})])
    wanted = [f"{n:032x}" for n in (1, 2, 3, 4)]
    np.testing.assert_array_equal(table.find(table_keys(wanted)), np.float32([-1, np.nan, -1, -2]))


def store(folder, *rows):
    """What a pass over the rows stores, each row in a file of its own."""
    cache = ReferenceCache(folder)
    cache.load()
    for row in rows:
        cache.add(row, -torch.arange(1.0, 1 + len(row.slots)))
        cache.flush()
    return cache


def loaded(folder):
    cache = ReferenceCache(folder)
    cache.load()
    return cache


def files(folder):
    return set(folder.glob("*.safetensors"))


def test_a_pass_ends_in_one_file_that_is_mapped_and_stays(tmp_path):
    keys = torch.tensor([list(bytes.fromhex(name)) for name in reversed(ROWS[0].fingerprints)], dtype=torch.uint8)
    tensors = {"keys": keys, "log_probs": torch.tensor([-2.0, -1.0])}
    save_file(tensors, tmp_path / "old.safetensors", {"sha256": reference_tables._sha256(tensors)})  # in any order
    store(tmp_path, *ROWS[:3]).merge()
    before = files(tmp_path)
    assert len(before) == 1
    store(tmp_path, *ROWS).merge()
    assert files(tmp_path) > before
    assert [table.merged for table in loaded(tmp_path)._tables] == [True, True]
    for row in ROWS:
        assert loaded(tmp_path).scores(row).sums.tolist() == [-1.0, -2.0]
    assert len(loaded(tmp_path)) == 8


def test_what_was_merged_when_the_run_was_killed_is_not_there_twice(tmp_path, monkeypatch):
    with monkeypatch.context() as killed:
        killed.setattr("pathlib.Path.unlink", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            store(tmp_path, *ROWS).merge()
    assert len(files(tmp_path)) == 5
    assert len(loaded(tmp_path)) == 8
    loaded(tmp_path).merge()
    assert len(files(tmp_path)) == 1
    assert len(loaded(tmp_path)) == 8


def test_a_folder_that_may_not_be_written_to_serves_as_it_is(tmp_path, monkeypatch):
    cache = store(tmp_path, *ROWS)
    with monkeypatch.context() as others:
        others.setattr(ValueTable, "save", lambda *_, **__: (_ for _ in ()).throw(PermissionError("read-only")))
        cache.merge()
    assert len(files(tmp_path)) == 4
    assert all(loaded(tmp_path).has(row.fingerprints) for row in ROWS)


def test_files_that_another_run_merges_meanwhile_are_found_again(tmp_path, monkeypatch):
    store(tmp_path, *ROWS)
    other, read = loaded(tmp_path), ValueTable.read

    def merged_before_it_is_read(path):
        monkeypatch.setattr(ValueTable, "read", read)
        other.merge()
        return read(path)

    monkeypatch.setattr(ValueTable, "read", merged_before_it_is_read)
    cache = loaded(tmp_path)
    assert all(cache.has(row.fingerprints) for row in ROWS)
    assert cache._damaged == set()


def test_a_folder_that_each_machine_has_of_its_own_is_refused(tmp_path):
    cache = store(tmp_path, ROWS[0])

    def trainer(*rows):
        """Whose ranks have these first rows."""
        theirs = torch.tensor([list(bytes.fromhex(row.fingerprints[0])) for row in rows], dtype=torch.uint8)
        gather = {"all_gather": lambda own: torch.stack([own, *theirs]), "root_device": torch.device("cpu")}
        return SimpleNamespace(strategy=SimpleNamespace(**gather))

    check_shared(cache, [ROWS[0]], trainer(ROWS[0]))
    check_shared(cache, [], trainer(ROWS[0]))  # without rows there is nothing to be found
    with pytest.raises(ValueError, match=r"got none of 2 of them: .* type --reference.cache_dir FOLDER"):
        check_shared(cache, [ROWS[0]], trainer(ROWS[0], ROWS[1], ROWS[2]))


def test_values_take_no_memory_of_the_process(tmp_path):
    number = 20_000
    draw = np.random.default_rng(0)
    keys = np.unique(draw.integers(0, 256, (number, 16), dtype=np.uint8).view("S16")[:, 0])
    path = tmp_path / "a.safetensors"
    ValueTable(keys, draw.standard_normal(len(keys)).astype(np.float32)).save(path, merged=True)
    assert path.stat().st_size == pytest.approx(20 * number, rel=0.02)  # a key of 16 bytes, a value of 4
    tracemalloc.start()
    try:
        cache = loaded(tmp_path)
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(cache) == number
    assert taken / number < 1  # a dictionary's entry takes more than 100


def test_a_link_that_leads_nowhere_is_left_out_with_a_word(tmp_path, caplog):
    store(tmp_path, *ROWS)
    (tmp_path / "gone.safetensors").symlink_to(tmp_path / "nowhere")
    assert all(loaded(tmp_path).has(row.fingerprints) for row in ROWS)
    assert "gone.safetensors is damaged" in caplog.text
