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


def test_progress_counts_every_prompt_and_sampling_settings_are_ignored(recwarn):
    MODEL.generation_config.temperature = 0.3
    done = []
    greedy(MODEL, [[3, 4]] * 5, max_new_tokens=2, eos_token_id=EOS, max_batch_tokens=4, progress=done.append)
    assert sum(done) == 5
    assert len(done) == 3
    assert not [warning for warning in recwarn if "temperature" in str(warning.message)]


def test_the_end_token_is_left_out():
    prompt = [5, 6, 7]
    first = alone(prompt, 1)[0]
    assert greedy(MODEL, [prompt], max_new_tokens=3, eos_token_id=first) == [[]]


@pytest.mark.parametrize("training", [True, False])
def test_the_models_mode_is_restored(training):
    model = tiny_model("Llama").train(training)
    greedy(model, [[3]], max_new_tokens=1, eos_token_id=EOS)
    assert model.training == training
