"""A served model answers a benchmark: all ways to ask it, and everything that a server does wrong."""

import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
from support import official_layout
from support.model_server import KEY, Served, ascii_model, serve
from transformers import AutoTokenizer

from evaluation import LongBench
from evaluation.prompting import Prompt
from evaluation.running.responses import Responses
from evaluation.running.runner import Runner
from evaluation.running.settings import RunSettings
from evaluation.served.endpoints import Chat
from evaluation.served.model import ServedModel
from evaluation.served.settings import ServedCard, ServerSettings
from lit_longpo.errors import InputError, UnreachableError, message_for_user
from lit_longpo.policy import PolicyConfig
from lit_longpo.servers import other_model

COUNTS = {"hotpotqa": 2, "trec": 1, "samsum": 2}
NUM_NEW = 5


@pytest.fixture(scope="module")
def longbench(tmp_path_factory):
    return LongBench(official_layout.longbench(tmp_path_factory.mktemp("longbench"), COUNTS, tokens=NUM_NEW))


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    return Served(ascii_model(tmp_path_factory.mktemp("model")))


@pytest.fixture
def server(served):
    with serve(replace(served)) as listening:
        yield listening


def run(benchmark, server, responses=None, way="completions", settings=None, **patience):
    patience = {"max_retries": 0, **patience}
    policy = PolicyConfig(source=str(server.folder))
    model = ServedModel.reach(ServerSettings(server.url, "tiny", way, **patience), policy, policy.prompt_format())
    form = model.endpoint.prompt_format
    return Runner(benchmark, model, form, settings or RunSettings(), responses or Responses()).run(name="tiny")


@pytest.fixture(scope="module")
def local(longbench, served):
    policy = PolicyConfig(source=str(served.folder))
    runner = Runner(longbench, policy.load_base().eval(), policy.prompt_format(), RunSettings(), Responses())
    return runner.run(name="tiny")


def texts(report):
    return {item.id: item.prediction for item in report.predictions}


def questions(server):
    """Bodies of what the benchmark asked, without the questions that probe the server."""
    return [body for body in server.asked if body["max_tokens"] == NUM_NEW]


def test_the_local_answers_tell_something(local):
    """They differ, end early, and hold what a newline would cut."""
    assert len(set(texts(local).values())) > 2


@pytest.mark.parametrize(
    ("abilities", "how", "said"),
    [
        ({}, "prompts as token ids, answers as token ids", ()),
        ({"gives_ids": False}, "prompts as token ids, answers as text", ()),
        ({"takes_ids": False}, "prompts as text, answers as token ids", ()),
        (
            {"extras": "ignored"},
            "prompts as token ids, answers as text",
            ("the server sees to the end", "whether the server reads a repetition penalty is not known"),
        ),
        (
            {"takes_ids": False, "extras": "refused"},
            "prompts as text, answers as text",
            ("the server sees to the end of answers and not at 2 <end>, however short;", "a repetition penalty is the"),
        ),
    ],
)
def test_servers_that_take_less(abilities, how, said, longbench, served, local):
    """The same prompts, token for token; what is not the same is said, and nothing else."""
    with serve(replace(served, **abilities)) as server:
        report = run(longbench, server)
    assert report.settings["asked through"] == f"completions, {how}"
    ours = [line for line in report.deviations if line not in local.deviations]
    assert ours[0].startswith("answered by a server through completions")
    assert len(ours) == 1 + len(said)
    assert all(line.startswith(start) for line, start in zip(ours[1:], said, strict=True))
    tokenizer = AutoTokenizer.from_pretrained(server.folder)
    for example in longbench.examples("hotpotqa"):
        message = [{"role": "user", "content": "Read: {context}\nQ: {input}\nA:".format(**example.fields)}]
        ids = tokenizer.apply_chat_template(message, add_generation_prompt=True, return_dict=True)["input_ids"]
        assert ids in server.ids_read
    if not said:
        assert texts(report) == texts(local)


