"""In place of a Python for a worker of pytest-xdist: the worker is forked from the server, libraries and all.

`python forked_worker.py ... CODE` runs the code like `python -c CODE`, on this process's standard streams.
"""

import gc
import os
import sys
from multiprocessing import get_context
from multiprocessing.reduction import DupFd
from typing import Any


class Streams:
    """Standard input, output and error of this process, on their way into another."""

    def __reduce__(self) -> tuple[Any, ...]:
        return tuple, ([DupFd(number) for number in range(3)],)


def work(code: str, environment: dict[str, str], streams: Any) -> None:
    """Run the code as the streams' own process would."""
    for number, stream in enumerate(streams):
        os.dup2(stream.detach(), number)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, "w" if number else "r") for number in range(3))
    os.environ.clear()
    os.environ.update(environment)
    gc.freeze()  # the libraries are no garbage, and stay shared
    exec(code, {"__name__": "__main__"})


if __name__ == "__main__":
    sys.path[0] = os.path.dirname(sys.path[0])  # tests
    from support import fork_server, forked_worker

    fork_server.use()
    task = (sys.argv[-1], dict(os.environ), Streams())
    process = get_context("forkserver").Process(target=forked_worker.work, args=task)
    process.start()
    process.join()
    sys.exit(process.exitcode)
