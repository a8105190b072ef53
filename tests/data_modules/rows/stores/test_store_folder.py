"""Tokens on disk: written once, whole or absent, and redone with a word where they are damaged."""

import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from support.word_pairs import FORMAT, VIEWS, pair

from data_modules.rows.encoding import PairEncoder
from data_modules.rows.stores import store_folder
from data_modules.rows.stores.store_folder import StoreFolder
from data_modules.rows.stores.token_store import TokenStore
from data_modules.rows.truncation import LengthPolicy, SplitLengths
from lit_longpo.errors import StorageError

FILES = ("words.bin", "table.bin", "names.bin", "keys.bin", "store.json")


class Source:
    """Examples that count how often they are made, and may end in an error."""

    def __init__(self, count=6, error=None):
        self.count, self.error, self.asked = count, error, 0

    def __call__(self):
        self.asked += 1
        encoder = PairEncoder(FORMAT, VIEWS["longpo"], LengthPolicy())
        for number in range(self.count):
            if self.error is not None and number == self.count - 1:
                raise self.error
            yield encoder.encode(pair(number), SplitLengths())


def opened(folder, source, notes=None):
    return StoreFolder(folder, "key").open_or_write(source, lambda: notes or {"asked": source.asked})


def test_the_second_run_makes_nothing_and_has_the_same(tmp_path):
    source = Source()
    first, notes = opened(tmp_path, source, {"cut": 3})
    second, again = opened(tmp_path, source)
    memory = TokenStore.of(Source()())
    assert source.asked == 1
    assert notes == again == {"cut": 3}
    assert list(first) == list(second) == list(memory)
    assert first.fingerprint() == second.fingerprint() == memory.fingerprint()
    assert list(second.names) == list(memory.names)
    assert second.lengths.tolist() == memory.lengths.tolist()
    assert second.documents[""].labels().tolist() == memory.documents[""].labels().tolist()
    assert len(memory.documents[""].keys) == len(second.documents[""].keys) > 0
    assert sorted(path.name for path in (tmp_path / "key").iterdir()) == sorted(FILES)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("a record")])
def test_an_interrupted_run_leaves_nothing_and_the_next_starts_anew(tmp_path, error):
    with pytest.raises(type(error)):
        opened(tmp_path, Source(error=error))
    assert [path.suffix for path in tmp_path.iterdir()] in ([".lock"], [])
    (tmp_path / "key.partial").mkdir()  # what a kill leaves
    (tmp_path / "key.partial" / "words.bin").write_bytes(b"half")
    store, _ = opened(tmp_path, source := Source())
    assert (len(store), source.asked) == (6, 1)
    assert not (tmp_path / "key.partial").exists()


def flip(path, place=0.5):
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [flip, lambda path: flip(path, 0.8), lambda path: os.truncate(path, 8), os.remove],
    ids=["bit", "late bit", "cut", "gone"],
)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_store_is_told_and_redone(tmp_path, name, damage, caplog):
    opened(tmp_path, Source())
    damage(tmp_path / "key" / name)
    store, _ = opened(tmp_path, source := Source())
    assert source.asked == 1
    assert "key is damaged (" in caplog.text
    assert list(store) == list(TokenStore.of(Source()()))


def is_readable(store, number):
    with suppress(ValueError):
        return bool(store[number])
    return False


def test_what_was_not_looked_at_when_opened_is_looked_at_when_read(tmp_path, monkeypatch):
    opened(tmp_path, Source())
    flip(tmp_path / "key" / "words.bin")
    monkeypatch.setattr(store_folder, "_agrees", lambda *_: True)
    store, _ = opened(tmp_path, Source())
    damaged = [number for number in range(6) if not is_readable(store, number)]
    assert len(damaged) == 1
    with pytest.raises(
        ValueError, match=rf"tokens of record 'r{damaged[0]}' in .*key are not those.*delete that folder"
    ):
        store[damaged[0]]


def test_of_a_large_file_blocks_all_over_it_are_compared(tmp_path, monkeypatch):
    monkeypatch.setattr(store_folder, "_BLOCK", 64)
    monkeypatch.setattr(store_folder, "_BLOCKS_READ", 4)
    opened(tmp_path, Source())
    words = tmp_path / "key" / "words.bin"
    whole = words.read_bytes()
    found = set()
    for block in range(len(whole) // 64):
        words.write_bytes(whole[: 64 * block] + bytes(64) + whole[64 * block + 64 :])
        found |= {block} if StoreFolder(tmp_path, "key")._fault() else set()
    assert 2 <= len(found) <= 4
    assert 0 in found
    assert max(found) >= len(whole) // 64 // 2


def test_one_process_writes_and_the_others_wait(tmp_path):
    sources = [Source(40) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(lambda source: opened(tmp_path, source)[0], sources))
    assert sum(source.asked for source in sources) == 1
    assert {store.fingerprint() for store in stores} == {TokenStore.of(Source(40)()).fingerprint()}


def test_a_worker_maps_the_files_again(tmp_path):
    store, _ = opened(tmp_path, Source())
    sent = pickle.dumps(store)
    assert len(sent) < 1000
    assert list(pickle.loads(sent)) == list(store)


def test_a_split_without_examples_is_a_store_too(tmp_path):
    opened(tmp_path, Source(0))
    store, _ = opened(tmp_path, source := Source(0))
    assert (len(store), source.asked) == (0, 0)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match=r"file, but something of that name .*or type --data\.token_cache FOLDER"):
        opened(tmp_path / "file", Source())
