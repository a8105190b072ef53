"""What disks refuse: one line with path, need and remedy, and nothing that was whole is lost.

A full or read-only disk is a real one (tmpfs), which takes a right to mount that containers may lack.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from support import small_fit
from support.builders import world_build
from support.small_fit import fit

from data_modules.rows.stores.store_folder import StoreFolder
from evaluation.command import parse_evaluation
from evaluation.perplexity.command import perplexity
from lit_longpo.checkpoints import ResumableTrainer
from lit_longpo.checkpoints.room import CheckpointRoom, expected_states
from lit_longpo.checkpoints.whole import newest_whole
from lit_longpo.errors import StorageError, message_for_user
from lit_longpo.export.command import export_checkpoint
from lit_longpo.files.storing import check_there, check_writable, room_problem, storing
from lit_longpo.policy import PolicyConfig
from lit_longpo.policy.reference.cache import ReferenceCache


def mount(folder: Path, options: str) -> bool:
    return subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=False).returncode == 0


@pytest.fixture
def disk(tmp_path):
    """A small disk of its own; `disk(size)` mounts it, `disk(None)` makes it read-only."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def make(options):
        if not mount(folder, options):
            pytest.skip("mounting is not allowed here")
        return folder

    yield make
    subprocess.run(["umount", "-l", folder], check=False, stderr=subprocess.DEVNULL)


def fill(folder: Path, leave: int) -> Path:
    """Fill a disk but for so many bytes."""
    path = folder / "filler"
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    path.write_bytes(b"\0" * max(0, free - leave))
    return path


class FillsUp(Callback):
    """The disk is full before the second checkpoint is due."""

    def __init__(self, folder, leave):
        self.folder, self.leave = folder, leave

    def on_train_batch_start(self, trainer, *_):
        if trainer.global_step == 3 and not (self.folder / "filler").exists():
            fill(self.folder, self.leave)


@pytest.fixture
def fills_up(monkeypatch):
    """`small_fit` on a disk that fills up."""

    def install(folder, leave):
        made = ResumableTrainer.__init__

        def init(self, *arguments, callbacks, **options):
            made(self, *arguments, callbacks=[FillsUp(folder, leave), *callbacks], **options)

        monkeypatch.setattr(ResumableTrainer, "__init__", init)

    return install


@pytest.mark.parametrize("known", [True, False])
def test_a_full_disk_leaves_the_checkpoint_before_it(known, disk, fills_up, policy_folder, monkeypatch):
    """Seen before a byte is written where the size is known; else when the disk says so."""
    folder = disk("size=24m")
    if not known:
        monkeypatch.setattr("lit_longpo.checkpoints.room.room_problem", lambda *_: None)
    fills_up(folder, leave=4096)
    with pytest.raises(StorageError, match=r"MB.*free.*--trainer\.default_root_dir FOLDER") as error:
        fit(PolicyConfig(source=str(policy_folder)), folder, steps=4)
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)
    assert not list(folder.glob("*.partial"))
    assert newest_whole(folder) == folder / "step=2.ckpt"
    (folder / "filler").unlink()
    monkeypatch.undo()
    resumed = fit(PolicyConfig(source=str(policy_folder)), folder, steps=4, resume=folder / "step=2.ckpt")
    assert resumed.global_step == 4


def test_a_full_disk_is_said_before_the_first_row(disk, policy_folder, monkeypatch):
    folder = disk("size=1m")
    fill(folder, leave=40_000)
    monkeypatch.setattr("lit_longpo.objectives.base.PreferenceModule.training_step", lambda *_: pytest.fail("trained"))
    with pytest.raises(StorageError, match=r"expected room for a checkpoint of about 0\.[23] MB at .*disk") as error:
        fit(PolicyConfig(source=str(policy_folder)), folder)
    assert "goes on" not in str(error.value)  # nothing was written yet


