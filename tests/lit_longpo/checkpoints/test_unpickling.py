"""Checkpoints that would run code when they are loaded are refused; each of these would leave a file behind."""

import io
import pickle
import zipfile

import pytest
import torch
from lightning.pytorch.demos.boring_classes import BoringModel
from torch.distributed.checkpoint import FileSystemWriter, filesystem, save
from torch.distributed.checkpoint.metadata import StorageMeta

from lit_longpo.checkpoints import ResumableTrainer, read_record, read_weights
from lit_longpo.checkpoints.unpickling import code_in
from lit_longpo.checkpoints.whole import complete, partial_name
from lit_longpo.errors import InputError

PLAIN = {"state_dict": {"model.weight": torch.ones(3)}, "run": {"step": 1}}


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return open, (self.marker, "w")


@pytest.fixture
def bomb(tmp_path):
    marker = tmp_path / "ran"
    yield Bomb(marker)
    assert not marker.exists(), "it ran"


def torch_folder(path, extra=()):
    path.mkdir()
    torch.save(PLAIN, path / "meta.pt")
    tensors = {f"state_dict.{name}": tensor for name, tensor in PLAIN["state_dict"].items()}
    save({**tensors, **dict(extra)}, storage_writer=FileSystemWriter(path), no_dist=True)
    return path


def deepspeed_folder(path, contents=PLAIN, tag="checkpoint"):
    (path / "checkpoint").mkdir(parents=True)
    (path / "latest").write_text(tag)
    torch.save(contents, path / "checkpoint/mp_rank_00_model_states.pt")
    return path


def refused(path, *named):
    with pytest.raises(InputError, match=r"expected tensors and plain values in .*--trust_checkpoint$") as error:
        read_weights(path)
    assert all(name in str(error.value) for name in named), error.value
    assert "\n" not in str(error.value)
    return str(error.value)


def test_plain_ones_pass(tmp_path):
    torch.save(PLAIN, tmp_path / "file.ckpt")
    folder = torch_folder(tmp_path / "torch.ckpt", {"optimizer.lr": 0.1, "optimizer.betas": (0.9, 0.999)})
    for path in (tmp_path / "file.ckpt", folder):
        assert torch.equal(read_weights(path)["weight"], torch.ones(3))
        assert read_record(path) == {"step": 1}
    assert code_in(deepspeed_folder(tmp_path / "deepspeed.ckpt")) is None
    assert read_record(tmp_path / "deepspeed.ckpt") == {"step": 1}


@pytest.mark.parametrize("legacy", [False, True])
def test_a_file(bomb, legacy, tmp_path):
    path = tmp_path / "last.ckpt"
    torch.save({**PLAIN, "run": bomb}, path, _use_new_zipfile_serialization=not legacy)
    refused(path, "last.ckpt")
    assert read_record(path) == {}


def test_the_list_of_a_torch_folder(bomb, tmp_path):
    path = torch_folder(tmp_path / "last.ckpt")
    (path / ".metadata").write_bytes(pickle.dumps(bomb))
    refused(path, ".metadata", "it names ")


def test_a_name_that_a_permitted_module_has_imported(tmp_path):
    """`torch.distributed.checkpoint.metadata.os.system`, which a list of modules would let through."""
    path = torch_folder(tmp_path / "last.ckpt")
    module, name = (
        pickle.SHORT_BINUNICODE + bytes([len(text)]) + text
        for text in (b"torch.distributed.checkpoint.metadata", b"os.system")
    )
    command = f"touch {tmp_path / 'ran'}".encode()
    call = pickle.SHORT_BINUNICODE + bytes([len(command)]) + command + pickle.TUPLE1 + pickle.REDUCE
    (path / ".metadata").write_bytes(pickle.PROTO + b"\x04" + module + name + pickle.STACK_GLOBAL + call + pickle.STOP)
    refused(path, ".metadata")
    assert not (tmp_path / "ran").exists()


@pytest.fixture
def other_attributes(monkeypatch):
    """A class of torch's whose attributes are put back after the test."""
    monkeypatch.setattr(filesystem, "_StorageInfo", type("_StorageInfo", (filesystem._StorageInfo,), {}))
    filesystem._StorageInfo.__module__ = filesystem.__name__


