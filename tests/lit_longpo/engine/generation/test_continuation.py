"""Rows of one prompt share its prefill; answers are those of rows computed one by one."""

import pytest
import torch
from support.tiny_hybrids import ALONE, SHARED, tiny_hybrid
from support.tiny_models import tiny_model
from transformers import AutoConfig, AutoModelForCausalLM, LogitsProcessor, LogitsProcessorList

from lit_longpo.engine import Limits, UnsupportedModelError, continue_rows, generation_mode, prefill, spreads

LIMITS = Limits(5, (2,))
LONG, SHORT = tuple(range(10, 40)), (7, 8, 9)


class Offset(LogitsProcessor):
    """Makes every row prefer tokens of its own, as a seeded sampler does."""

    def __init__(self, rows):
        generators = [torch.Generator().manual_seed(row) for row in rows]
        self.noise = torch.stack([5 * torch.rand(96, generator=own) for own in generators])

    def __call__(self, input_ids, scores):
        return scores + self.noise


def continued(model, prompts, rows, **options):
    with generation_mode(model):
        return continue_rows(model, prompts, LIMITS, logits_processor=LogitsProcessorList([Offset(rows)]), **options)


@pytest.mark.parametrize("name", ["Llama", "Mistral", "Gemma3Text"])
@pytest.mark.parametrize("chunk", [None, 4])
def test_samples_of_one_prompt_equal_rows_alone(name, chunk):
    model = tiny_model(name)
    prompts = [LONG, SHORT, LONG, LONG, SHORT]
    alone = [continued(model, [prompt], [row])[0] for row, prompt in enumerate(prompts)]
    together = continued(model, prompts, range(5), prefill_chunk=chunk)
    assert [row[: len(one)] for row, one in zip(together, alone, strict=True)] == alone
    assert len({tuple(row) for row in together}) > 1


def test_a_prompt_goes_through_the_model_once():
    model, seen = tiny_model("Llama"), []
    model.model.embed_tokens.register_forward_hook(lambda _, args, __: seen.append(tuple(args[0].shape)))
    continued(model, [LONG] * 6, range(6))
    assert seen[0] == (1, len(LONG) - 1)
    assert all(shape == (6, 1) for shape in seen[1:])


def test_columns_that_no_prompt_needs_change_nothing():
    model = tiny_model("Llama")
    alone = [continued(model, [prompt], [row])[0] for row, prompt in enumerate([LONG, SHORT])]
    together = continued(model, [LONG, SHORT], range(2), width=len(LONG) + 7)
    assert [row[: len(one)] for row, one in zip(together, alone, strict=True)] == alone


def test_a_prompt_of_one_token_has_nothing_to_share():
    model = tiny_model("Llama")
    alone = [continued(model, [(5,)], [row])[0] for row in range(2)]
    together = continued(model, [(5,), (5,)], range(2))
    assert [row[: len(one)] for row, one in zip(together, alone, strict=True)] == alone


@pytest.mark.parametrize("name", ["Llama", "Mistral"])
def test_a_prompt_goes_on_in_chunks_from_what_a_cache_holds(name):
    """Every token once: what the cache holds is not read again, and no chunk is wider than asked for."""
    model, seen = tiny_model(name), []
    model.model.embed_tokens.register_forward_hook(lambda _, args, __: seen.append(args[0].shape[1]))
    whole = continued(model, [LONG], [0])
    with generation_mode(model):
        cache = prefill(model, LONG[:11], prefill_chunk=4)
    seen.clear()
    assert continued(model, [LONG], [0], prefill_chunk=4, cache=cache) == whole
    assert seen[:5] == [4, 4, 4, 4, 3]
    assert max(seen[5:]) == 1


def naive(model, prompt, count):
    """Greedy, the whole sequence anew for every token."""
    ids = list(prompt)
    with torch.no_grad():
        for _ in range(count):
            ids.append(int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    return ids[len(prompt) :]


QUICK = {"Qwen3_5Text", "Mamba2", "MiniMax", "DeepseekV4"}
HYBRIDS = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in (*SHARED, *ALONE)]


