"""Checkpoints are whole or absent: what is written replaces what was, and what is broken is said."""

import json
import os
import zipfile

import pytest
import torch
from support.stored_checkpoints import Nothing, cut, flip, hole, save_file, save_folder, trainer

from lit_longpo.checkpoints import fault, newest_whole
from lit_longpo.checkpoints.whole import MANIFEST, advice, contents_hash, damage, refuse_broken


@pytest.mark.parametrize("save", [save_file, save_folder])
def test_a_checkpoint_replaces_an_older_one_and_leaves_nothing_else(save, tmp_path):
    path = save(tmp_path / "last.ckpt", 1)
    save(path, 2)
    assert fault(path) is None
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]
    stored = torch.load(path if path.is_file() else path / "checkpoint/rank0.pt", weights_only=True)
    assert float((stored["state_dict"]["weight"] if isinstance(stored, dict) else stored)[0]) == 2.0


def test_files_and_folders_replace_each_other(tmp_path):
    path = save_file(tmp_path / "last.ckpt")
    assert save_folder(path).is_dir()
    assert fault(path) is None
    assert save_file(path).is_file()
    assert fault(path) is None


def test_what_is_wrong_is_said(tmp_path):
    assert "not there" in fault(tmp_path / "none.ckpt")
    file, folder = save_file(tmp_path / "file.ckpt"), save_folder(tmp_path / "folder.ckpt")
    cut(file)
    assert "cut off" in fault(file)
    raw = bytearray(save_file(file).read_bytes())
    raw[raw.rindex(b"PK\x06\x07") + 16] = 2  # of two disks
    file.write_bytes(raw)
    assert "not a torch file" in fault(file)
    size = (folder / "checkpoint/rank0.pt").stat().st_size
    cut(folder / "checkpoint/rank0.pt")
    assert f"checkpoint/rank0.pt has {size // 2:,} bytes instead of {size:,}" in fault(folder)
    (folder / "checkpoint/rank0.pt").unlink()
    assert "checkpoint/rank0.pt is missing" in fault(folder)
    (folder / MANIFEST).unlink()
    assert fault(folder) is None  # Lightning's own trainer writes no list; `latest` is the last file
    (folder / "latest").unlink()
    assert "not written to the end, or by another program" in fault(folder)  # DeepSpeed's universal folders are whole


@pytest.mark.parametrize("harm", [flip, hole])
@pytest.mark.parametrize("save", [save_file, save_folder])
def test_changed_bits_are_other_weights_and_refused(save, harm, tmp_path):
    """torch loads them without a word."""
    path = save(tmp_path / "last.ckpt")
    assert damage(path) is None
    harm(path if path.is_file() else path / "checkpoint/rank0.pt")
    torch.load(path if path.is_file() else path / "checkpoint/rank0.pt", weights_only=True)
    assert fault(path) is None
    with pytest.raises(ValueError, match=r"expected a whole checkpoint at .*damaged.*; set --checkpoint$"):
        refuse_broken(path, "--checkpoint")  # and is not told to type the same path
    good = save_file(tmp_path / "older.ckpt")
    os.utime(good, (1, 1))
    with pytest.raises(ValueError, match=r"; type --checkpoint .*older\.ckpt$"):
        refuse_broken(path, "--checkpoint")


@pytest.mark.parametrize("lost", ["", "data.pkl", "data/0", "version"])
def test_an_archive_without_its_parts_is_damaged_and_nobody_is_distrusted(lost, tmp_path):
    """Rewritten by another program: every checksum agrees, of what is there."""
    save_file(tmp_path / "whole.ckpt")
    path = tmp_path / "last.ckpt"
    with zipfile.ZipFile(tmp_path / "whole.ckpt") as whole, zipfile.ZipFile(path, "w") as archive:
        for name in whole.namelist():
            if not name.endswith(lost):
                archive.writestr(name, whole.read(name))
    with pytest.raises(ValueError, match=r"but it is damaged: parts of what torch writes are missing \(.*; type"):
        refuse_broken(path, "--checkpoint")
    with pytest.raises(ValueError, match=r"but it is damaged: parts of what torch writes are missing"):
        trainer(tmp_path).fit(Nothing(), ckpt_path=path)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", "null", '{"files": {}}', '{"strategy": 1, "world_size": "2", "files": []}', "\xff"]
)
def test_a_damaged_list_of_files_is_said_and_others_are_found(text, tmp_path):
    """One anywhere below the root once ended `--ckpt_path last` in a traceback."""
    good = save_file(tmp_path / "good.ckpt")
    path = save_folder(tmp_path / "bad.ckpt")
    (path / MANIFEST).write_bytes(text.encode("latin-1"))
    assert "its list of files is damaged" in fault(path)
    assert newest_whole(tmp_path) == good


