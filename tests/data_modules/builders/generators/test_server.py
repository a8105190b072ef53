"""A real OpenAI-compatible server on loopback: `transformers serve` with a tiny model, in a process of its own."""

import importlib.util
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from support.builders import text_tokens, world_build
from support.byte_tokenizer import byte_model
from support.model_server import Served, ascii_model, serve
from support.ranks import free_port
from support.tiny_models import tiny_model
from support.word_tokenizer import word_tokenizer
from transformers import AutoTokenizer

from data_modules.builders.generators.requests import Decoding, Request
from data_modules.builders.generators.server import ServerGenerator
from lit_longpo.policy import PolicyConfig

NEEDED = ("openai", "fastapi", "uvicorn")
CHAT = "{% for m in messages %}{{ m['content'] }} {% endfor %}{% if add_generation_prompt %}Answer : {% endif %}"
needs_client = pytest.mark.skipif(importlib.util.find_spec("openai") is None, reason="needs openai")
installed = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in NEEDED), reason=f"needs {', '.join(NEEDED)}"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    tiny_model("Llama").save_pretrained(folder)
    word_tokenizer(chat_template=CHAT).save_pretrained(folder)
    port = free_port()
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(folder), "--port", str(port)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    log = folder / "log"
    with open(log, "w") as output:
        options = ["--host", "127.0.0.1", "--device", "cpu"]
        process = subprocess.Popen([*command, *options], env=environment, stdout=output, stderr=output)
    try:
        _wait(process, f"http://127.0.0.1:{port}/health", log)
        yield str(folder), f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(20)


def _wait(process, url, log):
    for _ in range(600):
        assert process.poll() is None, log.read_text()[-2000:]
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(log.read_text()[-2000:])


def requests(count, decoding):
    return [Request(f"record{n}/ask/0", f"word{n} word{n + 1} ?", decoding, seed=n) for n in range(count)]


@pytest.mark.slow
@installed
def test_answers_of_a_real_server(server):
    model, url = server
    generator = ServerGenerator(model, url, concurrency=2, max_retries=2, timeout=60)
    generator.open(PolicyConfig())
    asked = requests(5, Decoding(max_new_tokens=4))
    replies = {reply.request: reply for reply in generator.answer([[request] for request in asked])}
    assert replies.keys() == {request.id for request in asked}
    for reply in replies.values():
        assert reply.error == ""
        assert reply.server_id
        assert 1 <= reply.new_tokens <= 4
        assert reply.prompt_tokens == text_tokens().count("word0 word1 ? Answer : ")
    again = {reply.request: reply.text for reply in generator.answer([[request] for request in asked])}
    assert again == {name: reply.text for name, reply in replies.items()}  # greedy
    sampled = list(generator.answer([[request] for request in requests(2, Decoding(0.9, 0.9, 4))]))
    assert [reply.error for reply in sampled] == ["", ""]
    generator.close()


@needs_client
def test_the_models_own_generation_settings_have_no_say(tmp_path, caplog):
    """vLLM fills in from them what is not said (NeMo-RL#3497): a repetition penalty, and top-k while sampling."""
    model = ascii_model(tmp_path / "model")
    asked = [[request] for request in requests(3, Decoding(0.7, 0.9, 2, ("so",)))]
    for extras in ("taken", "refused"):
        with serve(Served(model, extras=extras)) as server:
            generator = ServerGenerator("tiny", server.url, max_retries=0, concurrency=1)
            generator.open(PolicyConfig())
            replies = list(generator.answer(asked))
            generator.close()
            assert [reply.error for reply in replies] == [""] * 3
            said = [
                {name: body.get(name) for name in ("repetition_penalty", "top_k", "min_p")} for body in server.asked
            ]
            neutral, nothing = {"repetition_penalty": 1.0, "top_k": -1, "min_p": 0.0}, dict.fromkeys(said[0])
            assert said == ([neutral] * 3 if extras == "taken" else [neutral, *[nothing] * 3])
            assert {body["presence_penalty"] for body in server.asked} == {0.0}
            assert {body["max_tokens"] for body in server.asked} == {2}
    assert caplog.text.count("refuses repetition_penalty, top_k, min_p; if the model's own") == 1


