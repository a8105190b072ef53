"""Two real processes with uneven shares train like one: single sequences, shared states, sinks and experts."""

import pytest
import torch
from support.families import twin
from support.parallel_worker import train
from support.ranks import run_ranks
from support.word_tokenizer import word_tokenizer
from support.zero3 import needs_deepspeed

CASES = [
    ("StableLm", "fsdp2", "longpo"),  # the ranks have other numbers of sequences; layers are recomputed
    pytest.param("StableLm", "ddp", "solopo", marks=pytest.mark.slow),
    pytest.param("Mamba", "fsdp2", "solopo", marks=pytest.mark.slow),
    pytest.param("StableLm", "zero3", "solopo", marks=[pytest.mark.slow, needs_deepspeed]),
    # In tiles, whose weights are gathered at once: one sequence after the other calls each several times.
    pytest.param("StableLm", "zero3", "longpo", marks=[pytest.mark.slow, needs_deepspeed]),
    pytest.param("Lfm2", "zero3", "solopo", marks=[pytest.mark.slow, needs_deepspeed]),
    pytest.param("Mamba", "zero3", "solopo", marks=[pytest.mark.slow, needs_deepspeed]),
    pytest.param("Qwen3_5Text", "zero3", "longpo", marks=[pytest.mark.slow, needs_deepspeed]),
    pytest.param("FalconH1", "fsdp2", "logo", marks=pytest.mark.slow),
    # Sinks are parameters that no module's own forward multiplies by; experts of a rank may get no token.
    pytest.param("GptOss", "fsdp2", "solopo", marks=pytest.mark.slow),
    pytest.param("GptOss", "zero3", "solopo", marks=[pytest.mark.slow, needs_deepspeed]),
    pytest.param("Gemma2", "fsdp2", "longpo", marks=pytest.mark.slow),
    # Experts in tiles, whose weights are empty vectors until they are gathered.
    pytest.param("Mixtral", "zero3", "longpo", marks=[pytest.mark.slow, needs_deepspeed]),
]


@pytest.mark.parametrize(("name", "strategy", "objective"), CASES)
def test_gradients_and_weights_equal_one_process(name, strategy, objective, tmp_path):
    twin(name).save_pretrained(tmp_path / "policy")
    word_tokenizer().save_pretrained(tmp_path / "policy")
    train("single", objective, str(tmp_path / "policy"), tmp_path / "single")
    run_ranks(train, strategy, objective, str(tmp_path / "policy"), tmp_path / "ranks")
    expected, actual = (
        torch.load(f"{tmp_path / processes}.{objective}", weights_only=True) for processes in ("single", "ranks")
    )
    assert expected["losses"][0] != pytest.approx(expected["losses"][-1], rel=1e-3)
    assert actual["losses"] == pytest.approx(expected["losses"], rel=1e-3)
    assert actual["partitioned"]
    largest = max(float(value.abs().max()) for value in expected["gradients"].values())
    for key, value in expected["gradients"].items():
        assert float((actual["gradients"][key] - value).abs().max()) < 1e-5 * largest, key
    for key, weight in expected["weights"].items():
        torch.testing.assert_close(actual["weights"][key], weight, rtol=1e-3, atol=1e-4)
