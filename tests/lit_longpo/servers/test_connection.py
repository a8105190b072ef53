"""Questions to a server, several at a time; whole runs are in evaluation/served and builders/generators."""

import time

import pytest

from lit_longpo.errors import UnreachableError
from lit_longpo.servers import Connection, Failure, Server

NUM = 20


def test_replies_come_in_the_order_in_which_they_ended():
    """On a busy machine many are there before the first is looked at; `as_completed` shuffles those.

    Failures far apart were taken for failures in a row, and answers before them were lost.
    """
    server = Server("http://127.0.0.1:9/v1", concurrency=1, max_failures=NUM)
    asked = list[int]()

    def slow():
        yield from range(NUM)
        while len(asked) < NUM:
            time.sleep(0.01)

    def send(client, item):
        asked.append(item)
        return Failure("down", is_final=True)

    seen = list[int]()
    with pytest.raises(UnreachableError, match=f"got {NUM} errors in a row"):
        seen += (item for item, _ in Connection(server).ask_all(slow(), send))
    assert seen == list(range(NUM - 1))