@needs_client
def test_what_a_server_cannot_answer_is_no_refusal_of_fields(tmp_path):
    model = ascii_model(tmp_path / "model")
    faults = [(400, {}, "too long")] * 3
    with serve(Served(model, fault=lambda number, body: faults[number] if number < 3 else None)) as server:
        generator = ServerGenerator("tiny", server.url, max_retries=0, concurrency=1, extra_body={"top_k": 5})
        generator.open(PolicyConfig())
        replies = list(generator.answer([[request] for request in requests(2, Decoding(max_new_tokens=2))]))
        generator.close()
        assert sorted(bool(reply.error) for reply in replies) == [False, True]
        assert [body.get("top_k") for body in server.asked] == [5] * 4
        assert [body.get("min_p") for body in server.asked] == [0.0, None, None, 0.0]


def hosted(number, body):
    """What xAI's and OpenAI's models refuse (open-webui#21266, litellm#14056): penalties of 0, `max_tokens`."""
    unknown = {"repetition_penalty", "top_k", "min_p", "frequency_penalty", "presence_penalty"} & set(body)
    if unknown:
        return 400, {}, f"Argument not supported on this model: {min(unknown)}"
    if "max_tokens" in body:
        return 400, {}, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
    body["max_tokens"] = body.pop("max_completion_tokens")
    return None


@needs_client
def test_hosted_models_that_refuse_penalties_answer(tmp_path, caplog):
    model = ascii_model(tmp_path / "model")
    with serve(Served(model, fault=hosted)) as server:
        generator = ServerGenerator("tiny", server.url, max_retries=0, concurrency=1)
        generator.open(PolicyConfig())
        replies = list(generator.answer([[request] for request in requests(3, Decoding(0.7, 0.9, 2))]))
        generator.close()
        assert [(reply.error, reply.new_tokens > 0) for reply in replies] == [("", True)] * 3
        assert len(server.asked) == 4 + 2  # found out with the first one
        assert all({"seed", "temperature", "top_p"} <= set(body) for body in server.asked)
    assert caplog.text.count("refuses repetition_penalty, top_k, min_p, frequency_penalty, presence_penalty;") == 1


@needs_client
@pytest.mark.parametrize(
    ("reason", "error", "finished"),
    [
        *(("stop", "", True), ("eos_token", "", True), ("eos", "", True), (None, "", True), ("length", "", False)),
        *(("STOP", "", True), ("MAX_TOKENS", "", False), ("end_turn", "", True)),  # qwen-code#9882: Gemini's words
        *(
            (other, f"the server ended the answer with '{other}'", True)
            for other in ("content_filter", "abort", "error")
        ),
    ],
)
def test_a_part_of_an_answer_is_none(reason, error, finished, tmp_path):
    """What a filter or an abort left was taken for a whole answer (vllm#57082, curator#261)."""
    model = ascii_model(tmp_path / "model")
    fault = {"choice": {"finish_reason": reason}, "usage": {"completion_tokens": 1}}
    with serve(Served(model, fault=lambda number, body: fault)) as server:
        generator = ServerGenerator("tiny", server.url, max_retries=0)
        generator.open(PolicyConfig())
        [reply] = generator.answer([requests(1, Decoding(max_new_tokens=2))])
        generator.close()
    assert (reply.error, bool(reply.text)) == (error, not error)
    assert error or reply.finished == finished


@needs_client
@pytest.mark.parametrize("stop", [(), (". ",)])
@pytest.mark.parametrize(
    "body",
    [
        b'{"choices": null, "error": {"message": "over capacity"}}',
        b'{"choices": [null]}',
        b'{"choices": "Oslo"}',
        b'{"choices": {"message": {"content": "Oslo"}}}',
        b'{"choices": [{"message": null, "finish_reason": "stop"}]}',
        b'{"choices": [{"text": "Oslo", "finish_reason": "stop"}]}',
        b'{"choices": [{"message": {"content": {"text": "Oslo"}}, "finish_reason": "stop"}]}',
        b'{"choices": [{"message": {"content": ["Oslo"]}, "finish_reason": "stop"}]}',
        b'{"choices": [{"message": {"content": "\xe9"}, "finish_reason": "stop"}]}',  # Latin-1
        # A part of an answer, and why it is one: it was taken for a whole answer.
        b'{"choices": [{"message": {"content": "Os"}, "finish_reason": "stop"}], "error": {"at": "over capacity"}}',
        b'{"choices": [{"message": {"content": "Os"}, "finish_reason": "stop", "error": "over capacity"}]}',
        b'{"choices": [{"message": {"content": ""}, "finish_reason": "stop", "native_finish_reason": "net_error"}]}',
    ],
)
def test_a_reply_without_a_whole_message_is_asked_for_again_and_fails_alone(body, stop, tmp_path):
    """Gateways send such on errors, with code 200 (garak#1525, dify#15114, genkit#6259, pi#8511)."""
    model = ascii_model(tmp_path / "model")
    with serve(Served(model, fault=lambda number, _: body if number < 2 else None)) as server:
        generator = ServerGenerator("tiny", server.url, max_retries=1, concurrency=1)
        generator.open(PolicyConfig())
        failed, answered = generator.answer([requests(2, Decoding(max_new_tokens=2, stop=stop))])
        generator.close()
    assert failed.error.startswith(("expected one choice with its text in", "expected JSON in UTF-8 in"))
    assert ("over capacity" in failed.error) == (b"over capacity" in body)
    assert (answered.error, bool(answered.text)) == ("", True)