def test_the_optimizers_state_is_counted_before_there_is_one(policy_folder, tmp_path, monkeypatch):
    """Room for the weights alone would be found too little at the first checkpoint, after hours."""
    counted = list[int]()
    early = CheckpointRoom.check_early
    monkeypatch.setattr(
        CheckpointRoom, "check_early", lambda room: (counted.append(expected_states(room._trainer)), early(room))
    )
    trainer = fit(PolicyConfig(source=str(policy_folder)), tmp_path)
    states = (value for state in trainer.optimizers[0].state.values() for value in state.values())
    assert counted == [sum(value.nbytes for value in states)]
    monkeypatch.setattr("lit_longpo.checkpoints.room.room_problem", lambda _, need: f"{need} bytes")
    trained = sum(parameter.nbytes for parameter in trainer.lightning_module.parameters() if parameter.requires_grad)
    with pytest.raises(StorageError, match=f"expected room for a checkpoint of {trained + counted[0]} bytes"):
        fit(PolicyConfig(source=str(policy_folder)), tmp_path / "again")


def benchmark(output):
    words = ["--config", "needle", "--benchmark.lengths", "[128]", "--benchmark.num_examples", "1"]
    return parse_evaluation([*words, "--output", str(output)])[0]


def test_a_read_only_disk_is_said_before_a_model_is_loaded(disk, policy_folder, monkeypatch, tmp_path):
    folder, text = disk("ro"), tmp_path / "text.txt"
    text.write_text("a b c d " * 8)
    torch.save({"state_dict": {}}, tmp_path / "last.ckpt")
    monkeypatch.setattr(PolicyConfig, "load", lambda *_: pytest.fail("a model was loaded"))
    for write in (
        lambda: fit(PolicyConfig(source=str(policy_folder)), folder / "run"),
        lambda: world_build(folder / "run").run(),
        lambda: perplexity(["--path", str(text), "--output", str(folder / "run"), "--lengths", "[8]"]),
        lambda: benchmark(folder / "run").run(),
        lambda: export_checkpoint(str(tmp_path / "last.ckpt"), str(folder / "run" / "model")),
    ):
        with pytest.raises(StorageError, match=r"expected to write to .*disk/run, but it is read-only.*or type --"):
            write()


