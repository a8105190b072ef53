"""Rows that go on from one cache answer as each does alone, in every family; what cannot is told apart."""

import pytest
import torch
from support.families import NAMES, twin
from transformers import DynamicCache

from lit_longpo.engine import Limits, continue_rows, generation_mode, prefill, spreads

PREFIX = torch.randint(3, 90, (24,), generator=torch.Generator().manual_seed(1)).tolist()
UNEQUAL = [[*PREFIX, *range(50, 50 + size)] for size in (1, 6, 3)]
EQUAL = [[*PREFIX, size, 7] for size in (30, 40, 50)]
LIMITS = Limits(4, (95,))
QUICK = ("Llama", "Gemma2", "DeepseekV3", "GPTJ", "Qwen3_5Text", "DeepseekV4", "MiniMax")
FAMILIES = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]


@pytest.mark.parametrize("name", FAMILIES)
def test_rows_on_one_cache_answer_as_alone(name):
    model = twin(name).eval()
    with generation_mode(model):
        cache = prefill(model, PREFIX)
        for rows in (UNEQUAL, EQUAL):
            pads = [max(map(len, rows)) - len(row) for row in rows]
            if spreads(cache, pads):
                alone = [continue_rows(model, [row], LIMITS)[0] for row in rows]
                together = continue_rows(model, rows, LIMITS, cache=cache)
                assert [row[: len(one)] for row, one in zip(together, alone, strict=True)] == alone
                assert continue_rows(model, rows, LIMITS, cache=cache, prefill_chunk=2) == together
                assert cache.get_seq_length() == len(PREFIX)


@pytest.mark.parametrize(
    ("name", "equal", "unequal"),
    [
        ("Llama", True, True),
        ("Qwen3Moe", True, True),
        ("Gemma2", True, False),  # a window
        ("Mistral", True, False),
        ("Qwen3_5Text", False, False),  # a state
        ("DeepseekV4", False, False),  # compressed windows
    ],
)
def test_families_that_can(name, equal, unequal):
    model = twin(name)
    with generation_mode(model):
        cache = prefill(model, PREFIX)
    assert (spreads(cache, [0, 0]), spreads(cache, [0, 2])) == (equal, unequal)


def test_a_row_alone_always_goes_on_and_padding_never_takes_the_whole_cache():
    assert spreads(None, [0])
    assert not spreads(None, [0, 0])
    assert not spreads(DynamicCache(), [0, 1])
    with generation_mode(model := twin("Llama")):
        cache = prefill(model, PREFIX[:3])
    assert [spreads(cache, [0, pad]) for pad in (2, 3)] == [True, False]
