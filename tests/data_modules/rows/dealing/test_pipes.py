"""Workers where /dev/shm is full: rows come all the same, or it is said why not."""

import ctypes
import os
import signal
import subprocess
import sys

import pytest
import torch
from support.preference_data import RandomPairs
from support.ranks import run_ranks
from torchdata.stateful_dataloader import StatefulDataLoader

from data_modules.pretraining import WorldTextDataModule
from data_modules.rows.dealing import pipes
from data_modules.rows.dealing.dealer import RowDealer
from data_modules.rows.dealing.pipes import Piped, check_room_for_workers
from lit_longpo.batch import View, Views
from lit_longpo.errors import StorageError
from lit_longpo.policy import PolicyConfig

VIEWS = Views((View("long", "chosen"), View("long", "rejected")), (View("long", "chosen"), View("long", "rejected")))
NEW_NAMES = 0x00020000  # CLONE_NEWNS: mounts that nobody else sees


def rows():
    return list(RandomPairs(VIEWS, emphasis=True).train_dataloader())


def widened(numbers):
    """A row that does not fit into /dev/shm."""
    row = rows()[numbers[0]]
    row.margins = torch.zeros(1 << 16)
    return row


def iterate_without_shared_memory():
    """In a process of its own, whose /dev/shm is small."""
    if ctypes.CDLL(None).unshare(NEW_NAMES) != 0:
        sys.stdout.write("skipped")
        return
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", "/dev/shm"], check=True)
    signal.alarm(120)  # torch's own way waits for ever
    found = list(StatefulDataLoader(range(4), batch_size=1, num_workers=2, collate_fn=Piped(widened)))
    assert [row.policy.examples for row in found] == [row.policy.examples for row in rows()]
    for one, other in zip(found, rows(), strict=True):
        assert one.same_row
        assert torch.equal(one.policy.input_ids, other.policy.input_ids)
        assert torch.equal(one.weights, other.weights)
        one.policy.input_ids.add_(1)  # a tensor like any other
    signal.alarm(0)
    with open("/dev/shm/filler", "wb") as file:
        file.write(b"\0" * (os.statvfs("/dev/shm").f_bavail * 4096))
    with pytest.raises(
        StorageError, match=r"locks of 2 workers, about .*--shm-size 1g\), or type --data.num_workers 0"
    ):
        check_room_for_workers(2)
    check_room_for_workers(0)


@pytest.mark.slow
def test_rows_come_where_shared_memory_is_full():
    if "skipped" in run_ranks(iterate_without_shared_memory, num_ranks=1):
        pytest.skip("mounting is not allowed here")


def test_machines_without_shared_memory_have_nothing_to_check(monkeypatch, tmp_path):
    monkeypatch.setattr(pipes, "_SHARED", tmp_path / "absent")
    check_room_for_workers(2)


def test_no_worker_starts_without_room_for_the_locks(monkeypatch, tmp_path):
    monkeypatch.setattr(pipes, "_SHARED", tmp_path)
    monkeypatch.setattr(pipes, "_LOCKS", 1 << 60)  # more than there is
    check_room_for_workers(0)
    told = "expected room for the locks of 2 workers"
    with pytest.raises(StorageError, match=told):
        RowDealer(8, None, None, True, seed=0, num_workers=2).loader("train", [object()], None, shuffle=False)
    with pytest.raises(StorageError, match=told):
        WorldTextDataModule(num_workers=2, prompt_format=PolicyConfig().prompt_format()).train_dataloader()
