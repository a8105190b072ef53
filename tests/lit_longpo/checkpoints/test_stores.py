"""Checkpoints in an object store are looked at like files; fsspec's own store in memory stands for all of them."""

import fsspec
import pytest
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import ModelCheckpoint
from support.small_fit import fit

from lit_longpo.checkpoints import ResumableTrainer, read_weights
from lit_longpo.checkpoints.stores import fetched, is_address, refuse_last_elsewhere
from lit_longpo.errors import InputError
from lit_longpo.policy import PolicyConfig

STORE = "memory://bucket/run"
LAST = f"{STORE}/last.ckpt"


@pytest.fixture
def store():
    system = fsspec.filesystem("memory")
    yield system
    system.rm("/bucket", recursive=True)


def test_a_run_goes_on_from_a_store_as_from_a_disk_and_is_refused_as_there(policy_folder, store, tmp_path):
    policy = PolicyConfig(source=str(policy_folder))
    fit(policy, tmp_path / "whole", steps=4)
    store.put_file(str(tmp_path / "whole/step=2.ckpt"), "/bucket/run/last.ckpt")
    fit(policy, tmp_path / "resumed", steps=4, resume=LAST)
    weights = read_weights(tmp_path / "resumed/step=4.ckpt")
    for name, weight in read_weights(tmp_path / "whole/step=4.ckpt").items():
        assert torch.equal(weight, weights[name]), name

    with pytest.raises(InputError, match=f"expected to go on with what {LAST} was trained with, got other settings"):
        fit(policy, tmp_path / "sgd", steps=4, resume=LAST, optimizer=torch.optim.SGD)
    raw = bytearray(store.cat_file("/bucket/run/last.ckpt"))
    raw[len(raw) // 2] ^= 1
    store.pipe_file("/bucket/run/last.ckpt", bytes(raw))
    with pytest.raises(InputError, match=f"expected a whole checkpoint at {LAST}, but it is damaged"):
        fit(policy, tmp_path / "bits", steps=4, resume=LAST)


class Nothing(LightningModule):
    """Never trained: the refusal comes first."""


@pytest.mark.parametrize("command", ["fit", "validate", "test"])
def test_a_store_holds_checkpoints_and_no_run(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trainer = ResumableTrainer(accelerator="cpu", logger=False, default_root_dir=STORE)
    with pytest.raises(
        InputError, match=r"a folder on a disk for `trainer\.default_root_dir`, got memory://bucket/run"
    ):
        getattr(trainer, command)(Nothing())
    assert not list(tmp_path.iterdir())


def test_last_is_not_looked_for_on_disks_where_the_run_writes_into_a_store(store):
    callbacks = [ModelCheckpoint(STORE)]
    refuse_last_elsewhere(callbacks)  # the first start: nothing is there
    for name in ("step=2.ckpt", "last.ckpt"):
        store.pipe_file(f"/bucket/run/{name}", b"1")
    with pytest.raises(InputError, match=f"got `last`, which is looked for on disks; type --ckpt_path {LAST}"):
        refuse_last_elsewhere(callbacks)


def test_what_is_not_there_or_cannot_be_read_is_one_line(store):
    store.pipe_file("/bucket/run/x/last.ckpt", b"")
    for address, said in (
        (f"{STORE}/none.ckpt", f"expected a checkpoint file at {STORE}/none.ckpt, found none"),
        (f"{STORE}/x", "folders of FSDP2 and DeepSpeed have to be copied"),
        ("nowhere://bucket/last.ckpt", "expected an address that can be read, got nowhere://"),
    ):
        with pytest.raises(InputError, match=said), fetched(address):
            pass


@pytest.mark.parametrize("name", ["last", "runs/a.ckpt", "http://a/b.ckpt", "registry:model", None])
def test_what_is_no_address_stays_as_it_is(name):
    assert not is_address(name)
    with fetched(name) as same:
        assert same is name
