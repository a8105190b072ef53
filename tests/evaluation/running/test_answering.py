import logging
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.greedy import greedy
from support.tiny_models import tiny_model

from evaluation.prompting import Prompt
from evaluation.running.answering import answer
from evaluation.running.batching import Batching
from lit_longpo.engine import generation_mode

MODEL = tiny_model("Llama").eval()
EOS = 2


def alone(prompt, count, model=MODEL, stop_ids=(EOS,), min_new_tokens=0):
    """The most likely token again and again, whole forward each time, no cache and no padding."""
    ids = list(prompt)
    with generation_mode(model):
        for number in range(count):
            scores = model(input_ids=torch.tensor([ids])).logits[0, -1]
            scores[list(stop_ids)] -= torch.inf if number < min_new_tokens else 0.0
            token = int(scores.argmax())
            if token in stop_ids:
                break
            ids.append(token)
    return ids[len(prompt) :]


def prompt(ids, max_new_tokens=4, stop_ids=(EOS,), min_new_tokens=0):
    told = {"num_tokens": len(ids), "uses_chat": False, "min_new_tokens": min_new_tokens}
    return Prompt(tuple(ids), max_new_tokens, tuple(stop_ids), **told)


def collected(model, asked, batching, **options):
    found = {}
    for part in answer(model, asked, batching, **options):
        assert not found.keys() & part.keys()
        found.update(part)
    return [found[number] for number in range(len(asked))]


prompts = st.lists(st.lists(st.integers(3, 95), min_size=1, max_size=12), min_size=1, max_size=6)


@given(prompts, st.sampled_from([1, 20, 1000]))
@settings(max_examples=15, deadline=None)
def test_batches_answer_like_single_prompts_in_the_same_order(batch, budget):
    answers = greedy(MODEL, batch, max_new_tokens=4, eos_token_id=EOS, max_batch_tokens=budget)
    assert answers == [alone(prompt, 4) for prompt in batch]


def test_progress_counts_every_prompt():
    done = []
    greedy(MODEL, [[3, 4]] * 5, max_new_tokens=2, eos_token_id=EOS, max_batch_tokens=4, progress=done.append)
    assert sum(done) == 5
    assert len(done) == 3


SETTINGS = [
    {"repetition_penalty": 50.0},
    {"no_repeat_ngram_size": 1},
    {"do_sample": True, "temperature": 9.0},
    {"num_beams": 3},
    {"suppress_tokens": list(range(3, 60))},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: next(iter(settings)))
def test_the_models_own_generation_settings_have_no_say(settings):
    model, prompts = tiny_model("Llama").eval(), [[3, 4, 5], [9]]
    plain = greedy(model, prompts, max_new_tokens=8, eos_token_id=EOS)
    model.generation_config.update(**settings)
    assert greedy(model, prompts, max_new_tokens=8, eos_token_id=EOS) == plain
    assert all(getattr(model.generation_config, name) == value for name, value in settings.items())


def test_no_settings_no_warnings(caplog):
    model = tiny_model("Llama").eval()
    model.generation_config.temperature = 0.3
    transformers_log = logging.getLogger("transformers")
    transformers_log.addHandler(caplog.handler)
    try:
        greedy(model, [[3, 4]], max_new_tokens=2, eos_token_id=EOS)
    finally:
        transformers_log.removeHandler(caplog.handler)
    assert not caplog.records


def test_the_end_token_is_left_out():
    prompt = [5, 6, 7]
    first = alone(prompt, 1)[0]
    assert greedy(MODEL, [prompt], max_new_tokens=3, eos_token_id=first) == [[]]


@pytest.mark.parametrize("as_list", [True, False])
def test_the_models_own_end_tokens_end_an_answer_unless_the_task_names_all(as_list):
    model, asked = tiny_model("Llama").eval(), prompt([5, 6, 7], max_new_tokens=6)
    whole = alone([5, 6, 7], 6)
    end = next(token for token in whole if token != whole[0])
    model.generation_config.eos_token_id = [EOS, end] if as_list else end
    assert collected(model, [asked], Batching()) == [whole[: whole.index(end)]]
    assert collected(model, [replace(asked, only_these_stops=True)], Batching()) == [whole]


