"""Rows of one prompt share its prefill; answers are those of rows computed one by one."""

import pytest
import torch
from support.tiny_models import tiny_model
from transformers import LogitsProcessor, LogitsProcessorList

from lit_longpo.engine import Limits, continue_rows, generation_mode

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


def test_a_prompt_of_one_token_has_nothing_to_share():
    model = tiny_model("Llama")
    alone = [continued(model, [(5,)], [row])[0] for row in range(2)]
    together = continued(model, [(5,), (5,)], range(2))
    assert [row[: len(one)] for row, one in zip(together, alone, strict=True)] == alone