ENDED_IN_THOUGHTS = [
    {"content": "<think>a"},
    {"content": "<think>a</think>In<think>b"},
    {"content": None, "reasoning_content": "a"},  # of a server that keeps them apart
    {"content": "", "reasoning": "a"},
    {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "a"}]}]},
]


@needs_client
@pytest.mark.parametrize("message", ENDED_IN_THOUGHTS)
def test_a_stop_text_in_thoughts_ends_nothing(message, tmp_path):
    """vllm#14170: the server ends them there, so it is asked again, and the answer is cut here."""
    model, whole = ascii_model(tmp_path / "model"), {"content": "<think>a. b</think>Oslo. No"}

    def said(number, body):
        return {"choice": {"finish_reason": "stop", "message": message if body.get("stop") else whole}}

    with serve(Served(model, fault=said)) as server:
        generator = ServerGenerator("tiny", server.url, max_retries=0)
        generator.open(PolicyConfig())
        [reply] = generator.answer([requests(1, Decoding(max_new_tokens=2, stop=(". ",)))])
        generator.close()
    assert (reply.text, reply.finished) == ("<think>a. b</think>Oslo", True)
    assert [body.get("stop") for body in server.asked] == [[". "], None]


@needs_client
def test_thoughts_that_their_prompt_opened_and_no_tokens_were_left_for_are_cut_off(tmp_path):
    """They were a finished answer, up to the stop text in them."""
    folder = ascii_model(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = "{{ messages[-1]['content'] }}{% if add_generation_prompt %}<think>\n{% endif %}"
    tokenizer.save_pretrained(folder)

    def said(number, body):
        reason, content = ("stop", "a") if body.get("stop") else ("length", "a. b")
        return {"choice": {"finish_reason": reason, "message": {"content": content}}}

    with serve(Served(folder, fault=said)) as server:
        generator = ServerGenerator("tiny", server.url, max_retries=0)
        generator.open(PolicyConfig(source=str(folder)))
        [reply] = generator.answer([requests(1, Decoding(max_new_tokens=2, stop=(". ",)))])
        generator.close()
    assert (reply.text, reply.finished, len(server.asked)) == ("a. b", False, 2)


@needs_client
@pytest.mark.parametrize(
    "message",
    [
        {"content": "Oslo"},
        {"content": "<think>a</think>Oslo"},
        {"content": "[THINK]a[/THINK]Oslo"},  # another model's marks, which no policy's template knows
        {"content": "Oslo", "reasoning": "a"},
        {"content": [{"type": "thinking", "thinking": "a"}, {"type": "text", "text": "Oslo"}]},
    ],
)
def test_an_answer_that_a_stop_text_ended_is_asked_for_once(message, tmp_path):
    model = ascii_model(tmp_path / "model")
    with serve(Served(model, fault=lambda *_: {"choice": {"finish_reason": "stop", "message": message}})) as server:
        generator = ServerGenerator("tiny", server.url, max_retries=0)
        generator.open(PolicyConfig())
        [reply] = generator.answer([requests(1, Decoding(max_new_tokens=2, stop=(". ",)))])
        generator.close()
    whole = message["content"] if isinstance(message["content"], str) else "Oslo"
    whole = whole.replace("[THINK]", "<think>").replace("[/THINK]", "</think>")
    assert (reply.text, len(server.asked)) == (whole, 1)


def replies_of(tmp_path, content, thoughts=None, refusal=None, **usage):
    """What a generator makes of a server's one reply."""
    message = {"content": content, "reasoning_content": thoughts, "refusal": refusal}
    model, choice = ascii_model(tmp_path / "model"), {"finish_reason": "stop", "message": message}
    with serve(Served(model, fault=lambda *_: {"choice": choice, "usage": usage})) as server:
        generator = ServerGenerator("tiny", server.url, max_retries=0)
        generator.open(PolicyConfig())
        [reply] = generator.answer([requests(1, Decoding(max_new_tokens=4))])
        generator.close()
    return reply


@needs_client
@pytest.mark.parametrize(("written", "finished"), [(3, True), (4, False), (5, False)])
def test_an_answer_of_all_tokens_is_cut_off_whatever_the_server_says(written, finished, tmp_path):
    """litellm#25825: it says "stop" for what ran into the limit."""
    reply = replies_of(tmp_path, "Oslo is", completion_tokens=written)
    assert (reply.text, reply.finished, reply.error) == ("Oslo is", finished, "")


@needs_client
@pytest.mark.parametrize(("native", "finished"), [("STOP", True), ("MAX_TOKENS", False)])
def test_a_limit_that_stands_beside_stop_is_one(native, finished, tmp_path):
    """inspect_ai#5143: what ran into the limit was taken for a whole answer."""
    model = ascii_model(tmp_path / "model")
    fault = {"choice": {"finish_reason": "stop", "native_finish_reason": native}, "usage": {"completion_tokens": 1}}
    with serve(Served(model, fault=lambda number, body: fault)) as server:
        generator = ServerGenerator("tiny", server.url, max_retries=0)
        generator.open(PolicyConfig())
        [reply] = generator.answer([requests(1, Decoding(max_new_tokens=2))])
        generator.close()
    assert (reply.finished, reply.error) == (finished, "")


@needs_client
@pytest.mark.parametrize("content", [None, ""])
def test_a_refusal_apart_is_the_answer(content, tmp_path):
    """openclaw#102321: it was an answer without a word, which the filters called too short."""
    assert replies_of(tmp_path, content, refusal="I can't help with that.").text == "I can't help with that."


@needs_client
@pytest.mark.parametrize(("written", "finished"), [(4, False), (90, True)])
def test_an_answer_behind_thoughts_that_are_not_under_the_limit_has_ended(written, finished, tmp_path):
    """Its tokens are counted with those of the thoughts, and a whole answer was one that is cut off."""
    reply = replies_of(tmp_path, "Oslo", thoughts="Rome? No.", completion_tokens=written)
    assert (reply.text, reply.finished, reply.error) == ("Oslo", finished, "")


@needs_client
def test_a_server_that_does_not_read_the_limit_gives_no_answers(tmp_path):
    """litellm#1629."""
    reply = replies_of(tmp_path, "Oslo is a long answer", completion_tokens=90)
    assert (reply.text, "written 90 tokens, asked for 4" in reply.error) == ("", True)


@needs_client
@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("Oslo<|im_end|>", "Oslo"),
        ("Oslo<eos>", "Oslo"),
        ("<|START_RESPONSE|>Oslo<|END_RESPONSE|>", "Oslo"),
        ("Oslo<end_of_turn>\n<start_of_turn>user\nAnd Rome?", "Oslo"),
        ("The tag </s> strikes", "The tag </s> strikes"),
        (
            "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>Oslo<|return|>",
            "<think>a</think>Oslo",
        ),
    ],
)
def test_what_ends_a_turn_is_no_part_of_the_answer(content, text, tmp_path):
    """obsidian-copilot#2284: servers leave the marks in, and what was written behind them."""
    assert replies_of(tmp_path, content).text == text


