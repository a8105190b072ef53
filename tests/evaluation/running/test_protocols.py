"""Answers by the official scripts' rules: beside transformers' own `generate`, told what those scripts tell it."""

import pytest
import torch
from support import official_layout
from support.byte_tokenizer import CHAT as WITH_BOS
from support.byte_tokenizer import byte_tokenizer
from support.tiny_models import tiny_model

from evaluation import LongBench, LVEval, NeedleBenchmark
from evaluation.running.protocols import chat_deviation
from evaluation.running.responses import Responses
from evaluation.running.runner import Runner
from evaluation.running.settings import RunSettings
from lit_longpo.engine import generation_mode
from lit_longpo.policy import PromptFormat, PromptTemplate

CHAT = WITH_BOS.removeprefix("<bos>")  # as ChatML, which leaves <bos> to the tokenizer
OPENED = {"add_generation_prompt": True}
OWN = {"repetition_penalty": 1.3, "no_repeat_ngram_size": 4, "eos_token_id": [1, 40]}
AT_ONCE = {"eos_token_id": [1], "sequence_bias": [[[1], 10.0]]}  # the end, unless something keeps it back
OTHERS = [
    *({"min_new_tokens": 4, **AT_ONCE}, {"min_length": 158, **AT_ONCE}, {"guidance_scale": 1.5}),
    *({"encoder_repetition_penalty": 1.5}, {"encoder_no_repeat_ngram_size": 1}),
]


@pytest.fixture(scope="module")
def longbench(tmp_path_factory):
    return LongBench(official_layout.longbench(tmp_path_factory.mktemp("longbench"), {"hotpotqa": 4, "samsum": 2}))


@pytest.fixture(scope="module")
def model():
    model = tiny_model("Llama", vocab_size=260, max_position_embeddings=4096).eval()
    model.generation_config.update(**OWN)
    return model


def asked(benchmark, model, template, **settings):
    form = PromptFormat(byte_tokenizer(chat_template=template), PromptTemplate())
    return Runner(benchmark, model, form, RunSettings(max_length=3500, **settings), Responses()).run(name="some-model")


def official_texts(benchmark, model, template):
    """Each prompt alone, through the model's own `generate`, as the official loop calls it."""
    tokenizer, texts = byte_tokenizer(chat_template=template), []
    for task in benchmark.tasks:
        for example in benchmark.examples(task):
            text = benchmark._templates[task].format(**example.fields)
            if task != "samsum":
                text = tokenizer.apply_chat_template([{"role": "user", "content": text}], tokenize=False, **OPENED)
            given = tokenizer(text.removeprefix("<bos>"), return_tensors="pt")
            ids, more = given.input_ids, {}
            if task == "samsum":
                more = {"min_length": ids.shape[1] + 1, "eos_token_id": [1, tokenizer.encode("\n")[-1]]}
            own = model.generation_config
            with generation_mode(model):
                model.generation_config = own
                limit = benchmark._limits[task]
                out = model.generate(
                    **given, max_new_tokens=limit, do_sample=False, num_beams=1, temperature=1.0, **more
                )
            texts.append(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True))
    return texts


@pytest.mark.parametrize("template", [CHAT, WITH_BOS], ids=["no bos written", "bos written"])
def test_official_answers_are_those_of_the_official_loop(longbench, model, template):
    report = asked(longbench, model, template, protocol="official")
    assert [row.prediction for row in report.predictions] == official_texts(longbench, model, template)
    assert report.settings["answers"].startswith(
        "most likely tokens, official, with the model's repetition_penalty 1.3"
    )
    assert not [text for text in report.deviations if "not applied" in text or "answers end" in text]


def test_answers_that_their_limit_ended_are_counted(longbench):
    """As plain `generate` ends them (olmo-eval#399, sgl-eval#17: scores were low as answers were cut)."""
    model = tiny_model("Llama", vocab_size=260, max_position_embeddings=4096).eval()
    tokenizer, limit, written = byte_tokenizer(chat_template=CHAT), longbench._limits["hotpotqa"], []
    for example in longbench.examples("hotpotqa"):
        text = longbench._templates["hotpotqa"].format(**example.fields)
        text = tokenizer.apply_chat_template([{"role": "user", "content": text}], tokenize=False, **OPENED)
        given = tokenizer(text, return_tensors="pt")
        with generation_mode(model):
            out = model.generate(**given, max_new_tokens=limit, do_sample=False, eos_token_id=None, pad_token_id=0)
        written.append(out[0, given.input_ids.shape[1] :].tolist())
    end = next(token for token in written[0] if not all(token in ids for ids in written))
    model.generation_config.eos_token_id = [end]
    left = sum(end not in ids for ids in written)
    report = asked(longbench, model, CHAT, protocol="official", tasks=["hotpotqa"])
    assert f"answers that the limit of tokens ended, not the model: hotpotqa {left} of 4" in report.notes
    model.generation_config.eos_token_id = list(range(260))
    ended = asked(longbench, model, CHAT, protocol="official", tasks=["hotpotqa"])
    assert "the limit of tokens" not in " ".join(ended.notes)


