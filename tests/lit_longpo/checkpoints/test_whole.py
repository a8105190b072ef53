"""Broken, half-written and unsuitable checkpoints are refused before anything starts."""

import json
import os
import zipfile

import pytest
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.plugins.io import AsyncCheckpointIO
from lightning.pytorch.strategies import ModelParallelStrategy, SingleDeviceStrategy
from lightning.pytorch.trainer.states import TrainerFn

from lit_longpo.checkpoints import ResumableTrainer, fault, newest_whole
from lit_longpo.checkpoints.resumption import Resumption
from lit_longpo.checkpoints.trainer import check_strategy
from lit_longpo.checkpoints.whole import MANIFEST, advice, complete, damage, partial_name, refuse_broken
from lit_longpo.strategies import AnyDeviceDeepSpeedStrategy

SINGLE = SingleDeviceStrategy("cpu")


def save_file(path, value=1):
    torch.save({"state_dict": {"weight": torch.full((100,), float(value))}}, partial_name(path))
    complete(partial_name(path), path, "SingleDeviceStrategy", 1)
    return path


def save_folder(path, value=1, marker="latest"):
    partial = partial_name(path)
    (partial / "checkpoint").mkdir(parents=True)
    (partial / marker).write_text("checkpoint")
    torch.save(torch.full((100,), float(value)), partial / "checkpoint" / "rank0.pt")
    complete(partial, path, "AnyDeviceDeepSpeedStrategy", 2)
    return path


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


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


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
    assert "not written to the end" in fault(folder)


def tensor_bytes(path):
    """Where the weights lie in a file: all ones."""
    raw = path.read_bytes()
    return raw, raw.index(torch.ones(4).numpy().tobytes())


def flip(path):
    raw, start = tensor_bytes(path)
    path.write_bytes(raw[:start] + bytes([raw[start] ^ 1]) + raw[start + 1 :])


def hole(path):
    raw, start = tensor_bytes(path)
    path.write_bytes(raw[:start] + bytes(300) + raw[start + 300 :])


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


def test_checksums_are_not_expected_of_folders_of_before(tmp_path, caplog):
    path = save_folder(tmp_path / "last.ckpt")
    manifest = json.loads((path / MANIFEST).read_text())
    del manifest["checksums"]
    (path / MANIFEST).write_text(json.dumps(manifest))
    assert fault(path) is None
    assert damage(path) is None
    assert "has no checksums" in caplog.text


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
        ({"a" * 5000: 1}, {}, "is missing"),
        ({"a\0b": 1}, {}, "is missing"),
        ({"../good.ckpt": 1}, {}, "is missing"),
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


class Nothing(LightningModule):
    """Never trained: the refusal comes first."""


def trainer(folder, **options):
    return ResumableTrainer(accelerator="cpu", logger=False, default_root_dir=folder, **options)


@pytest.mark.parametrize("command", ["fit", "validate", "test"])
def test_the_error_for_a_broken_checkpoint_names_the_newest_whole_one(command, tmp_path):
    good = save_file(tmp_path / "step=2.ckpt")
    broken = save_file(tmp_path / "step=4.ckpt")
    cut(broken)
    with pytest.raises(ValueError, match=rf"step=4.ckpt, but .*cut off; type: --ckpt_path {good}"):
        getattr(trainer(tmp_path), command)(Nothing(), ckpt_path=broken)
    good.unlink()
    with pytest.raises(ValueError, match="there is no whole one of these settings"):
        getattr(trainer(tmp_path), command)(Nothing(), ckpt_path=str(broken))


@pytest.mark.parametrize("command", ["fit", "validate", "test"])
def test_a_trainer_refuses_changed_bits_and_names_another(command, tmp_path):
    good, broken = save_file(tmp_path / "step=2.ckpt"), save_file(tmp_path / "step=4.ckpt")
    flip(broken)
    flip(save_file(tmp_path / "step=6.ckpt"))
    with pytest.raises(ValueError, match=rf"step=4.ckpt, but it is damaged .*; type: --ckpt_path {good}"):
        getattr(trainer(tmp_path), command)(Nothing(), ckpt_path=broken)


def test_last_passes_over_changed_bits(tmp_path, caplog):
    good, broken = save_file(tmp_path / "step=2.ckpt"), save_file(tmp_path / "step=4.ckpt")
    flip(broken)
    assert trainer(tmp_path)._usable("last", {}, fitting=False) == good
    assert f"passing over {broken}: it is damaged" in caplog.text


@pytest.mark.parametrize("command", ["fit", "validate"])
def test_the_checkpoint_that_is_named_instead_is_of_this_objective(command, tmp_path):
    """That of another objective would be refused, too."""
    ours = save_file(tmp_path / "ours.ckpt")
    theirs = save_file(tmp_path / "theirs.ckpt")
    for path, objective in ((ours, "DPO"), (theirs, "SoLoPO")):
        torch.save({**torch.load(path), "run": {"objective": objective, "settings": {"model": objective}}}, path)
    model = Nothing()
    model.settings = {"model": "DPO"}
    with pytest.raises(ValueError, match=f"nothere.ckpt.* type: --ckpt_path {ours}"):
        getattr(trainer(tmp_path), command)(model, ckpt_path=tmp_path / "nothere.ckpt")
    ours.unlink()
    with pytest.raises(ValueError, match="there is no whole one of these settings"):
        getattr(trainer(tmp_path), command)(model, ckpt_path=tmp_path / "nothere.ckpt")


