"""Processes for tests, forked from a server that has imported the libraries once.

Each of a group finds in its environment what torchrun would have said to it, one alone finds nothing. What they print
is kept apart and shown when one of them fails.
"""

import faulthandler
import gc
import os
import runpy
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from support import fork_server
from support.fork_server import ROOT

SECONDS = 1800  # until what hangs is ended; a machine shared by many takes minutes where two cores take seconds


def run_ranks(function: Callable[..., Any], *arguments: Any, num_ranks: int = 2) -> str:
    """Run `function(*arguments)` in so many processes and return what they printed.

    Raises:
        AssertionError: one of them failed, was killed or did not end; with the end of what they have printed.
    """
    fork_server.use()
    with TemporaryDirectory() as folder:
        task = (function, arguments, num_ranks, free_port(), folder)
        try:
            _wait(torch.multiprocessing.start_processes(_rank, task, num_ranks, join=False, start_method="forkserver"))
        except Exception as error:
            raise AssertionError(f"{error}\n{_printed(folder)[-4000:]}") from error
        return _printed(folder)


def _wait(group: Any) -> None:
    deadline = time.monotonic() + SECONDS
    while not group.join(timeout=1):
        if time.monotonic() > deadline:
            for process in group.processes:
                process.kill()
            raise TimeoutError(f"not done after {SECONDS} seconds")


def run_command(*arguments: Any, num_ranks: int = 1) -> str:
    """`python -m lit_longpo ARGUMENTS` in so many processes."""
    return run_ranks(_main, [str(argument) for argument in arguments], num_ranks=num_ranks)


def _rank(rank: int, function: Callable[..., Any], arguments: Any, num_ranks: int, port: int, folder: str) -> None:
    output = os.open(f"{folder}/{rank}.txt", os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    faulthandler.enable(2)
    torch.set_num_threads(1)
    gc.freeze()  # DeepSpeed collects garbage many times; the libraries are none
    if num_ranks > 1:
        os.environ |= _as_torchrun(rank, num_ranks, port)
    function(*arguments)
    sys.stdout.flush()
    os._exit(0)  # ZeRO-3 on a CPU sometimes aborts while the interpreter shuts down, after all work is done


def _as_torchrun(rank: int, num_ranks: int, port: int) -> dict[str, str]:
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0}
    sizes = {"WORLD_SIZE": num_ranks, "LOCAL_WORLD_SIZE": num_ranks}
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "test"}
    return {name: str(value) for name, value in (ranks | sizes | where).items()}


def _main(arguments: list[str]) -> None:
    os.chdir(ROOT)
    sys.argv = ["lit_longpo", *arguments]
    runpy.run_module("lit_longpo", run_name="__main__", alter_sys=True)


def free_port() -> int:
    """One of this machine that nothing listens to."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _printed(folder: str) -> str:
    return "\n".join(path.read_text(errors="replace") for path in sorted(Path(folder).iterdir()))