@pytest.mark.parametrize("own", OTHERS, ids=lambda own: next(iter(own)))
def test_settings_that_few_models_have_hold_too(longbench, own):
    model = tiny_model("Llama", vocab_size=260, max_position_embeddings=4096).eval()
    model.generation_config.update(**own)
    report = asked(longbench, model, CHAT, protocol="official", tasks=["hotpotqa"])
    texts = [row.prediction for row in report.predictions]
    assert texts == official_texts(longbench, model, CHAT)[: len(texts)]
    assert any(texts)
    said = "{} {}".format(*next(iter(own.items())))
    assert said in report.settings["answers"]
    served = asked(longbench, model, CHAT, tasks=["hotpotqa"])
    assert [row.prediction for row in served.predictions] != texts
    assert [said in text for text in served.deviations if "not applied" in text] == [True]


@pytest.mark.parametrize("protocol", ["served", "official"])
def test_stop_strings_of_a_model_are_told_and_end_nothing(longbench, protocol):
    """The official loop (`generate` refuses them, transformers#34571, vllm#48676) and servers apply none."""
    model = tiny_model("Llama", vocab_size=260, max_position_embeddings=4096).eval()
    model.generation_config.eos_token_id = [1, 2]
    before = asked(longbench, model, CHAT, protocol=protocol, tasks=["hotpotqa"])
    stop = next(row.prediction[1] for row in before.predictions if len(row.prediction) > 1)
    model.generation_config.stop_strings = [stop]
    report = asked(longbench, model, CHAT, protocol=protocol, tasks=["hotpotqa"])
    assert report.predictions == before.predictions
    said = f"stop_strings {[stop]!r} of the model's generation settings not applied"
    assert said in report.deviations
    assert said not in before.deviations


def test_served_answers_are_others_and_say_why(longbench, model):
    served = asked(longbench, model, CHAT)
    official = [row.prediction for row in asked(longbench, model, CHAT, protocol="official").predictions]
    assert [row.prediction for row in served.predictions] != official
    said = {
        "repetition_penalty 1.3, no_repeat_ngram_size 4 of the model's generation settings not applied",
        "answers end at <end>, too",
        "no beginning-of-text token before the chat template",
        "asked in the tokenizer's chat template; the official script asks models that it does not name plainly",
    }
    assert said <= set(served.deviations)
    assert served.settings["answers"] == "most likely tokens, served"


@pytest.mark.parametrize("protocol", ["served", "official"])
def test_spaces_that_official_scripts_clean_up_are_told(longbench, model, protocol, monkeypatch):
    """Llama 3's tokenizer asks for it (transformers#35175); `x != y` would be `x!= y`."""
    said = "spaces before punctuation are left in answers (no `clean_up_tokenization_spaces`)"
    assert said not in asked(longbench, model, CHAT, protocol=protocol, limit=1, tasks=["samsum"]).deviations
    form = PromptFormat(byte_tokenizer(chat_template=CHAT), PromptTemplate())
    monkeypatch.setattr(form.tokenizer, "clean_up_tokenization_spaces", True)
    settings = RunSettings(max_length=3500, protocol=protocol, limit=1, tasks=["samsum"])
    assert said in Runner(longbench, model, form, settings, Responses()).run().deviations


def test_a_model_without_settings_of_its_own_is_asked_alike(longbench):
    plain = tiny_model("Llama", vocab_size=260, max_position_embeddings=4096).eval()
    plain.generation_config.eos_token_id = [1, 2]
    reports = [asked(longbench, plain, WITH_BOS, protocol=name) for name in ("served", "official")]
    assert reports[0].predictions == reports[1].predictions
    assert not [text for text in reports[0].deviations if "answers end" in text or "not applied" in text]
    plain.generation_config.eos_token_id = None
    report = asked(longbench, plain, WITH_BOS, protocol="official", limit=1)
    assert "the model's generation settings name no end token: answers end at the tokenizer's" in report.deviations


def test_a_penalty_does_not_count_padding(longbench, model):
    """In one batch or alone: answers are the same."""
    report = asked(longbench, model, CHAT, protocol="official", tasks=["hotpotqa"])
    texts = [row.prediction for row in report.predictions]
    assert len({row.num_tokens for row in report.predictions}) > 1
    assert texts == official_texts(longbench, model, CHAT)[: len(texts)]


def test_there_is_no_official_way_to_ask_needles(model):
    with pytest.raises(ValueError, match="type --protocol served"):
        asked(NeedleBenchmark(lengths=(64,)), model, CHAT, protocol="official")


@pytest.mark.parametrize(
    ("model", "used", "said"),
    [
        ("runs/llama2-7b-chat-4k (abc)", True, "has a string for llama2"),
        ("Qwen2.5-7B-Instruct", True, "asks models that it does not name plainly"),
        ("vicuna-v1.5-7b-16k", False, "asked plainly, where the official script has a chat string for vicuna"),
        ("Qwen2.5-7B", False, None),
    ],
)
def test_what_the_official_script_writes_around_prompts_is_said(model, used, said):
    found = chat_deviation(LongBench, model, used=used)
    assert found == () if said is None else [said in text for text in found] == [True]
    assert chat_deviation(NeedleBenchmark, model, used=used) == ()
    assert LVEval.chat_names


def test_settings_are_left_as_they_were(model):
    assert {name: getattr(model.generation_config, name) for name in OWN} == OWN
    assert torch.is_grad_enabled()