def test_last_is_the_newest_whole_one_of_any_earlier_run(tmp_path, caplog):
    first = tmp_path / "lightning_logs/version_0/checkpoints"
    second = tmp_path / "lightning_logs/version_1/checkpoints"
    for folder in (first, second):
        folder.mkdir(parents=True)
    good = save_file(first / "last.ckpt")
    cut(save_file(second / "last.ckpt"))
    partial_name(second / "step=9.ckpt").write_bytes(good.read_bytes())
    assert newest_whole(tmp_path) == good
    assert trainer(tmp_path)._usable("last", {}, fitting=False) == good
    assert f"going on from {good}" in caplog.text
    assert trainer(first / "nothing")._usable("last", {}, fitting=False) is None
    assert "no whole checkpoint" in caplog.text


@pytest.mark.parametrize("fits", [True, False])
def test_under_slurm_only_a_checkpoint_of_this_run_is_gone_on_from(fits, tmp_path, monkeypatch, caplog):
    """Lightning takes any `hpc_ckpt_N.ckpt` of the root folder there, if nothing is named."""
    monkeypatch.setattr(SLURMEnvironment, "detect", lambda: True)
    path, objective = save_file(tmp_path / "hpc_ckpt_1.ckpt"), "DPO" if fits else "SoLoPO"
    torch.save({**torch.load(path), "run": {"objective": objective, "settings": {"model": objective}}}, path)
    flip(save_file(tmp_path / "hpc_ckpt_2.ckpt"))
    one, model = trainer(tmp_path), {"model_provided": True, "model_connected": True}
    connector = Resumption(one, one._start(None, {"model": "DPO"})[1], lambda path: None, one._damage)
    assert connector._parse_ckpt_path(TrainerFn.FITTING, None, **model) is None
    assert connector._last_of_this_data(connector.last) == (path if fits else None)
    assert f"passing over {tmp_path / 'hpc_ckpt_2.ckpt'}: it is damaged" in caplog.text
    assert one._scored(None, Nothing(), None) is None
    assert one._checkpoint_connector._parse_ckpt_path(TrainerFn.VALIDATING, None, **model) is None


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


def test_a_folder_of_another_strategy_is_refused_with_what_to_type(tmp_path):
    folder = save_folder(tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match=r"DeepSpeed folder of AnyDevice.* with 2 processes.*reads a file"):
        check_strategy(folder, SINGLE, 1, fitting=True)
    with pytest.raises(ValueError, match=r"python -m lit_longpo export --checkpoint .*--policy.source FOLDER"):
        check_strategy(folder, ModelParallelStrategy(), 2, fitting=True)
    with pytest.raises(ValueError, match="expected a checkpoint file or folder"):
        check_strategy(tmp_path, SINGLE, 1, fitting=True)
    check_strategy(save_file(tmp_path / "file.ckpt"), SINGLE, 1, fitting=True)


def test_fsdp2_reads_and_writes_folders_alone(tmp_path):
    with pytest.raises(ValueError, match=r"is a file, ModelParallelStrategy reads a torch folder; go on with the over"):
        check_strategy(save_file(tmp_path / "last.ckpt"), ModelParallelStrategy(), 2, fitting=True)
    whole = ModelParallelStrategy(data_parallel_size=1, save_distributed_checkpoint=False)
    with pytest.raises(ValueError, match=r"got ModelParallelStrategy with `save_distributed_checkpoint: false`"):
        trainer(tmp_path, devices=1, strategy=whole).fit(Nothing())


def test_deepspeed_keeps_its_number_of_processes(tmp_path):
    pytest.importorskip("deepspeed")
    folder = save_folder(tmp_path / "last.ckpt")
    strategy = AnyDeviceDeepSpeedStrategy(stage=2)
    check_strategy(folder, strategy, 2, fitting=True)
    check_strategy(folder, strategy, 1, fitting=False)
    with pytest.raises(ValueError, match=r"saved by 2 processes.*over 4; set --trainer.devices"):
        check_strategy(folder, strategy, 4, fitting=True)


def test_the_list_of_files_says_who_wrote_it(tmp_path):
    manifest = json.loads((save_folder(tmp_path / "last.ckpt") / MANIFEST).read_text())
    assert (manifest["strategy"], manifest["world_size"]) == ("AnyDeviceDeepSpeedStrategy", 2)
    assert set(manifest["files"]) == {"latest", "checkpoint/rank0.pt"}


def test_asynchronous_checkpoints_are_refused(tmp_path):
    with pytest.raises(ValueError, match="remove AsyncCheckpointIO"):
        trainer(tmp_path, plugins=[AsyncCheckpointIO()]).save_checkpoint(tmp_path / "last.ckpt")


def test_a_dry_run_writes_no_checkpoint(tmp_path):
    last = ModelCheckpoint(tmp_path, save_last=True)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    ResumableTrainer(fast_dev_run=True, default_root_dir=tmp_path, callbacks=[last], **quiet).fit(BoringModel())
    assert not list(tmp_path.iterdir())