@pytest.mark.parametrize("training", [True, False])
def test_the_models_mode_is_restored(training):
    model = tiny_model("Llama").train(training)
    greedy(model, [[3]], max_new_tokens=1, eos_token_id=EOS)
    assert model.training == training


# Sliding windows of 8 tokens, far below the prompts' lengths, in two of them.
MODELS = {name: tiny_model(name).eval() for name in ("Llama", "Mistral", "Gemma3Text")}
START = list(range(10, 40))
FAMILY = [[*START, 41], [*START, 42, 43, 44], [*START, 42, 50], [60, 61, 62], START, [60, 61], [*START[:20], 7, 8, 9]]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("chunk", [None, 1, 7, 64])
@pytest.mark.parametrize("min_shared", [0, 8])
def test_chunks_padding_and_shared_contexts_change_no_answer(name, chunk, min_shared):
    asked = [prompt(ids) for ids in FAMILY]
    answers = collected(MODELS[name], asked, Batching(200, chunk, min_shared))
    assert answers == [alone(ids, 4, MODELS[name]) for ids in FAMILY]
    assert len({tuple(row) for row in answers}) > 3


def test_a_shared_context_is_computed_once(monkeypatch):
    forwarded = []
    model = MODELS["Llama"]
    plain = type(model.model).forward

    def counted(self, input_ids=None, **options):
        forwarded.append(input_ids.numel())
        return plain(self, input_ids=input_ids, **options)

    monkeypatch.setattr(type(model.model), "forward", counted)
    asked = [prompt([*START, number], max_new_tokens=1) for number in range(50, 55)]
    collected(model, asked, Batching(min_shared=8))
    assert forwarded == [30, 5]
    forwarded.clear()
    collected(model, asked, Batching(62, min_shared=8))
    assert forwarded == [30, 2, 2, 1]


def test_longer_questions_on_a_shared_context_read_again_what_padding_takes_from_shorter_ones(monkeypatch):
    forwarded = []
    plain = type(MODEL.model).forward

    def counted(self, input_ids=None, **options):
        forwarded.append(tuple(input_ids.shape))
        return plain(self, input_ids=input_ids, **options)

    monkeypatch.setattr(type(MODEL.model), "forward", counted)
    asked = [[*START, *range(50, 50 + size)] for size in (1, 4, 2)]
    answers = collected(MODEL, [prompt(ids, max_new_tokens=3) for ids in asked], Batching(min_shared=8))
    assert forwarded == [(1, 30), (3, 4), (3, 1), (3, 1)]
    assert answers == [alone(ids, 3) for ids in asked]


def test_one_batch_with_several_limits():
    """Stop ids, least and most new tokens are each prompt's own."""
    first = alone([5, 6, 7], 1)[0]
    rules = [(1, (EOS,), 0), (5, (EOS,), 0), (5, (EOS, first), 0), (5, (EOS, first), 1), (3, (first,), 2)]
    asked = [prompt([5, 6, 7], *rule) for rule in rules]
    expected = [alone([5, 6, 7], count, MODEL, stops, least) for count, stops, least in rules]
    assert collected(MODEL, asked, Batching()) == expected
    assert expected[2] == []
    assert expected[3][0] != first


def test_a_random_order_gives_the_same_answers():
    asked = [prompt(range(3, 3 + size)) for size in range(1, 9)]
    first = next(iter(answer(MODEL, asked, Batching(1), seed=1)))
    assert first.keys() != {7}
    assert collected(MODEL, asked, Batching(1), seed=1) == collected(MODEL, asked, Batching(1))


def test_no_logits_of_the_prompt_are_made(monkeypatch):
    sizes = []
    plain = MODEL.lm_head.forward
    monkeypatch.setattr(MODEL.lm_head, "forward", lambda hidden: sizes.append(hidden.shape[1]) or plain(hidden))
    collected(MODEL, [prompt(range(3, 60))], Batching(prefill_chunk=16))
    assert set(sizes) == {1}
