"""Rows that go on from one cache answer as each does alone, in every family; what cannot is told apart."""

import weakref

import pytest
import torch
from support.families import NAMES, twin
from support.tiny_models import tiny_model
from transformers import DynamicCache

from lit_longpo.engine import Limits, continue_rows, generation_mode, prefill, spreads
from lit_longpo.engine.generation import abilities, prefilling, spreading

PREFIX = torch.randint(3, 90, (24,), generator=torch.Generator().manual_seed(1)).tolist()
UNEQUAL = [[*PREFIX, *range(50, 50 + size)] for size in (1, 6, 3)]
EQUAL = [[*PREFIX, size, 7] for size in (30, 40, 50)]
LIMITS = Limits(4, (95,))
QUICK = ("Llama", "Gemma2", "DeepseekV3", "GPTNeo", "Qwen3_5Text", "DeepseekV4", "MiniMax")
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


@pytest.mark.parametrize(
    ("name", "expected"), [("Qwen3_5Text", True), ("Lfm2", True), ("RecurrentGemma", False), ("MiniMax", False)]
)
def test_states_that_read_padding_are_not_padded(name, expected):
    assert abilities.pads(twin(name)) == expected


PROMPTS = [[*PREFIX, 5, 6], [7], PREFIX[:9], [*PREFIX, 5, 6], PREFIX[3:11], PREFIX[:9]]


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in ("Llama", "Gemma2", "GPTNeo") else pytest.mark.slow) for name in NAMES],
)
def test_prompts_of_any_lengths_answer_as_transformers_alone(name):
    model = twin(name).eval()
    # transformers takes one token for a step of decoding there, and goes on from the prompt before
    prompts = [ids for ids in PROMPTS if len(ids) > 1 or name != "RecurrentGemma"]
    with generation_mode(model):
        alone = [
            model.generate(torch.tensor([ids]), max_new_tokens=4, do_sample=False, eos_token_id=95, pad_token_id=95)
            for ids in prompts
        ]
        expected = [row[0, len(ids) :].tolist() for row, ids in zip(alone, prompts, strict=True)]
        for chunk in (None, 5):
            together = continue_rows(model, prompts, LIMITS, prefill_chunk=chunk)
            assert [row[: len(one)] for row, one in zip(together, expected, strict=True)] == expected


def forwards(model, prompts, monkeypatch, room):
    monkeypatch.setitem(prefilling._FILLING, "cpu", room)
    seen = []
    model.model.embed_tokens.register_forward_hook(lambda _, args, __: seen.append(tuple(args[0].shape)))
    with generation_mode(model):
        continue_rows(model, prompts, Limits(2, (95,)))
    return seen


def test_padding_is_not_computed_where_a_prompt_fills_the_device(monkeypatch):
    prompts = [PREFIX, PREFIX[:5], PREFIX[:6], PREFIX]
    assert forwards(twin("Llama"), prompts, monkeypatch, 8) == [(1, 4), (1, 5), (1, 23), (4, 1), (4, 1)]
    assert forwards(twin("Llama"), prompts, monkeypatch, 10) == [(2, 5), (1, 23), (4, 1), (4, 1)]


def test_caches_are_joined_layer_by_layer_and_let_go_of(monkeypatch):
    """So that no more than one layer is there twice."""
    model, alive, refs = twin("Llama"), [], []

    def recorded(rows, width, room, made=spreading.right_aligned):
        alive.append(sum(ref() is not None for ref in refs))
        return made(rows, width, room)

    def watched(caches, places, joined=prefilling.joined):
        refs.extend(weakref.ref(layer) for cache in caches for layer in cache.layers)
        return joined(caches, places)

    monkeypatch.setattr(spreading, "right_aligned", recorded)
    monkeypatch.setattr(prefilling, "joined", watched)
    forwards(model, [PREFIX, PREFIX[:5]], monkeypatch, 8)
    parts, layers = 2, len(model.model.layers)
    assert len(refs) == parts * layers > 2
    assert alive[::2] == [parts * (layers - number) for number in range(layers)]


def test_rows_whose_angles_depend_on_their_length_are_computed_whole_and_alone(monkeypatch):
    model = tiny_model("Llama", rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}).eval()
    assert forwards(model, [PREFIX, PREFIX[:5]], monkeypatch, 8) == [(1, 24), (1, 1), (1, 5), (1, 1)]


def test_a_row_alone_always_goes_on_and_padding_never_takes_the_whole_cache():
    assert spreads(None, [0])
    assert not spreads(None, [0, 0])
    assert not spreads(DynamicCache(), [0, 1])
    with generation_mode(model := twin("Llama")):
        cache = prefill(model, PREFIX[:3])
    assert [spreads(cache, [0, pad]) for pad in (2, 3)] == [True, False]
