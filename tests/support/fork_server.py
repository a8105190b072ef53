"""The server that processes of tests are forked from: it has imported the libraries once, for all workers of pytest.

It imports none of them where it is started: the process that hands out tests to workers needs none either.
"""

import os
from multiprocessing import forkserver, get_context, resource_tracker
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
IMPORTED = [  # what is not installed is passed over
    "deepspeed",
    "deepspeed.runtime.zero.muon.muon_optimizer",  # with torch's compiler, which takes the longest
    "bitsandbytes",
    "support.evaluation_worker",
    "support.kill_worker",
    "support.sequence_worker",
]
ADDRESS = "LIT_LONGPO_FORK_SERVER"


def start() -> str:
    """Start one, which ends with this process, and return its address; it imports while others go on."""
    before = dict(os.environ)
    folders = (ROOT, ROOT / "tests", ROOT / "docs")
    os.environ |= {"PYTHONPATH": os.pathsep.join(map(str, folders)), "OMP_NUM_THREADS": "1"}
    get_context("forkserver").set_forkserver_preload(IMPORTED)
    try:
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)
    return forkserver._forkserver._forkserver_address  # type: ignore[attr-defined]


def use() -> None:
    """The one that a parent has started, or one of our own."""
    address, server = os.environ.get(ADDRESS), forkserver._forkserver  # type: ignore[attr-defined]
    if address is None:
        start()
    elif server._forkserver_pid is None:
        server._forkserver_address, server._forkserver_pid = address, 0
        server._forkserver_alive_fd = os.open(os.devnull, os.O_RDONLY)
        server.ensure_running = resource_tracker.ensure_running