def test_chat_sends_texts_and_the_server_its_template(longbench, server, local):
    report = run(longbench, server, way="chat", settings=RunSettings(tasks=["hotpotqa", "trec"]))
    first = next(longbench.examples("hotpotqa"))
    text = "Read: {context}\nQ: {input}\nA:".format(**first.fields)
    assert [{"role": "user", "content": text}] in [body["messages"] for body in questions(server)]
    assert report.settings["chat template"] == "the server's own"
    assert any("asked in the server's chat template" in line for line in report.deviations)
    assert not any("sees to the end" in line for line in report.deviations)  # it obeys the end tokens that it is sent
    same = {name: text for name, text in texts(local).items() if name.startswith("hotpotqa")}
    assert {name: texts(report)[name] for name in same} == same


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("\nOslo\nRome", "\nOslo"),
        ("<think>\nOslo?\nRome\n</think>\n\nOslo.\nRome", "Oslo."),
        ("Oslo?\n</think>\nOslo.", "Oslo."),
        ("<think>\nOslo?\nRome", ""),
        ("<think>\nOslo?</think>In<think>Rome?\nNo.</think>Oslo\nRome", "Oslo"),
    ],
)
def test_a_newline_in_thoughts_ends_no_chat(said, answer, longbench, server):
    """A line of SAMSum's: the server ended thoughts at their first newline, or we did (vllm#14170)."""
    fault = {"choice": {"finish_reason": "stop", "message": {"content": said}}}
    server.fault = lambda number, body: fault if body["max_tokens"] == NUM_NEW else None
    report = run(longbench, server, way="chat", settings=RunSettings(tasks=["samsum"]))
    assert set(texts(report).values()) == {answer}
    newline = AutoTokenizer.from_pretrained(server.folder).encode("\n", add_special_tokens=False)[-1]
    assert all(newline not in body["stop_token_ids"] for body in questions(server))


def test_the_models_own_penalty_is_sent_under_the_official_protocol(longbench, server):
    run(longbench, server, settings=RunSettings(tasks=["trec"]))
    run(longbench, server, settings=RunSettings(tasks=["trec"], protocol="official"))
    assert [body["repetition_penalty"] for body in questions(server)] == [1.0, 1.3]


def test_a_penalty_that_a_server_may_not_read_is_refused_under_the_official_protocol(longbench, served):
    """sglang#28179: it was accepted and ignored; the report said that it had been applied."""
    official = RunSettings(tasks=["trec"], protocol="official")
    with serve(replace(served, extras="ignored")) as server, pytest.raises(InputError, match="--protocol served"):
        run(longbench, server, settings=official)


def test_hosted_models_that_refuse_penalties_answer(longbench, server):
    """At 0 as well (open-webui#21266, litellm#14056)."""
    refused = (400, {}, "Argument not supported on this model: presencePenalty")
    server.fault = lambda number, body: refused if "presence_penalty" in body else None
    report = run(longbench, server, way="chat", settings=RunSettings(tasks=["trec"]))
    assert "frequency and presence penalties are the server's own" in report.deviations
    assert [body["repetition_penalty"] for body in questions(server)] == [1.0]


@pytest.mark.parametrize("way", ["completions", "chat"])
def test_models_that_refuse_greedy_answers_are_refused(way, longbench, server):
    """The advice was to start the server (litellm#16090)."""
    refused = (400, {}, "Unsupported value: 'temperature' does not support 0 with this model.")
    server.fault = lambda number, body: refused if body["temperature"] == 0 else None
    with pytest.raises(InputError, match=r"to take `temperature` 0 .*does not support 0 .*; ask another model"):
        run(longbench, server, way=way)