@pytest.mark.usefixtures("other_attributes")
def test_a_list_that_would_be_read_otherwise_the_second_time(bomb, tmp_path):
    """It gives torch's class another way to be filled and another place in the file, where code lies."""
    path, gift = torch_folder(tmp_path / "last.ckpt", {"optimizer.lr": 0.1}), io.BytesIO()
    torch.save(bomb, gift)
    shard = path / "__0_0.distcp"
    attributes = {"offset": shard.stat().st_size, "length": gift.tell(), "relative_path": shard.name}
    attributes |= {"transform_descriptors": None, "__setstate__": StorageMeta}
    shard.write_bytes(shard.read_bytes() + gift.getvalue())
    parts = [pickle.dumps(part, 2)[2:-1] for part in (filesystem._StorageInfo, (None, attributes))]
    listed = (path / ".metadata").read_bytes().removesuffix(pickle.STOP)
    (path / ".metadata").write_bytes(listed + b"".join(parts) + pickle.BUILD + pickle.POP + pickle.STOP)
    refused(path, ".metadata", "it changes <class")


def test_what_is_no_tensor_in_a_torch_folder(bomb, tmp_path):
    """torch's planner unpickles it without a word."""
    refused(torch_folder(tmp_path / "last.ckpt", {"optimizer.lr": bomb}), "optimizer.lr", "open")


def test_lightnings_part_of_a_torch_folder(bomb, tmp_path):
    path = torch_folder(tmp_path / "last.ckpt")
    torch.save({"run": bomb}, path / "meta.pt")
    refused(path, "meta.pt", "open")


def test_a_file_of_deepspeeds(bomb, tmp_path):
    path = deepspeed_folder(tmp_path / "last.ckpt", {"module": bomb})
    refused(path, "mp_rank_00_model_states.pt", "open")
    assert read_record(path) == {}


def test_deepspeeds_folder_lies_in_the_checkpoint(bomb, tmp_path):
    deepspeed_folder(tmp_path / "elsewhere", {"module": bomb})
    refused(deepspeed_folder(tmp_path / "last.ckpt", tag="../elsewhere/checkpoint"), "`latest` names")


def test_a_script_of_torchs_in_place_of_a_file(tmp_path):
    torch.jit.script(torch.nn.Linear(1, 1)).save(tmp_path / "last.ckpt")
    refused(tmp_path / "last.ckpt", "last.ckpt")


def test_one_file_that_two_readers_see_differently(bomb, tmp_path):
    """It begins as a pickle and ends as a zip archive."""
    whole = io.BytesIO()
    torch.save(PLAIN, whole)
    (tmp_path / "last.ckpt").write_bytes(pickle.dumps(bomb) + whole.getvalue())
    assert zipfile.is_zipfile(tmp_path / "last.ckpt")
    refused(tmp_path / "last.ckpt")


@pytest.mark.parametrize("command", ["fit", "validate", "test"])
def test_a_trainer_loads_none_unless_told(command, bomb, tmp_path):
    path = tmp_path / "last.ckpt"
    torch.save({**PLAIN, "run": bomb}, partial_name(path))
    complete(partial_name(path), path, "SingleDeviceStrategy", 1)
    trainer = ResumableTrainer(accelerator="cpu", logger=False, default_root_dir=tmp_path)
    with pytest.raises(InputError, match=r"names .*open; .*only if you made it yourself, type --weights_only false$"):
        getattr(trainer, command)(BoringModel(), ckpt_path=path)


@pytest.mark.parametrize("command", ["fit", "validate", "test"])
def test_web_addresses_are_not_loaded(command, tmp_path):
    """torch's hub would unpickle them, and takes another run's file of the same name from its cache."""
    trainer = ResumableTrainer(accelerator="cpu", logger=False, default_root_dir=tmp_path)
    with pytest.raises(InputError, match=r"type: curl -LO http://localhost/last.ckpt and then --ckpt_path last.ckpt"):
        getattr(trainer, command)(BoringModel(), ckpt_path="http://localhost/last.ckpt")


def test_whoever_trusts_a_checkpoint_says_so(tmp_path):
    path, marker = tmp_path / "last.ckpt", tmp_path / "ran"
    torch.save({**PLAIN, "run": Bomb(marker)}, path)
    assert torch.equal(read_weights(path, trusted=True)["weight"], torch.ones(3))
    assert marker.exists()
