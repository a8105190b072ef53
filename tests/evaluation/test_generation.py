import logging

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tiny_models import tiny_model

from evaluation.generation import greedy
from lit_longpo.engine import generation_mode

MODEL = tiny_model("Llama").eval()
EOS = 2


def alone(prompt, count):
    """The most likely token again and again, whole forward each time, no cache and no padding."""
    ids = list(prompt)
    with generation_mode(MODEL):
        for _ in range(count):
            token = int(MODEL(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
            if token == EOS:
                break
            ids.append(token)
    return ids[len(prompt) :]


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


@pytest.mark.parametrize("training", [True, False])
def test_the_models_mode_is_restored(training):
    model = tiny_model("Llama").train(training)
    greedy(model, [[3]], max_new_tokens=1, eos_token_id=EOS)
    assert model.training == training