def test_thoughts_that_leave_no_room_for_an_answer_are_said(longbench, server, caplog):
    """The content of such replies is empty, and would be a wrong answer like any other."""
    thought = {"role": "assistant", "content": None, "reasoning_content": "Let us see"}
    cut = {"choice": {"message": thought, "finish_reason": "length"}, "usage": {"completion_tokens": NUM_NEW}}
    server.fault = lambda number, body: cut if body["max_tokens"] == NUM_NEW else None
    report = run(longbench, server, way="chat")
    assert {item.prediction for item in report.predictions} == {""}
    assert caplog.text.count("still thinking when its tokens were over") == 1


@pytest.mark.parametrize(
    ("message", "written", "said"),
    [
        ({"reasoning": "The answer is Oslo."}, 6, 1),  # vllm#48645: without </think> all of it is taken for thoughts
        ({"reasoning": "The answer is Oslo.", "content": "\n\n"}, 6, 1),  # vllm#17357
        ({}, 4, 1),  # vllm#45736, vllm#41902: gpt-oss's parser loses what it does not understand
        ({}, 1, 0),  # the end of the turn at once
    ],
)
def test_answers_that_a_server_loses_are_said(message, written, said, longbench, server, caplog):
    """They came as answers without a text, and were wrong ones in silence."""
    reply = {"message": {"role": "assistant", "content": None, **message}, "finish_reason": "stop"}
    lost = {"choice": reply, "usage": {"completion_tokens": written}}
    server.fault = lambda number, body: lost if body["max_tokens"] == NUM_NEW else None
    report = run(longbench, server, way="chat")
    assert {item.prediction.strip() for item in report.predictions} == {""}
    assert caplog.text.count("took all of them for thoughts, or lost them") == said
    assert "still thinking" not in caplog.text


def test_thoughts_that_are_not_under_the_limit_do_not_cut_an_answer_off(longbench, server):
    """The report said that the limit had ended it."""
    thought = {"role": "assistant", "content": "Oslo", "reasoning_content": "Let us see"}
    whole = {"choice": {"message": thought, "finish_reason": "stop"}, "usage": {"completion_tokens": 90}}
    server.fault = lambda number, body: whole if body["max_tokens"] == NUM_NEW else None
    report = run(longbench, server, way="chat")
    assert {item.prediction for item in report.predictions} == {"Oslo"}
    assert not [note for note in report.notes if "limit of tokens" in note]


@pytest.mark.parametrize(("last", "is_cut"), [(1, False), (70, True)])
def test_an_answer_whose_last_token_is_its_end_is_not_cut_off(last, is_cut, longbench, server):
    """vLLM says "length" where an answer ends with the last token that it may have (vllm#27390)."""
    fault = {"choice": {"finish_reason": "length", "token_ids": [70] * (NUM_NEW - 1) + [last]}}
    fault["usage"] = {"completion_tokens": NUM_NEW}
    server.fault = lambda number, body: fault if body["max_tokens"] == NUM_NEW else None
    report = run(longbench, server, settings=RunSettings(tasks=["hotpotqa"]))
    assert any("the limit of tokens ended" in note for note in report.notes) is is_cut


@pytest.mark.parametrize("words", [{"finish_reason": "MAX_TOKENS"}, {"native_finish_reason": "MAX_TOKENS"}])
def test_the_limit_in_the_words_of_another_server_is_counted(words, longbench, server):
    """qwen-code#9882, litellm#10768: in one there was no answer, in the other a whole one."""
    fault = {"choice": {"text": "Oslo", "finish_reason": "stop", **words}, "usage": {"completion_tokens": 0}}
    server.fault = lambda number, body: fault if body["max_tokens"] == NUM_NEW else None
    server.gives_ids = False
    report = run(longbench, server, settings=RunSettings(tasks=["hotpotqa"]))
    assert {item.prediction for item in report.predictions} == {"Oslo"}
    assert any("the limit of tokens ended" in note for note in report.notes)


def test_a_refusal_apart_is_the_answer(longbench, server):
    """openclaw#102321: the server was said to have lost the answer."""
    said = {"message": {"role": "assistant", "content": None, "refusal": "I cannot."}, "finish_reason": "stop"}
    server.fault = lambda number, body: {"choice": said} if body["max_tokens"] == NUM_NEW else None
    assert {item.prediction for item in run(longbench, server, way="chat").predictions} == {"I cannot."}