@pytest.mark.parametrize(
    ("files", "checksums", "wrong"),
    [
        ({"a" * 5000: 1}, {"a" * 5000: "0"}, "is missing"),
        ({"a\0b": 1}, {"a\0b": "0"}, "is missing"),
        ({"../good.ckpt": 1}, {"../good.ckpt": "0"}, "is missing"),
        ({"meta.pt": 1}, {}, "not as many checksums as sizes"),
        ({}, {"meta.pt": "0"}, "not as many checksums as sizes"),
    ],
)
def test_a_list_of_files_names_only_what_is_in_the_folder(files, checksums, wrong, tmp_path):
    """The system refuses to look for the first two, and a file without a size was opened."""
    save_file(tmp_path / "good.ckpt")
    path = save_folder(tmp_path / "bad.ckpt")
    (path / MANIFEST).write_text(json.dumps({"strategy": "x", "world_size": 1, "files": files, "checksums": checksums}))
    assert wrong in fault(path)
    assert len(fault(path)) < 300


def test_a_folder_without_its_list_of_files_is_told_and_one_without_checksums_refused(tmp_path, caplog):
    """A copy may lack the list; torch reads changed bits as other weights."""
    path = save_folder(tmp_path / "last.ckpt")
    assert damage(path) is None
    assert not caplog.text
    listed = json.loads((path / MANIFEST).read_text())
    (path / MANIFEST).write_text(json.dumps({name: value for name, value in listed.items() if name != "checksums"}))
    assert "'checksums': expected to be there" in fault(path)
    (path / MANIFEST).unlink()
    assert fault(path) is damage(path) is None
    assert "last.ckpt has no checkpoint.json with checksums" in caplog.text


def test_folders_that_are_no_checkpoints_are_called_what_they_are(tmp_path):
    """A run's folder and a model's were once "not written to the end"."""
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    (tmp_path / "model").mkdir()
    (tmp_path / "model/adapter_config.json").write_text("{}")
    last = save_file(tmp_path / "run/checkpoints/last.ckpt")
    assert fault(tmp_path / "run") == "it is a folder around checkpoints"
    assert "`policy.source` takes" in fault(tmp_path / "model")
    assert advice(tmp_path / "run", "--checkpoint") == f"type --checkpoint {last}"
    assert advice(tmp_path / "run/checkpoints/lst.ckpt", "--checkpoint") == f"type --checkpoint {last}"
    assert advice(tmp_path / "model", "--checkpoint") == "set --checkpoint"


def test_a_link_to_a_deleted_checkpoint_is_passed_over(tmp_path):
    (tmp_path / "last.ckpt").symlink_to(tmp_path / "deleted.ckpt")
    assert newest_whole(tmp_path) is None
    good = save_file(tmp_path / "step=2.ckpt")
    assert newest_whole(tmp_path) == good


def test_a_process_killed_while_a_folder_is_replaced_leaves_a_whole_one(tmp_path, monkeypatch):
    path = save_folder(tmp_path / "last.ckpt", 1)
    original = type(path).rename

    def rename(source, target):
        if source.name.endswith(".partial"):
            raise KeyboardInterrupt
        return original(source, target)

    monkeypatch.setattr(type(path), "rename", rename)
    with pytest.raises(KeyboardInterrupt):
        save_folder(path, 2)
    assert newest_whole(tmp_path).name == "last-replaced.ckpt"
    monkeypatch.undo()
    (tmp_path / "last.ckpt.partial").rename(tmp_path / "kept.partial")
    save_folder(path, 3)
    assert newest_whole(tmp_path) == path


def test_the_list_of_files_says_who_wrote_it(tmp_path):
    manifest = json.loads((save_folder(tmp_path / "last.ckpt") / MANIFEST).read_text())
    assert (manifest["strategy"], manifest["world_size"]) == ("AnyDeviceDeepSpeedStrategy", 2)
    assert set(manifest["files"]) == {"latest", "checkpoint/rank0.pt"}


@pytest.mark.parametrize("save", [save_file, save_folder])
def test_contents_have_a_hash_that_moves_with_them(save, tmp_path):
    path = save(tmp_path / "last.ckpt", 1)
    before = contents_hash(path)
    moved = path.rename(tmp_path / "moved.ckpt")
    assert contents_hash(moved) == before != contents_hash(save(moved, 2))
    assert contents_hash(path) is None  # nothing is there


def test_the_hash_of_a_file_is_that_of_its_tensors(tmp_path):
    """Trained anew with the same seed, a checkpoint says other times and places, and holds the same weights."""
    one, other = tmp_path / "one.ckpt", tmp_path / "other.ckpt"
    for path, seconds in ((one, 1), (other, 2)):
        torch.save({"state_dict": {"weight": torch.ones(3)}, "where": str(path), "seconds": seconds}, path)
    assert contents_hash(one) == contents_hash(other)
