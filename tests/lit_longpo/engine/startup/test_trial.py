"""Models that transformers' `generate` asks otherwise than they read, against their own forward token by token."""

import pytest
import torch
import transformers
from support.tiny_models import tiny_model

from lit_longpo.engine import Limits, UnsupportedModelError, check_answers, continue_rows, generation_mode

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
UNDROPPED = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
EYES = {**SIZES, "num_hidden_layers": 1, "image_size": 28, "patch_size": 14}
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4}
MOSHI = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 48, "sliding_window": 16}
RWKV = {"hidden_size": 32, "num_hidden_layers": 2, "attention_hidden_size": 32}


def tiny(name, **options):
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(vocab_size=96, **options)
    model = transformers.MODEL_FOR_CAUSAL_LM_MAPPING[type(config)](config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.25) if parameter.dim() == 2 else None
    return model


@torch.no_grad()
def naive(model, prompt, count):
    """Every token from the whole text before it."""
    ids = list(prompt)
    for _ in range(count):
        ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("Roberta", {**SIZES, **UNDROPPED, "is_decoder": True}, "other log-probabilities than its own forward"),
        ("Moshi", MOSHI, "other log-probabilities than its own forward"),  # its cache forgets behind the window
        ("OpenAIGPT", GPT, "it fails .ValueError: The following `model_kwargs`"),
        ("XLNet", {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48}, "it fails .AttributeError"),
        ("Rwkv", RWKV, "it fails .AttributeError"),
    ],
)
def test_models_that_would_answer_otherwise_than_they_read_are_refused(name, options, said):
    """transformers#11242 of RoBERTa's positions, which begin behind padding; GPT-1 and others ended in tracebacks."""
    model = tiny(name, **options)
    with generation_mode(model), pytest.raises(UnsupportedModelError, match=f"asks as it reads.*{said}") as caught:
        check_answers(model)
    assert "\n" not in str(caught.value)


def test_masked_tokens_hide_no_error():
    """Models write -inf, or the least number, for what fills their vocabulary up."""
    model = tiny("Roberta", **SIZES, **UNDROPPED, is_decoder=True)
    masked = torch.zeros(96).index_fill(0, torch.tensor([94, 95]), -torch.inf)
    model.lm_head.register_forward_hook(lambda _, __, logits: logits + masked)
    with generation_mode(model), pytest.raises(UnsupportedModelError, match="other log-probabilities"):
        check_answers(model)


def test_a_model_to_which_padding_is_a_token_answers_one_prompt_at_a_time():
    model = tiny("Git", **SIZES, **UNDROPPED, vision_config=EYES, max_position_embeddings=128)
    prompts = [list(range(10, 40)), [7, 8, 9], list(range(20, 45))]
    expected = [naive(model, prompt, 6) for prompt in prompts]
    never = next(token for token in range(96) if not any(token in answer for answer in expected))
    with generation_mode(model):
        assert continue_rows(model, prompts, Limits(6, (never,))) != expected  # what the trial is for
        check_answers(model)
        assert continue_rows(model, prompts, Limits(6, (never,))) == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_others_are_tried_once_and_answer_together(dtype):
    model, seen = tiny_model("Gemma3Text").eval().to(dtype), []
    model.model.embed_tokens.register_forward_hook(lambda _, args, __: seen.append(tuple(args[0].shape)))
    with generation_mode(model):
        check_answers(model)
        tried = len(seen)
        check_answers(model)
        assert len(seen) == tried > 0
        continue_rows(model, [[5, 6, 7], [8, 9]], Limits(2, (2,)))
    assert seen[-1][0] == 2