def test_a_server_that_does_not_read_the_limit_is_refused(longbench, server):
    """litellm#1629: answers beyond a benchmark's limit were scored."""
    server.fault = lambda number, body: {"usage": {"completion_tokens": 90}} if body["max_tokens"] == NUM_NEW else None
    with pytest.raises(UnreachableError, match="an answer of 90: it does not read `max_tokens`"):
        run(longbench, server, way="chat")


@pytest.mark.parametrize("way", ["chat", "completions"])
def test_an_end_token_that_a_server_writes_out_is_no_part_of_the_answer(way, longbench, served):
    """mlx-examples#489: "Oslo<eos>" was wrong by F1 and EM, and the answer that a local run gives is right."""

    def written(number, body):
        said = "Oslo<eos>[user]And Rome?"
        message = {"text": said} if way == "completions" else {"message": {"role": "assistant", "content": said}}
        return {"choice": {"finish_reason": "stop", **message}}

    with serve(replace(served, gives_ids=False, fault=written)) as server:
        report = run(longbench, server, way=way, settings=RunSettings(tasks=["hotpotqa"]))
    assert set(texts(report).values()) == {"Oslo"}


@pytest.mark.parametrize(
    ("end", "said", "answer"),
    [
        ("</s>", "The tag </s> strikes</s>", "The tag </s> strikes"),
        ("</s>", "Oslo</s>\n", "Oslo"),
        ("<|im_end|>", "What strikes is </s>", "What strikes is </s>"),  # no token of the model, nor are these
        ("<|im_end|>", "<eos><|im_end|>", "<eos>"),
        ("<|im_end|>", "Oslo<|im_end|>\nRome<|im_end|>", "Oslo"),
        ("\n", "Oslo\nRome", "Oslo\nRome"),  # no special token
    ],
)
def test_an_end_token_that_may_be_html_ends_an_answer_at_its_end_alone(end, said, answer):
    tokens = {7: SimpleNamespace(content=end, special=end != "\n")}
    prompt_format = SimpleNamespace(tokenizer=SimpleNamespace(added_tokens_decoder=tokens), stop_ids=())
    endpoint = Chat(ServerSettings("http://x"), ServedCard("tiny"), prompt_format, ends=(7,))
    choice = SimpleNamespace(message=SimpleNamespace(content=said))
    assert endpoint.text(choice, Prompt((1,), 4, (), num_tokens=1, uses_chat=True)) == answer


def test_a_server_that_repeats_the_prompt_is_refused(longbench, served):
    """helm#1823: the prompt holds the right answer, so every answer was right by sub-EM."""

    class Repeating(Served):
        def reply(self, path, body):
            code, reply = super().reply(path, body)
            asked = body["prompt"]
            text = asked if isinstance(asked, str) else self.tokenizer.decode(asked, skip_special_tokens=True)
            reply["choices"][0]["text"] = text + reply["choices"][0]["text"]
            return code, reply

    with (
        serve(Repeating(served.folder, gives_ids=False)) as server,
        pytest.raises(InputError, match=r"got the prompt before it; turn that off .* or type --server_way chat"),
    ):
        run(longbench, server)


