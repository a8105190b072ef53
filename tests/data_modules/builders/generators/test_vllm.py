"""vLLM where it is not installed; with it, tests need a GPU."""

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import SimpleNamespace

import pytest
from huggingface_hub import constants
from support.byte_tokenizer import CHAT, byte_model, byte_tokenizer

from data_modules.builders.generators.prompts import RequestPrompts
from data_modules.builders.generators.requests import Decoding, Request
from data_modules.builders.generators.vllm import VLLMGenerator
from lit_longpo.policy import PolicyConfig, PromptFormat
from lit_longpo.policy.prompts.thoughts import without_thoughts


def test_vllm_that_is_absent_is_said():
    if importlib.util.find_spec("vllm") is not None:
        pytest.skip("vLLM is installed")
    with pytest.raises(ImportError, match="pip install vllm"):
        VLLMGenerator().open(PolicyConfig())


def test_vllm_reads_the_tokens_that_fit_trains(monkeypatch):
    """It is sent ids, so that neither its template nor its tokenizer has a say."""
    asked = engine(monkeypatch)
    generator, policy = VLLMGenerator(), PolicyConfig()
    assert "text:2024-07-26" in generator.open(policy)
    (completion,) = generator.answer([[Request("a", "Who lives <eos> here ?", Decoding())]])
    assert completion.text == "Rome"
    form = RequestPrompts(policy).format(None)
    ((prompt, settings),) = asked
    assert prompt["prompt_token_ids"] == list(form.encode_prompt("", "Who lives <eos> here ?").ids)
    assert form.end_id not in prompt["prompt_token_ids"]
    assert settings["stop_token_ids"] == [form.end_id]


def test_other_weights_in_the_same_folder_are_another_model(monkeypatch, tmp_path):
    """A build that goes on would take the answers of those before for theirs."""
    engine(monkeypatch)
    identities = []
    for seed in (1, 1, 2):
        identities.append(VLLMGenerator().open(PolicyConfig(source=str(byte_model(tmp_path, seed=seed)))))
    assert identities[0] == identities[1] != identities[2]


def test_another_commit_of_a_hubs_model_is_another_model(monkeypatch, tmp_path):
    """Its main branch may move between two builds."""
    engine(monkeypatch)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    kept = tmp_path / "models--owner--name"
    (kept / "refs").mkdir(parents=True)
    identities = []
    for commit in ("a" * 40, "b" * 40):
        (kept / "refs" / "main").write_text(commit)
        (kept / "snapshots" / commit).mkdir(parents=True)
        byte_model(kept / "snapshots" / commit)
        identities.append(VLLMGenerator().open(PolicyConfig(source="owner/name")))
    assert identities[0].replace("a" * 40, "b" * 40) == identities[1] != identities[0]


@pytest.mark.parametrize(("reason", "error"), [("stop", False), ("length", False), ("abort", True), ("error", True)])
def test_a_part_of_an_answer_is_none(reason, error, monkeypatch):
    engine(monkeypatch, reason)
    generator = VLLMGenerator()
    generator.open(PolicyConfig())
    [completion] = generator.answer([[Request("r", "Who ?", Decoding())]])
    assert (bool(completion.error), completion.text) == (error, "" if error else "Rome")
    assert error or completion.finished == (reason == "stop")


@pytest.mark.parametrize("reason", ["length", "stop"])
def test_half_a_letter_at_the_end_is_none(reason, monkeypatch):
    engine(monkeypatch, reason, says=lambda stop: "Jos\ufffd")
    generator = VLLMGenerator()
    generator.open(PolicyConfig())
    [completion] = generator.answer([[Request("r", "Who ?", Decoding())]])
    assert completion.text == ("Jos" if reason == "length" else "Jos\ufffd")