def test_a_build_goes_on_when_there_is_room_again(disk, tmp_path):
    folder = disk("size=1m")
    check_writable(folder / "build", "--output FOLDER")
    filler = fill(folder, leave=3 * 4096)  # manifest and a few answers
    with pytest.raises(StorageError, match=r"expected to write to .*, but no space is left .*--output FOLDER"):
        world_build(folder / "build").run()
    filler.unlink()
    for place in (folder / "build", tmp_path / "undisturbed"):
        world_build(place).run()
    for name in ("pairs.jsonl", "report.json"):
        assert (folder / "build" / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()


def test_a_store_of_tokens_is_refused_by_its_own_setting(disk):
    store = StoreFolder(disk("ro") / "tokens", "key")
    with pytest.raises(StorageError, match=r"tokens, but it is read-only; let .*or type --data\.token_cache FOLDER"):
        store.open_or_write(list, dict)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_a_folder_of_somebody_else_is_said(tmp_path):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setuid(65534)  # root may write everywhere
        try:
            check_writable(Path("/root/run"), "--output FOLDER")
        except StorageError as error:
            os.write(writer, str(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with open(reader) as said:
        assert re.match(r"expected to write to /root.*, but no permission.*or type --output FOLDER", said.read())


def test_a_deleted_folder_is_said_and_checkpoints_go_on(policy_folder, tmp_path, caplog):
    class Deletes(ModelCheckpoint):
        def on_train_batch_start(self, trainer, *_):
            if trainer.global_step == 3:
                shutil.rmtree(tmp_path / "run")

    made = small_fit.ModelCheckpoint
    small_fit.ModelCheckpoint = Deletes
    try:
        fit(PolicyConfig(source=str(policy_folder)), tmp_path / "run", steps=4)
    finally:
        small_fit.ModelCheckpoint = made
    assert "deleted meanwhile" in caplog.text
    assert newest_whole(tmp_path / "run") is not None


def test_the_reference_cache_names_its_own_setting(disk):
    folder = disk("size=64k")
    cache = ReferenceCache(folder / "cache")
    fill(folder, leave=0)
    cache._new = {f"{n:032x}": 1.0 for n in range(100)}
    with pytest.raises(StorageError, match=r"no space is left .*--reference\.cache_dir FOLDER"):
        cache.flush()
    (folder / "filler").unlink()
    cache.flush()
    assert len(list((folder / "cache").glob("*.safetensors"))) == 1


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device"), "no space is left"),
        (RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"), "no space is left"),
        (PermissionError(13, "Permission denied", "/x/y"), "/x/y, but no permission"),
        (
            RuntimeError("[enforce fail at inline_container.cc] . PytorchStreamWriter failed writing file"),
            "the disk rep",
        ),
        (OSError(122, "Disk quota exceeded"), "the quota is used up"),
        (NotADirectoryError(20, "Not a directory", "/x/y"), "/x/y, but a file is where a folder has to be; move that"),
        (FileExistsError(17, "File exists", "/x/y"), "/x/y, but something of that name is there already; move it"),
    ],
)
def test_whoever_meets_it_it_is_said_alike(error, said, tmp_path):
    outer = ValueError("a library's own words")
    outer.__context__ = error
    with pytest.raises(StorageError, match=said), storing(tmp_path, "--output FOLDER"):
        raise outer


def test_a_file_in_place_of_a_folder_is_one_line(tmp_path):
    file = tmp_path / "pairs.jsonl"
    file.write_text("{}")
    for folder in (file, file / "below"):
        with pytest.raises(StorageError, match=r"pairs\.jsonl.* move .*, or type --output FOLDER"):
            check_writable(folder, "--output FOLDER")
        with pytest.raises(OSError, match="pairs") as caught:
            folder.mkdir(parents=True, exist_ok=True)
        assert "name another place" in (message_for_user(caught.value) or "")


def test_a_folder_that_no_system_makes_is_one_line():
    """/proc says that it is not there."""
    with pytest.raises(StorageError, match=r"/proc/x, but no folder can be made there; .*, or type --output FOLDER"):
        check_writable(Path("/proc/x/y"), "--output FOLDER")


def test_what_a_hub_does_not_store_is_no_folder_that_cannot_be_made(tmp_path):
    """Its error is a FileNotFoundError, too, without a file's name."""
    with pytest.raises(ConnectionError, match="no hub"), storing(tmp_path, "--output FOLDER"):
        raise ConnectionError("no hub") from LocalEntryNotFoundError("not in the cache")


def test_a_name_that_no_system_takes_is_said_by_its_beginning(tmp_path):
    long = tmp_path / ("[" * 3000)
    wanted = r"\[\.\.\., but its name is too long; shorten it"
    with pytest.raises(StorageError, match=wanted) as refused, storing(long, "--output FOLDER"):
        long.mkdir()
    assert len(str(refused.value)) < 1200


def test_other_errors_pass(tmp_path):
    for error in (KeyError("x"), FileNotFoundError(2, "no", "/elsewhere/x"), RuntimeError("CUDA error 28")):
        with pytest.raises(type(error)), storing(tmp_path, "--output FOLDER"):
            raise error


def test_what_is_written_to_a_deleted_file_is_not_lost_in_silence(tmp_path):
    path = tmp_path / "answers.jsonl"
    with path.open("ab") as file:
        check_there(file, path, "--output FOLDER")
        path.unlink()
        with pytest.raises(StorageError, match=r"answers\.jsonl, but it is not there any more"):
            check_there(file, path, "--output FOLDER")


def test_room_is_compared_with_what_is_needed(tmp_path):
    assert room_problem(tmp_path / "not" / "yet", 1) is None
    assert "GB that are free" in (room_problem(tmp_path, 1 << 60) or "")


def test_a_file_that_may_not_be_read_is_one_line():
    message = message_for_user(PermissionError(13, "Permission denied", "/data/pairs.jsonl"))
    assert message == (
        "expected to read or write /data/pairs.jsonl, but no permission; put that right, or name another place"
    )
    assert message_for_user(FileNotFoundError(2, "no", "/x")) is None  # perhaps a mistake of ours