@pytest.mark.parametrize("name", HYBRIDS)
def test_models_with_state_answer_as_without_a_cache(name):
    """Padded rows, prompts in parts, rows that share a prompt, prompts that begin alike."""
    model, limits = tiny_hybrid(name), Limits(5, (95,))
    draw = torch.Generator().manual_seed(0)
    prompts = [torch.randint(3, 90, (size,), generator=draw).tolist() for size in (11, 4, 18)]
    with generation_mode(model):
        expected = [_until_stop(naive(model, prompt, 5)) for prompt in prompts]

        def answers(asked, **options):
            return [_until_stop(row) for row in continue_rows(model, asked, limits, **options)]

        assert answers(prompts) == expected
        for chunk in (8, 1):  # transformers masks no padding in a column that comes alone
            assert answers(prompts, prefill_chunk=chunk) == expected
        assert answers([prompts[0], prompts[1], prompts[0]]) == [expected[0], expected[1], expected[0]]
        assert answers([prompts[2], prompts[2]]) == [expected[2], expected[2]]
        cache = prefill(model, prompts[2][:12])
        assert answers(prompts[2:], cache=cache) == expected[2:]
        if spreads(cache, [0, 0]):  # cannot be, unless it is right
            assert answers([prompts[2], prompts[2]], cache=cache) == [expected[2], expected[2]]


def _until_stop(ids):
    return ids[: ids.index(95)] if 95 in ids else ids


def test_padding_that_a_model_does_not_know_is_refused_where_it_cannot_be_avoided():
    model = tiny_hybrid("MiniMax")
    with generation_mode(model), pytest.raises(UnsupportedModelError, match=r"one length for MiniMaxForCausalLM.*3, 5"):
        continue_rows(model, [[5, 6, 7], [5, 6, 7, 8, 9]], Limits(2, (1,)), lockstep=True)


@pytest.mark.parametrize("kind", ["bart", "bloom", "mpt"])
def test_models_that_are_told_no_positions_answer_as_alone(kind):
    """BART's decoder counts padding on the left as tokens (transformers#22707 of XGLM): shorter rows went astray."""
    sizes = {
        "bart": {"d_model": 32, "decoder_layers": 2, "decoder_attention_heads": 4, "decoder_ffn_dim": 64},
        "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4},
        "mpt": {"d_model": 32, "n_layers": 2, "n_heads": 4},
    }
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, vocab_size=97, **sizes[kind])).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(15 if weight.dim() > 1 else 1)  # so that answers differ
    rows = [list(range(3, 3 + size)) for size in (5, 12, 2)]
    with generation_mode(model):
        together = continue_rows(model, rows, Limits(6, (0,)))
    for row, said in zip(rows, together, strict=True):
        ids = list(row)
        for token in said if 0 not in said else said[: said.index(0)]:
            with torch.no_grad():
                assert token == int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
            ids.append(token)


@pytest.mark.parametrize("prompts", [[LONG], [LONG, SHORT, LONG]])
def test_a_model_that_computes_no_numbers_gives_no_answers(prompts):
    """MiMo-VL#8: float16 overflowed, and every answer was "!!!!!!", which benchmarks scored as any other."""
    model = tiny_model("Llama")
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight[0, 0] = torch.inf
    with generation_mode(model), pytest.raises(ValueError, match="got NaN from a model in float32, whose answers"):
        continue_rows(model, prompts, LIMITS)


LONGROPE = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [1.0, 2.0, 3.0, 4.0], "factor": 2.0}
DYNAMIC = {"rope_type": "dynamic", "factor": 4.0}


@pytest.mark.parametrize("rope", [LONGROPE, DYNAMIC], ids=["longrope", "dynamic"])
def test_angles_by_length_are_those_of_a_prompt_alone(rope):
    """llama.cpp#24875, uzu#604: in parts, beside longer prompts or after them a prompt's keys were turned otherwise."""
    rope |= {"rope_theta": 1e4, "original_max_position_embeddings": 32}
    options = {"rope_parameters": rope, "max_position_embeddings": 32}
    model = tiny_model("Llama", **options).eval()
    draw = torch.Generator().manual_seed(0)
    shared = torch.randint(5, 95, (12,), generator=draw).tolist()
    rows = [shared + torch.randint(5, 95, (size,), generator=draw).tolist() for size in (60, 6, 8, 30)]
    expected = []
    for row in rows:  # each by a model that has read nothing else
        plain = AutoModelForCausalLM.from_config(model.config, attn_implementation="eager").eval()
        plain.load_state_dict(model.state_dict())
        settings = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": 95, "pad_token_id": 95}
        ids = torch.tensor([row])
        said = plain.generate(ids, attention_mask=torch.ones_like(ids), **settings)[0, len(row) :].tolist()
        expected.append(_until_stop(said))
    with generation_mode(model):
        assert prefill(model, shared) is None
        limits = Limits(6, (95,))
        assert [*map(_until_stop, continue_rows(model, rows, limits, prefill_chunk=7))] == expected
        assert _until_stop(continue_rows(model, rows[3:], limits, width=80)[0]) == expected[3]
        with pytest.raises(UnsupportedModelError, match="one length for LlamaForCausalLM, to which padding means"):
            continue_rows(model, rows, limits, width=80, lockstep=True)
