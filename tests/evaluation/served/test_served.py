"""`evaluate --server` from the command line to its report."""

import json
import re

import pytest
from support import official_layout
from support.command_line import COMMANDS, CONFIGS
from support.model_server import KEY, Served, ascii_model, serve
from support.ranks import free_port

from evaluation.reports.comparison import compare_files
from evaluation.reports.reading import load_report
from lit_longpo.errors import message_for_user

pytestmark = pytest.mark.usefixtures("blank_pictures")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return official_layout.longbench(tmp_path_factory.mktemp("longbench"), {"hotpotqa": 2, "trec": 1}, tokens=4)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serve(Served(ascii_model(tmp_path_factory.mktemp("model")))) as served:
        yield served


def run(folder, out, server, *more):
    config = ("--config", CONFIGS / "eval" / "longbench.yaml", "--benchmark.init_args.folder", folder)
    COMMANDS["evaluate"]([str(word) for word in (*config, "--output", out, "--model", server.folder, *more)])
    return load_report(out / "longbench-step0.json")


def refusal(caught):
    text = message_for_user(caught.value)
    assert text
    assert "\n" not in text
    return text


def test_a_served_model_and_the_same_one_here(folder, server, tmp_path, monkeypatch, caplog):
    """Equal answers and scores; the report says who answered, `--compare` names it, nothing tells key or password."""
    here = run(folder, tmp_path / "here", server, "--accelerator", "cpu")
    monkeypatch.setattr("lit_longpo.policy.PolicyConfig.load_base", lambda self: pytest.fail("weights were read"))
    monkeypatch.setenv("SOME_KEY", KEY)
    server.asked.clear()
    url = server.url.replace("//", "//me:pass-word@")
    named = ("--server", url, "--server_model", "tiny", "--server.key_variable", "SOME_KEY")
    served = run(folder, tmp_path / "served", server, *named)
    asked = len(server.asked)
    assert run(folder, tmp_path / "served", server, *named) == served  # nothing is left to ask
    assert len([body for body in server.asked[asked:] if body["max_tokens"] == 4]) == 0

    assert [item.prediction for item in served.predictions] == [item.prediction for item in here.predictions]
    assert [item.num_tokens for item in served.predictions] == [item.num_tokens for item in here.predictions]
    assert served.tables == here.tables
    assert served.model == f"tiny at {server.url}"
    assert served.settings["device"] == f"server {server.url}"
    assert served.settings["chat template"] == here.settings["chat template"]
    assert any(line.startswith("answered by a server through completions, prompts as t") for line in served.deviations)
    compared = compare_files(*(tmp_path / name / "longbench-step0.json" for name in ("here", "served")))
    assert re.search(r"differs: device: cpu and server http", compared)
    assert "answered by a server through completions" in compared
    assert all(headers["Authorization"].startswith("Basic") for headers in server.headers)
    files = [path for path in (tmp_path / "served").rglob("*") if path.is_file()]
    written = "".join(path.read_text(errors="replace") for path in files) + caplog.text
    assert not {secret for secret in (KEY, "pass-word") if secret in written}


@pytest.mark.parametrize("listed", [["others/of-a-cache"], 404, 500])
def test_a_model_that_a_server_does_not_list_answers_in_chat_as_here(listed, folder, server, tmp_path, monkeypatch):
    """`transformers serve FOLDER` lists the hub's cache, or fails to."""
    monkeypatch.setattr(server, "listed", listed)
    named = ("--server", server.url, "--server_model", "tiny", "--server_way", "chat", "--server.max_retries", 0)
    served = run(folder, tmp_path, server, "--tasks", "[hotpotqa]", *named)
    assert any(line.startswith("answered by a server through chat") for line in served.deviations)
    with pytest.raises((ValueError, ConnectionError), match=r"expected .*(--server_model|correct --server)") as caught:
        run(folder, tmp_path / "other", server, *named, "--server_model", "other")
    refusal(caught)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            ["--server_model", "other"],
            r"expected one of the models of http.*, tiny, got other; type --server_model NAME",
        ),
        (["--server_way=chat", "--protocol", "official"], "expected `protocol: served` for `server.way: chat`"),
        (["--devices", "2"], "expected `--devices 1 --shard false` with a server"),
        (["--server", "127.0.0.1:8000"], "expected an address such as http"),
        (["--server.concurrency", "0"], "expected `concurrency` from 1 to"),
        (["--model", "embedded"], r"the tokenizer of embedded, got \d+ tokens of a text"),
        (["--max_length", "400"], r"fit 100 positions, got a prompt of \d+ tokens; set max_length to"),
        (["--server", f"http://me:pass-word@127.0.0.1:{free_port()}"], "expected an OpenAI-compatible server at http"),
    ],
)
def test_what_cannot_be_is_refused_before_a_question(more, said, folder, server, tmp_path, monkeypatch):
    monkeypatch.setattr(server, "card", {"max_model_len": 100})
    server.asked.clear()
    with pytest.raises((ValueError, ConnectionError), match=said) as caught:
        run(folder, tmp_path, server, "--server", server.url, "--server.max_retries", 0, *more)
    assert "pass-word" not in refusal(caught)
    assert not [body for body in server.asked if body["max_tokens"] == 4]


def test_a_server_does_not_go_on_with_a_models_answers(folder, server, tmp_path):
    stored = tmp_path / "predictions" / "longbench"
    stored.mkdir(parents=True)
    (stored / "manifest.json").write_text(json.dumps({"format": 1, "benchmark": "longbench", "model": "0" * 32}))
    with pytest.raises(ValueError, match="with another"):
        run(folder, tmp_path, server, "--server", server.url)