@pytest.mark.parametrize(
    ("named", "asked", "other"),
    [
        ("llama-70b", "tiny", "llama-70b"),
        ("Tiny-2024-08-06", "tiny", None),
        ("tiny", "openai/tiny", None),
        ("/models/Tiny.gguf", "tiny", None),
        ("llama3.2", "llama3.2:latest", None),
        ("claude-3-5-haiku-20241022", "claude-3-5-haiku-latest", None),
        ("gpt-4o-mini", "gpt-4o", "gpt-4o-mini"),
        ("gpt-4o-mini-2024-07-18", "openai/gpt-4o", "gpt-4o-mini-2024-07-18"),
        ("gpt-4", "gpt-4o", "gpt-4"),
        ("qwen2.5-72b", "qwen2.5", "qwen2.5-72b"),
        ("gpt-4o-2024-05-13", "gpt-4o-2024-08-06", "gpt-4o-2024-05-13"),
        ("b/tiny", "a/tiny", "b/tiny"),
        (None, "tiny", None),
    ],
)
def test_another_model_that_replies_name_is_seen(named, asked, other):
    """FastFlowLM#716, litellm's fallbacks: another model answers than was asked for."""
    assert other_model(SimpleNamespace(model=named), asked) == other


@pytest.mark.parametrize("way", ["chat", "completions"])
def test_another_model_that_replies_name_is_told(way, longbench, served, caplog):
    class Other(Served):
        def reply(self, path, body):
            code, reply = super().reply(path, body)
            return code, reply | {"model": "llama-70b"}

    with serve(Other(served.folder)) as server:
        report = run(longbench, server, way=way, settings=RunSettings(tasks=["trec"]))
    assert "the server's replies name the model llama-70b, not tiny" in report.deviations
    assert caplog.text.count("asked for tiny, replies name llama-70b: see that no other model answers") == 1


@pytest.mark.parametrize("way", ["chat", "completions"])
def test_a_chat_server_may_keep_thoughts_apart(server, way):
    """With `--reasoning-parser` the content is the answer alone, with no sign that the prompt opened thoughts."""
    policy = PolicyConfig(source=str(server.folder))
    model = ServedModel.reach(ServerSettings(server.url, "tiny", way), policy, policy.prompt_format())
    assert model.gives_thoughts == (way == "completions")


@pytest.mark.parametrize("way", ["chat", "completions"])
def test_a_server_that_does_not_count_may_cut_prompts(server, way):
    """Of chat servers nobody was told."""
    policy = PolicyConfig(source=str(server.folder))
    for usage, said in (({}, 0), ({"usage": {"prompt_tokens": 0}}, 1)):
        server.fault = lambda number, body, usage=usage: usage
        model = ServedModel.reach(ServerSettings(server.url, "tiny", way), policy, policy.prompt_format())
        assert sum("whether it cuts prompts is not known" in line for line in model.deviations) == said


def test_a_reply_in_parts_is_its_text(longbench, server):
    """Mistral's servers part thoughts and answer so (ai-dial-adapter-openai#395)."""
    texts_of = [{"type": "text", "text": text} for text in ("Os", "lo")]
    parts = [{"type": "thinking", "thinking": "Let us see"}, *texts_of]
    said = {"message": {"role": "assistant", "content": parts}, "finish_reason": "stop"}
    server.fault = lambda number, body: {"choice": said} if body["max_tokens"] == NUM_NEW else None
    assert {item.prediction for item in run(longbench, server, way="chat").predictions} == {"Oslo"}


def test_a_server_that_fails_is_asked_again(longbench, server, local):
    """Codes 500 and 429, garbage and a cut connection, each once; then the answer."""
    wait = {"Retry-After": "0.01"}
    faults = {2: (500, wait), 3: (429, wait), 4: b'{"choices": [{"te', 5: "die"}
    server.fault = lambda number, body: faults.get(number)
    assert texts(run(longbench, server, max_retries=4)) == texts(local)
    assert len(questions(server)) == len(texts(local)) + len(faults)


def test_a_question_that_hangs_is_asked_again_next_time(longbench, server, local, tmp_path):
    server.fault = lambda number, body: "hang" if number == 3 else None
    with pytest.raises(ConnectionError, match=r"got none to 1 of them, for example \w+/r\d; type the same") as caught:
        run(longbench, server, Responses(tmp_path), timeout=3, concurrency=2)
    assert message_for_user(caught.value)
    server.fault = lambda number, body: None
    server.asked.clear()
    assert texts(run(longbench, server, Responses(tmp_path))) == texts(local)
    assert len(questions(server)) == 1