@needs_client
@pytest.mark.parametrize("window", [1000, 5000])
def test_a_prompt_that_the_server_cuts_fails(window, tmp_path):
    """ollama#4967: what exceeds its window, 4,096 tokens unless told otherwise, is dropped, and the rest answered."""
    model = byte_model(tmp_path / "model", chat_template=CHAT)

    def cut(number, body):
        return {"usage": {"prompt_tokens": min(window, len(body["messages"][0]["content"]))}}

    with serve(Served(ascii_model(tmp_path / "served"), fault=cut)) as server:
        generator = ServerGenerator("tiny", server.url, max_retries=3, concurrency=1)
        generator.open(PolicyConfig(source=str(model)))
        asked = [Request(str(size), "word " * size, Decoding(max_new_tokens=2)) for size in (100, 600)]
        replies = {reply.request: reply.error for reply in generator.answer([[request] for request in asked])}
        generator.close()
    assert replies["100"] == ""
    said = "the server has read 1,000 of about 3,001 tokens of the prompt; raise its window"
    assert replies["600"].startswith(said) if window == 1000 else replies["600"] == ""
    assert len(server.asked) == 2 + 2 * (window == 1000)  # once more for either half, and never again


@needs_client
def test_a_system_message_takes_a_part_of_the_window(tmp_path):
    """Of a user's text alone as many tokens were read as it has."""

    def cut(number, body):
        return {"usage": {"prompt_tokens": min(3000, sum(len(each["content"]) for each in body["messages"]))}}

    model = byte_model(tmp_path / "model", chat_template=CHAT)
    with serve(Served(ascii_model(tmp_path / "served"), fault=cut)) as server:
        generator = ServerGenerator("tiny", server.url, max_retries=0, concurrency=1)
        generator.open(PolicyConfig(source=str(model)))
        asked = Request("1", "word " * 590, Decoding(max_new_tokens=2), system="Be brief. " * 60)
        [reply] = generator.answer([[asked]])
        generator.close()
    assert reply.error.startswith("the server has read 3,000 of about 3,5")


