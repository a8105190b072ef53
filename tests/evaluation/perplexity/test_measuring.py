import pytest
import torch
from support.tiny_models import tiny_model
from transformers import AutoModelForCausalLM

from evaluation.perplexity.measuring import measure
from evaluation.perplexity.windows import Windows
from lit_longpo.policy import PolicyConfig

IDS = torch.randint(4, 200, (90,), generator=torch.Generator().manual_seed(0)).tolist()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """One model as the engine has it, and as transformers does."""
    path = tmp_path_factory.mktemp("model")
    tiny_model("Llama", vocab_size=260, max_position_embeddings=256).save_pretrained(path)
    return PolicyConfig(source=str(path)).load_base(), AutoModelForCausalLM.from_pretrained(path)


def loss(plain, ids, last):
    """Mean of the last tokens of one window."""
    labels = torch.tensor([[-100] * (len(ids) - last) + list(ids[-last:])])
    with torch.no_grad():
        return float(plain(torch.tensor([ids]), labels=labels).loss)


def test_the_last_tokens_of_evenly_spread_windows(models):
    ours, plain = models
    [found] = measure(ours, IDS, Windows([32], stride=8, counted="last", max_windows=3))
    starts = [0, 16, 40]  # of 0, 8, ..., 56, thirds
    assert found.losses == pytest.approx([loss(plain, IDS[start : start + 32], 8) for start in starts], rel=1e-5)
    assert found.nll == pytest.approx(sum(found.losses) / 3)


def test_no_perplexity_comes_of_a_model_that_computes_no_numbers():
    model = tiny_model("Llama", vocab_size=260)
    with torch.no_grad():
        model.model.embed_tokens.weight[IDS[5]] = torch.inf
    with pytest.raises(ValueError, match="got NaN from a model in float32"):
        next(measure(model, IDS, Windows([32])))


def test_stride_as_long_as_the_window_is_chunked_perplexity(models):
    ours, plain = models
    [found] = measure(ours, IDS, Windows([30], stride=30))
    assert found.losses == pytest.approx([loss(plain, IDS[start : start + 30], 29) for start in (0, 30)], rel=1e-5)


def test_one_window_is_the_whole_text(models):
    ours, plain = models
    [found] = measure(ours, IDS, Windows([90]))
    assert found.losses == pytest.approx([loss(plain, IDS, 89)], rel=1e-5)


def test_a_token_in_front_is_within_the_length_and_does_not_count(models):
    ours, plain = models
    read = list[int]()
    [found] = measure(ours, IDS, Windows([17], stride=200), front=(1,), advance=read.append)
    assert found.losses == pytest.approx([loss(plain, [1, *IDS[:16]], 16)], rel=1e-5)
    assert (read, found.curve[0][0]) == ([17], 1)


def test_lengths_above_the_models_window_are_refused(models):
    with pytest.raises(ValueError, match="at most 256 tokens, the model's window, got 300"):
        next(measure(models[0], IDS * 9, Windows([300])))
