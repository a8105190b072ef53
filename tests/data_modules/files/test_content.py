"""What pairs are made from, known without reading them."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from data_modules.files.content import content_of_files, content_of_pairs, content_of_source
from data_modules.records import PreferencePair
from lit_longpo.errors import MissingFileError

PAIR = PreferencePair("a", "q", "short", "long", "yes", ("no",))


def test_pairs_are_known_by_everything_in_them():
    assert content_of_pairs([PAIR]) == content_of_pairs(iter([PAIR]))
    others = [[PAIR, PAIR], [replace(PAIR, weight=2.0)], [replace(PAIR, rejected=("nope",))], []]
    assert len({content_of_pairs(pairs) for pairs in ([PAIR], *others)}) == 5


def test_a_file_that_was_written_again_is_another_though_its_size_and_time_are_not(tmp_path: Path):
    path = tmp_path / "pairs.jsonl"
    path.write_text("one")
    first, times = content_of_files(path, "settings"), path.stat()
    assert content_of_files(path, "settings") == first
    assert first.num_bytes == 3
    assert content_of_files(path, "others").identity != first.identity
    path.write_text("two")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert content_of_files(path, "settings").identity != first.identity


def test_a_folder_is_all_of_its_files(tmp_path: Path):
    (tmp_path / "part").mkdir()
    (tmp_path / "a.jsonl").write_text("1")
    first = content_of_source(str(tmp_path), "train", "data.init_args.path", None)
    (tmp_path / "part" / "b.jsonl").write_text("22")
    second = content_of_source(str(tmp_path), "train", "data.init_args.path", None)
    assert (first.num_bytes, second.num_bytes) == (1, 3)
    assert first.identity != second.identity
    assert content_of_source(str(tmp_path), "test", "data.init_args.path", None).identity != second.identity
    assert content_of_source(str(tmp_path / "none.jsonl"), "train", "data.init_args.path", None) is None


def test_a_file_that_goes_away_meanwhile_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "gone.jsonl").symlink_to(tmp_path / "nowhere")
    monkeypatch.setattr("pathlib.Path.is_file", lambda _: True)  # as it was when the folder was listed
    with pytest.raises(MissingFileError, match=r"but .*gone\.jsonl is gone; run the command again"):
        content_of_files(tmp_path, ())
