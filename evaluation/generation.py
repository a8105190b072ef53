"""Greedy generation in left-padded batches of similar length."""

from collections.abc import Callable, Sequence

import torch
from torch import nn
from transformers import GenerationConfig, PreTrainedModel

from lit_longpo.engine import base_model, generation_mode

Progress = Callable[[int], None]


def greedy(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    eos_token_id: int,
    max_batch_tokens: int = 16384,
    progress: Progress | None = None,
) -> list[list[int]]:
    """Most likely continuations, token by token.

    Nothing in the model's own generation settings (temperature, repetition penalty, ...) has a say.

    Args:
        model: a policy with prefix-shared attention; it attends ordinarily meanwhile.
        prompts: token ids of each prompt.
        max_new_tokens: tokens to generate at most.
        eos_token_id: ends a continuation and is left out of it.
        max_batch_tokens: padded prompt tokens of one batch; one prompt may exceed it.
        progress: called with the number of prompts of every finished batch.

    Returns:
        Generated ids in the order of the prompts.
    """
    order = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))
    results: dict[int, list[int]] = {}
    base = base_model(model)
    with generation_mode(model):
        for batch in _batches(order, prompts, max_batch_tokens):
            rows = _generate(base, [prompts[number] for number in batch], max_new_tokens, eos_token_id)
            results.update(zip(batch, rows, strict=True))
            if progress is not None:
                progress(len(batch))
    return [results[number] for number in range(len(prompts))]


def _batches(order: Sequence[int], prompts: Sequence[Sequence[int]], budget: int) -> list[list[int]]:
    """Neighbours in length share a batch, so that little is padding."""
    batches: list[list[int]] = []
    for number in order:
        if not batches or (len(batches[-1]) + 1) * len(prompts[number]) > budget:
            batches.append([])
        batches[-1].append(number)
    return batches


def _generate(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], max_new_tokens: int, eos: int
) -> list[list[int]]:
    width = max(map(len, prompts))
    device = model.device
    ids = torch.tensor([[eos] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)
    config = GenerationConfig(
        max_new_tokens=max_new_tokens, do_sample=False, eos_token_id=eos, pad_token_id=eos, use_cache=True
    )
    out = model.generate(input_ids=ids, attention_mask=mask, generation_config=config)  # type: ignore[operator]
    return [_until(row, eos) for row in out[:, width:].tolist()]


def _until(ids: list[int], eos: int) -> list[int]:
    return ids[: ids.index(eos)] if eos in ids else ids
