"""Questions to a server, several at a time; whole runs are in evaluation/served and builders/generators."""

import time
from dataclasses import replace

import pytest
from support.model_server import KEY, Served, ascii_model, serve

from lit_longpo.errors import InputError, UnreachableError
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


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    return Served(ascii_model(tmp_path_factory.mktemp("model")))


@pytest.mark.parametrize("around", [("", "\r\n"), (" ", " "), ("", "\n")])
def test_blanks_and_line_ends_around_a_key_do_not_count(around, served, monkeypatch):
    """devlake#7132: a key out of a file ended all in "Connection error."."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY.join(around))
    with serve(replace(served)) as server:
        assert list(Connection(Server(server.url, max_retries=0)).models()) == ["tiny"]
    assert {name.lower(): value for name, value in server.headers[-1].items()}["authorization"] == f"Bearer {KEY}"


def test_a_key_that_no_header_can_hold_is_refused(monkeypatch):
    """It ended in a traceback."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-\u2013secret")
    with pytest.raises(InputError, match=r"of ASCII characters in \$OPENAI_API_KEY, got one with others") as caught:
        Connection(Server("http://127.0.0.1:9/v1"))
    assert "secret" not in str(caught.value)


def test_no_proxy_stands_before_a_server_on_this_machine(served, monkeypatch):
    """ollama#9141: all ended in "Connection error.", as the proxy knows no server of this address."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with serve(replace(served)) as server:
        assert Connection(Server(server.url, max_retries=0)).models()


def test_a_connection_error_says_why():
    with pytest.raises(UnreachableError, match=r"APIConnectionError: Connection error\. \(.*refused\)"):
        Connection(Server("http://127.0.0.1:9/v1", max_retries=0)).models()