@needs_client
@pytest.mark.parametrize("counts", [True, False])
def test_a_server_that_does_not_count_may_cut_prompts(counts, tmp_path, caplog):
    usage = {} if counts else {"usage": {"prompt_tokens": 0}}
    with serve(Served(ascii_model(tmp_path / "model"), fault=lambda *_: usage)) as server:
        generator = ServerGenerator("tiny", server.url, max_retries=0, concurrency=1)
        generator.open(PolicyConfig())
        assert [reply.error for reply in generator.answer([requests(2, Decoding(max_new_tokens=2))])] == ["", ""]
        generator.close()
    assert caplog.text.count("does not count tokens: whether it cuts prompts is not known") == (not counts)


@needs_client
@pytest.mark.parametrize("named", ["llama-70b", "tiny"])
def test_another_model_that_replies_name_is_told_once(named, tmp_path, caplog):
    """Routers fall back on other models, and the pairs would be theirs."""

    class Named(Served):
        def reply(self, path, body):
            code, reply = super().reply(path, body)
            return code, reply | {"model": named}

    with serve(Named(ascii_model(tmp_path / "model"))) as server:
        generator = ServerGenerator("tiny", server.url, max_retries=0, concurrency=1)
        generator.open(PolicyConfig())
        list(generator.answer([requests(2, Decoding(max_new_tokens=2))]))
        generator.close()
    assert caplog.text.count("asked for tiny, replies name llama-70b: see that no other model") == (named != "tiny")


@installed
def test_a_server_that_is_not_there_ends_the_build_with_advice():
    url = f"http://127.0.0.1:{free_port()}/v1"
    generator = ServerGenerator("m", url, max_retries=0, max_failures=3, timeout=2)
    generator.open(PolicyConfig())
    with pytest.raises(ConnectionError, match=r"3 errors in a row.*type the same command again"):
        list(generator.answer([[request] for request in requests(8, Decoding())]))


@installed
def test_single_failures_are_completions_with_an_error():
    generator = ServerGenerator("m", f"http://127.0.0.1:{free_port()}/v1", max_retries=0, timeout=2)
    generator.open(PolicyConfig())
    (reply,) = generator.answer([requests(1, Decoding())])
    assert reply.error.startswith("APIConnectionError")


@needs_client
def test_a_build_goes_on_where_its_server_has_moved(tmp_path):
    """As when a job of a cluster starts it on another node; it was refused as another generator."""
    folder, asked = ascii_model(tmp_path / "model"), {2: [], 4: []}

    def said(number, body):
        asked[limit].append(body["messages"])
        return {"choice": {"finish_reason": "stop", "message": {"content": "Oslo"}}}

    for limit in (2, 4):
        with serve(Served(folder, fault=said)) as server:
            generator = ServerGenerator("tiny", server.url, max_retries=0)
            world_build(tmp_path / "build", generator=generator, limit=limit).run()
    assert asked[2]
    assert asked[4]
    assert not [messages for messages in asked[4] if messages in asked[2]]
    with pytest.raises(ValueError, match="another generator and another model"):
        world_build(tmp_path / "build", generator=ServerGenerator("other", server.url)).run()
