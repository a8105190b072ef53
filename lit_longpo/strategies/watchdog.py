"""Ends all processes of a group at once when one of them dies, and says which one it was.

Every process holds a connection to the first one as long as it runs. The system closes it when a process dies,
however it dies; where a machine is lost, probes that stay without an answer do. So nobody has to send signs of life,
and a process that is only slow is never taken for dead. A collective call that waits for a dead process would wait
for half an hour, or for ever.
"""

import logging
import os
import secrets
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException

from lit_longpo.errors import UserError

log = logging.getLogger(__name__)

GRACE = 10.0  # seconds that a process has to end by itself, and to write what it has
_CONNECT = 60.0  # seconds until all have connected
# Probes of a connection that is silent: the first after so many seconds, then each so many, so many in all.
_PROBES = {"TCP_KEEPIDLE": 20, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
_DONE, _FAILED, _DIED = b"d", b"f", b"x"
_HOW = {_FAILED: "ended with an error, which it has said", _DIED: "died: it was killed, or its machine was lost"}


class DeadRankError(UserError, RuntimeError):
    """Another process of the group has died."""


class Watchdog:
    """From `connect` to its end as a context, each process of a group ends when another has ended before its time.

    Args:
        again: what to type when that has happened.
    """

    def __init__(self, again: str) -> None:
        self._again = again
        self._rank = 0
        self._open = False
        self._peers: dict[socket.socket, int] = {}
        self._told: tuple[int, bytes] | None = None  # which rank, and how
        self._death_is_known, self._is_ending = threading.Event(), threading.Event()

    def __enter__(self) -> "Watchdog":
        self._open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open = False
        if not self._peers:
            return
        if isinstance(error, Exception) and not isinstance(error, UserError):
            self._death_is_known.wait(2.0)  # an error of a collective call: is it because somebody is dead?
        self._is_ending.set()
        orderly = error is None or isinstance(error, SIGTERMException)  # all processes are asked to stop together
        told = self._told
        for peer in list(self._peers):
            self._say(peer, self._rank, _DONE if orderly and not told else _FAILED)
            peer.close()
        self._peers.clear()
        if told is not None and error is not None and not isinstance(error, UserError | KeyboardInterrupt):
            raise DeadRankError(self._message(*told)) from error

    def connect(self, rank: int, size: int, broadcast: Callable[[Any], Any], *, here: bool) -> None:
        """Connect all processes to the first one, then watch the connections. Call it on every rank.

        Args:
            rank: of this process.
            size: of the group; nothing happens in one of one process, or outside of the context.
            broadcast: gives the first process's object to all.
            here: whether all processes are on this machine.
        """
        if size == 1 or not self._open:
            return
        self._rank = rank
        server: socket.socket | None = None
        address: tuple[str, int, str] | None = None
        if rank == 0:
            server = socket.create_server(("127.0.0.1" if here else "", 0), backlog=size)
            host = "127.0.0.1" if here else os.environ.get("MASTER_ADDR", socket.gethostname())
            address = host, server.getsockname()[1], secrets.token_hex(16)
        host, port, secret = broadcast(address)
        try:
            if server is None:
                self._connect_to_first(host, port, secret)
            else:
                self._accept_others(server, secret, size)
        except OSError as error:
            log.error("processes do not watch each other, since they cannot connect on port %s: %s", port, error)
            return
        finally:
            if server is not None:
                server.close()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def _connect_to_first(self, host: str, port: int, secret: str) -> None:
        peer = socket.create_connection((host, port), timeout=_CONNECT)
        peer.sendall(f"{secret}{self._rank:08d}".encode())
        self._keep(peer, 0)

    def _accept_others(self, server: socket.socket, secret: str, size: int) -> None:
        """Wait for all others; who does not know the secret is none of them."""
        end = time.monotonic() + _CONNECT
        while len(self._peers) < size - 1:
            server.settimeout(max(0.01, end - time.monotonic()))
            peer, _ = server.accept()
            peer.settimeout(max(0.01, end - time.monotonic()))
            said = _read(peer, len(secret) + 8)
            if said[:-8] == secret.encode():
                self._keep(peer, int(said[-8:]))
            else:
                peer.close()

    def _keep(self, peer: socket.socket, rank: int) -> None:
        peer.settimeout(None)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _PROBES.items():
            if hasattr(socket, name):
                peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        self._peers[peer] = rank

    def _watch(self) -> None:
        """Watch until every peer has said that it is done, or one of them has died."""
        with selectors.DefaultSelector() as selector:
            for peer, rank in self._peers.items():
                selector.register(peer, selectors.EVENT_READ, rank)
            while selector.get_map() and not self._is_ending.is_set():
                for key, _ in selector.select(timeout=1.0):
                    said = _early_end(key.fileobj, key.data)
                    if said is None:
                        selector.unregister(key.fileobj)
                    elif not self._is_ending.is_set():
                        self._told = said
                        self._end(*said)
                        return

    def _end(self, rank: int, how: bytes) -> None:
        """Tell the others; end this process, if it does not end by itself."""
        for peer in list(self._peers):
            self._say(peer, rank, how)
        # At once: who started this process may end it first, without a word (Lightning's launcher, after 5 seconds).
        log.error("rank %d %s; this process ends as well", rank, _HOW[how])
        self._death_is_known.set()  # not before: whoever waits for it ends this process
        if not self._is_ending.wait(GRACE):
            sys.stderr.write(f"error: {self._message(rank, how)}\n")
            sys.stderr.flush()
            os._exit(1)

    def _message(self, rank: int, how: bytes) -> str:
        return (
            f"expected every process to go on to the end, but rank {rank} {_HOW[how]}; this one stops as well. Look "
            f"for its last lines, and for `Out of memory` in the machine's log (dmesg); then {self._again}"
        )

    @staticmethod
    def _say(peer: socket.socket, rank: int, how: bytes) -> None:
        with suppress(OSError):  # it is the dead one, or gone by now
            peer.sendall(how + f"{rank:08d}".encode())


class TrainerWatchdog(Watchdog):
    """That of the processes of a trainer, connected as soon as they have met."""

    def __init__(self, trainer: Trainer) -> None:
        super().__init__("type the same command with --ckpt_path last")
        self._trainer = trainer

    def __enter__(self) -> "TrainerWatchdog":
        super().__enter__()
        trainer, strategy = self._trainer, self._trainer.strategy
        begin = strategy.setup_environment

        def setup_environment() -> None:
            """Lightning has no hook between the processes' connection and their first work."""
            del strategy.setup_environment  # the class's own again
            begin()
            self.connect(trainer.global_rank, trainer.world_size, strategy.broadcast, here=trainer.num_nodes == 1)

        strategy.setup_environment = setup_environment  # type: ignore[method-assign]
        return self

    def __exit__(self, *ended: Any) -> None:
        vars(self._trainer.strategy).pop("setup_environment", None)
        super().__exit__(*ended)


def _early_end(peer: Any, rank: int) -> tuple[int, bytes] | None:
    """Which process has ended before its time, and how; `None` if the peer has said that it is done."""
    try:
        said = _read(peer, 9)
    except OSError:
        said = b""
    if len(said) < 9:
        return rank, _DIED
    return None if said[:1] == _DONE else (int(said[1:]), said[:1])


def _read(peer: socket.socket, size: int) -> bytes:
    """So many bytes; fewer if the connection ends."""
    found = b""
    while len(found) < size and (more := peer.recv(size - len(found))):
        found += more
    return found
