"""Kills training processes with SIGKILL and lets others go on; tests run it.

Every training is a process of its own. Each appends `step loss` to OUT/NAME.txt, losses in full precision.
"""

import os
import signal
import sys

from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from support.resume_worker import POLICIES, parts, trainer_for

from lit_longpo.callbacks import ThroughputCallback


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


class Log(Callback):
    """The first rank writes every loss at once; the last one is killed before the given step."""

    def __init__(self, path, killed_before=None):
        self.path, self.killed_before = path, killed_before

    def on_train_batch_start(self, trainer, *_):
        if trainer.global_step == self.killed_before and trainer.global_rank == trainer.world_size - 1:
            kill()

    def on_train_batch_end(self, trainer, *_):
        if trainer.is_global_zero:
            with self.path.open("a") as file:
                file.write(f"{trainer.global_step} {float(trainer.callback_metrics['train/loss']).hex()}\n")


class HalfWritten(TorchCheckpointIO):
    """The process is killed when half of the second checkpoint is on disk."""

    def save_checkpoint(self, checkpoint, path, storage_options=None):
        super().save_checkpoint(checkpoint, path, storage_options)
        if checkpoint["global_step"] == 4:
            os.truncate(path, os.path.getsize(path) // 2)
            kill()


class NotRenamed(TorchCheckpointIO):
    """The process is killed when the second checkpoint is whole and has no name yet."""

    def save_checkpoint(self, checkpoint, path, storage_options=None):
        super().save_checkpoint(checkpoint, path, storage_options)
        if checkpoint["global_step"] == 4:
            kill()


def train(out, name, strategy="single", *, killed_before=None, plugin=None, resume=False):
    module, data = parts(POLICIES["lora"], strategy)
    folder = out / name
    save = ModelCheckpoint(folder / "checkpoints", every_n_train_steps=2, save_last=True)
    log = Log(out / f"{name}.txt", killed_before)
    trainer = trainer_for(strategy, folder, log, ThroughputCallback(), save)
    if plugin is not None:
        trainer.strategy.checkpoint_io = plugin()
    trainer.fit(module, datamodule=data, ckpt_path="last" if resume else None)


def killed(out, name, strategy, step):
    train(out, name, strategy, killed_before=step)


def resumed(out, name, strategy):
    train(out, name, strategy, resume=True)


def losses(path):
    """Step and loss of every line."""
    rows = [line.split() for line in path.read_text().splitlines()]
    return [(int(step), float.fromhex(loss)) for step, loss in rows]


WAYS = {
    **{f"before-{step}": {"killed_before": step} for step in (1, 3, 5)},  # saved after 2, 4 and 6; an epoch has 4
    "half-written": {"plugin": HalfWritten},
    "not-renamed": {"plugin": NotRenamed},
}


def kill_and_resume(out, way):
    """Losses of both trainings in OUT/WAY.txt."""
    assert in_a_process(train, out, way, **WAYS[way]) == -signal.SIGKILL
    assert bool(list((out / way).rglob("*.partial"))) == ("plugin" in WAYS[way])
    train(out, way, resume=True)


def in_a_process(function, *arguments, **options):
    """How the process that ran the function ended: 0, or minus the signal."""
    child = os.fork()
    if child == 0:
        try:
            function(*arguments, **options)
            os._exit(0)
        finally:  # an error is printed by the interpreter, which must not go on here
            sys.excepthook(*sys.exc_info())
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