@pytest.mark.parametrize(("said", "rounds"), [("<think>a b</think>c d", 2), ("c d", 1)])
def test_a_stop_text_in_thoughts_ends_nothing(said, rounds, monkeypatch):
    """vllm#14170: the engine ends them there, so it is asked again."""
    asked = engine(
        monkeypatch, says=lambda stop: min((said.partition(mark)[0] for mark in stop), key=len, default=said)
    )
    generator = VLLMGenerator()
    generator.open(PolicyConfig())
    [completion] = generator.answer([[Request("r", "Who ?", Decoding(stop=("b", "d")))]])
    assert (completion.text, completion.finished) == (said.removesuffix(" d"), True)
    assert [settings["stop"] for _, settings in asked] == [["b", "d"], []][:rounds]


def test_one_prompt_beyond_the_window_fails_alone(monkeypatch, tmp_path):
    """The engine refuses it with all others of the call (vllm#16732)."""
    policy = PolicyConfig(source=str(byte_model(tmp_path, max_position_embeddings=64)))
    for options, window in (({}, 64), ({"max_model_len": 40}, 40), ({"max_model_len": -1}, 64)):
        asked, generator = engine(monkeypatch), VLLMGenerator(options)
        generator.open(policy)
        long, short = (
            Request("long", "word " * 20, Decoding(max_new_tokens=4)),
            Request("short", "Who?", Decoding(max_new_tokens=4)),
        )
        replies = {reply.request: reply for reply in generator.answer([[long], [short]])}
        assert replies["long"].error.startswith("a prompt of 101 tokens and 4 of an answer exceed")
        assert f"the {window} positions" in replies["long"].error
        assert (replies["short"].text, len(asked)) == ("Rome", 1)
        assert [reply.error[:8] for reply in generator.answer([[long]])] == ["a prompt"]


def test_thoughts_between_special_tokens_are_told_from_the_answer(monkeypatch, tmp_path):
    """The engine's text has no special tokens (vllm#38855): thoughts and answer were one."""
    thoughts = "{% if m['thinking'] is defined %}<bos>{{ m['thinking'] }}<eos>{% endif %}"
    template = CHAT.replace("{{ m['content'] }}", thoughts + "{{ m['content'] }}")
    source = str(byte_model(tmp_path, chat_template=template))
    ids = byte_tokenizer().encode("<bos>Oslo?<eos>Rome<end>", add_special_tokens=False)
    engine(monkeypatch, says=lambda stop: "Oslo?Rome", token_ids=ids)
    generator = VLLMGenerator()
    generator.open(PolicyConfig(source=source))
    (completion,) = generator.answer([[Request("a", "Where?", Decoding())]])
    assert (completion.text, without_thoughts(completion.text)) == ("<think>Oslo?</think>Rome", "Rome")


def test_a_text_is_tokenised_once_for_room_and_answers(monkeypatch):
    engine(monkeypatch)
    generator, made = VLLMGenerator(), []
    generator.open(PolicyConfig())
    encode = PromptFormat.encode_prompt
    monkeypatch.setattr(PromptFormat, "encode_prompt", lambda *given: made.append(given[2]) or encode(*given))
    sampled = Decoding(temperature=1.0)
    for _ in range(2):
        list(generator.answer([[Request("a", "Who ?", sampled, seed=1)], [Request("b", "Who ?", sampled, seed=2)]]))
        assert made == ["Who ?"]
        made.clear()


def engine(monkeypatch, reason="stop", says=lambda stop: " Rome ", token_ids=(1,)):
    """A stand-in for vLLM; gives the list of what it will be asked."""
    asked = []

    class LLM:
        def __init__(self, **options):
            self.options = options

        def generate(self, prompts, settings):
            asked.extend(zip(prompts, settings, strict=True))
            texts = [says(values["stop"]) for values in settings]
            answers = [SimpleNamespace(text=text, finish_reason=reason, token_ids=token_ids) for text in texts]
            return [
                SimpleNamespace(outputs=[answer], prompt_token_ids=prompt["prompt_token_ids"], request_id="r")
                for prompt, answer in zip(prompts, answers, strict=True)
            ]

    stand_in = SimpleNamespace(LLM=LLM, SamplingParams=lambda **values: values, __spec__=ModuleSpec("vllm", None))
    monkeypatch.setitem(sys.modules, "vllm", stand_in)
    return asked