def test_a_run_whose_server_died_goes_on(longbench, served, local, tmp_path):
    with serve(replace(served)) as server:
        server.fault = lambda number, body: "die" if number >= 4 else None
        with pytest.raises(ConnectionError, match=r"2 errors in a row.*type the same command again to go on"):
            run(longbench, server, Responses(tmp_path), max_failures=2, concurrency=1)
    with serve(replace(served)) as again:  # at another address
        report = run(longbench, again, Responses(tmp_path))
    assert texts(report) == texts(local)
    num_before = sum(body["max_tokens"] == NUM_NEW for body in server.asked[:4])
    assert num_before > 0
    assert len(questions(again)) == len(texts(local)) - num_before
    assert report.settings["earlier runs"] == f"device: server {server.url}"


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"usage": {"prompt_tokens": 7}}, r"to read a whole prompt of .* tokens, got 7 tokens read"),
        ({"choice": {"finish_reason": "length"}, "usage": {"completion_tokens": 2}}, "got an answer cut at 2"),
        ({"choice": {"finish_reason": "content_filter"}}, "none to 1 of them"),
        ({"choice": {"finish_reason": "stop", "error": {"message": "upstream is gone"}}}, "none to 1 of them"),
        ({"choice": {"text": None, "token_ids": None}}, "none to 1 of them"),
        ((400, {}, f"key {KEY} may not"), "none to 1 of them"),
        ((401, {}, f"key {KEY} may not"), r"got AuthenticationError: .*\*\*\* may not.*; start it, or"),
    ],
)
def test_answers_that_are_not_whole_are_none(fault, said, longbench, server, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server.fault = lambda number, body: fault if body["max_tokens"] == NUM_NEW else None
    with pytest.raises(ConnectionError, match=said) as caught:
        run(longbench, server, Responses(tmp_path), settings=RunSettings(tasks=["trec"]))
    assert KEY not in message_for_user(caught.value) + caplog.text
    assert not (tmp_path / "trec.jsonl").exists()


def test_no_more_questions_at_once_than_allowed(longbench, server):
    server.fault = lambda number, body: time.sleep(0.05)  # a busy machine answers one before it asks the next
    run(longbench, server, concurrency=2, settings=RunSettings(tasks=["hotpotqa", "samsum"]))
    assert server.most_under_way == 2


def test_a_time_box_stops_a_server_too(longbench, server, monkeypatch):
    clock = iter(range(10**6))
    monkeypatch.setattr("evaluation.running.runner.time.monotonic", lambda: float(next(clock)))
    report = run(longbench, server, concurrency=1, settings=RunSettings(max_minutes=0.2))
    assert 1 <= len(report.predictions) < sum(COUNTS.values())


def test_the_servers_window_counts(longbench, server):
    server.card = {"max_model_len": 160, "root": "/models/tiny"}
    report = run(longbench, server, settings=RunSettings(tasks=["hotpotqa"]))
    assert (report.settings["window"], report.settings["served model"]) == (160, "tiny (/models/tiny)")
    assert "the server reads 160 positions, the model 4096" in report.deviations
    assert max(len(body["prompt"]) + body["max_tokens"] for body in questions(server)) <= 160


def test_half_a_character_of_a_server_is_replaced(server):
    policy = PolicyConfig(source=str(server.folder))
    model = ServedModel.reach(ServerSettings(server.url, "tiny"), policy, policy.prompt_format())
    choice = SimpleNamespace(finish_reason="stop", text="ab \ud83d c", message=None)
    reply, prompt = SimpleNamespace(choices=[choice], usage=None), Prompt((1, 2), 5, (), num_tokens=2, uses_chat=False)
    said = model._given_answer(reply, prompt)
    assert (said.text, said.at_limit) == ("ab \ufffd\ufffd\ufffd c", False)
    choice.finish_reason = "length"
    assert model._given_answer(reply, prompt).at_limit
