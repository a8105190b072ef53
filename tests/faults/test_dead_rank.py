"""One of several processes is killed: the others end within seconds, and say which one it was."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest
from lightning.pytorch import Callback
from support import official_layout, small_fit
from support.byte_tokenizer import byte_model
from support.ranks import free_port, run_ranks

from evaluation.running.runner import Runner
from lit_longpo.__main__ import main as command
from lit_longpo.checkpoints import ResumableTrainer
from lit_longpo.policy import PolicyConfig
from lit_longpo.strategies import watchdog

GRACE = 3.0  # seconds here


class Killed(Callback):
    """One rank is killed before the third step; the other trains on, or does something that never ends."""

    def __init__(self, rank, hangs):
        self.rank, self.hangs = rank, hangs

    def on_train_batch_start(self, trainer, *_):
        if trainer.global_step != 2:
            return
        if trainer.global_rank == self.rank:
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.hangs:
            time.sleep(600)


def train(folder, policy_folder, strategy, victim, hangs):
    """As one rank: exit with status 3 after the right error, within the right time."""
    watchdog.GRACE = GRACE
    made = ResumableTrainer.__init__

    def init(self, *arguments, callbacks, **options):
        made(self, *arguments, callbacks=[Killed(victim, hangs), *callbacks], **options)

    ResumableTrainer.__init__ = init
    try:
        small_fit.fit(PolicyConfig(source=str(policy_folder)), folder, steps=4, strategy=strategy)
    except watchdog.DeadRankError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.stderr.flush()
        os._exit(3)


def evaluate(folder, words, victim, hangs):
    """As one rank: answer, until one is killed after its first answer."""
    watchdog.GRACE = GRACE
    answered = Runner._response

    def response(self, *arguments):
        if int(os.environ["RANK"]) == victim:
            os.kill(os.getpid(), signal.SIGKILL)
        elif hangs:
            time.sleep(600)
        return answered(self, *arguments)

    Runner._response = response
    try:
        command(["evaluate", *words, "--output", str(folder / "out")])
    except SystemExit as stopped:
        sys.stderr.write(f"{stopped.code}\n")
        sys.stderr.flush()
        os._exit(3)


def start(rank, port, log, work, *arguments):
    child = os.fork()
    if child == 0:
        try:
            output = os.open(log, os.O_WRONLY | os.O_CREAT)
            os.dup2(output, 1)
            os.dup2(output, 2)
            ranks = dict.fromkeys(("RANK", "LOCAL_RANK"), str(rank)) | {"NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
            os.environ |= ranks | {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_PORT": str(port)}
            os.environ["TORCHELASTIC_RUN_ID"] = "test"
            work(*arguments)
            os._exit(0)
        except BaseException as error:
            sys.excepthook(type(error), error, error.__traceback__)
            sys.stderr.flush()
        finally:
            os._exit(1)
    return child


def main(work, folder, *arguments):
    """Both ranks; how the survivor ended, and how many seconds after the other."""
    for name in ("RANK", "WORLD_SIZE"):
        os.environ.pop(name, None)
    port = free_port()
    victim = arguments[-2]
    children = [start(rank, port, folder / f"{rank}.txt", work, folder, *arguments) for rank in (0, 1)]
    assert os.waitstatus_to_exitcode(os.waitpid(children[victim], 0)[1]) == -signal.SIGKILL
    died, status = time.monotonic(), None
    while status is None and time.monotonic() < died + 120:
        pid, found = os.waitpid(children[1 - victim], os.WNOHANG)
        status = os.waitstatus_to_exitcode(found) if pid else None
        time.sleep(0.05)
    if status is None:
        os.kill(children[1 - victim], signal.SIGKILL)
    (folder / "status.txt").write_text(f"{status} {time.monotonic() - died}")


def survivors_end(work, folder: Path, *arguments):
    folder.mkdir()
    run_ranks(main, work, folder, *arguments, num_ranks=1)
    status, seconds = (folder / "status.txt").read_text().split()
    return int(status) if status != "None" else None, float(seconds)


SLOW = pytest.mark.slow
CASES = [
    ("ddp", 1, False),
    pytest.param("ddp", 1, True, marks=SLOW),
    pytest.param("ddp", 0, False, marks=SLOW),
    pytest.param("fsdp2", 1, False, marks=SLOW),
    pytest.param("fsdp2", 0, True, marks=SLOW),
    pytest.param("zero3", 1, False, marks=SLOW),
]


@pytest.mark.parametrize(("strategy", "victim", "hangs"), CASES)
def test_the_others_end_and_say_who_died(strategy, victim, hangs, policy_folder, tmp_path):
    status, seconds = survivors_end(train, tmp_path / "run", policy_folder, strategy, victim, hangs)
    check_said(tmp_path / "run" / f"{1 - victim}.txt", status, seconds, victim, hangs)


@pytest.mark.parametrize(("victim", "hangs"), [(1, False), pytest.param(0, True, marks=SLOW)])
def test_those_that_evaluate_end_too(victim, hangs, tmp_path):
    model = byte_model(tmp_path / "model", max_position_embeddings=4096)
    folder = official_layout.longbench(tmp_path / "records", {"trec": 4}, tokens=4)
    words = ["--config", "longbench", "--model", model, "--benchmark.init_args.folder", folder, "--devices", 2]
    words += ["--accelerator", "cpu", "--batching.max_batch_tokens", 600, "--max_length", 3000]
    status, seconds = survivors_end(evaluate, tmp_path / "run", list(map(str, words)), victim, hangs)
    said = check_said(tmp_path / "run" / f"{1 - victim}.txt", status, seconds, victim, hangs)
    assert "type the same command again" in said


def check_said(path: Path, status, seconds, victim, hangs):
    said = path.read_text()
    assert f"rank {victim} died: it was killed, or its machine was lost; this process ends as well" in said, said[
        -3000:
    ]
    assert f"expected every process to go on to the end, but rank {victim} died: it was killed" in said, said[-3000:]
    assert status == (1 if hangs else 3), said[-3000:]  # by itself, or for lack of an end
    assert seconds < GRACE + 30, "on an idle machine GRACE and two seconds"
    assert "Traceback" not in said
    return said
