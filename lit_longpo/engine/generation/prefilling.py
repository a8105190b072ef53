"""Key/value caches of prompts: each different prompt is computed once, without padding where the model allows it."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from transformers import Cache, GenerationConfig, PreTrainedModel

from lit_longpo.engine.decoder import base_model
from lit_longpo.engine.generation.abilities import CACHE, angles_differ, continues, keeps_more_than_keys
from lit_longpo.engine.generation.settings import Limits
from lit_longpo.engine.generation.spreading import joined, movable

# Prompt tokens that keep a device busy: prompts share a forward, with padding, up to there.
_FILLING = {"cpu": 256}
_FILLING_OTHERS = 4096


def prefill(model: torch.nn.Module, prefix: Sequence[int], *, prefill_chunk: int | None = None) -> Cache | None:
    """The cache of tokens that several prompts begin with; call it inside `generation_mode`.

    Args:
        model: a causal language model, perhaps PEFT-wrapped.
        prefix: token ids.
        prefill_chunk: tokens of one forward; `None` means all.

    Returns:
        `None` for a model that cannot continue from a cache: each prompt has to be computed whole.
    """
    base = base_model(model)
    if not continues(base):
        return None
    return _prefilled(base, *padded_left([prefix], 0, None, base.device), prefill_chunk)


def past_of(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], ids: Tensor, mask: Tensor, prefill_chunk: int | None
) -> Cache | None:
    """The cache of all but the last column, each different prompt computed once, without padding if possible.

    `None` if `generate` has to compute the prompts itself, as for models whose angles depend on the length. Where a
    width was asked for, rows are computed as a padded batch.

    Args:
        model: a causal language model.
        prompts: token ids of each row.
        ids: the rows, padded on the left. Shape: (num_prompts, width).
        mask: 0 where they are padded. Shape: (num_prompts, width).
        prefill_chunk: tokens of one forward; `None` means all.
    """
    first = {tuple(prompt): number for number, prompt in reversed(list(enumerate(prompts)))}
    if ids.shape[1] < 2 or keeps_more_than_keys(model) or angles_differ(model):
        return None
    different = [first[tuple(prompt)] for prompt in prompts]
    joins = ids.shape[1] == max(map(len, prompts))
    past = _joined(model, prompts, different, prefill_chunk) if joins else None
    if past is not None or len(first) == len(prompts):
        return past
    return _shared_cache(model, ids, mask, different, prefill_chunk)


def _joined(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], first: Sequence[int], prefill_chunk: int | None
) -> Cache | None:
    """The cache of all but each prompt's last token, computed in few forwards with hardly any padding.

    Args:
        model: a causal language model.
        prompts: token ids of all rows.
        first: for each row, the number of the first row with the same prompt.
        prefill_chunk: tokens of one forward.
    """
    caches, places = list[Cache](), dict[int, tuple[int, int, int]]()
    parts = _forwards({number: len(prompts[number]) - 1 for number in set(first)}, model.device)
    for part in reversed(parts):  # the shortest first: what cannot be joined is found out at little cost
        beginnings = [prompts[number][:-1] for number in part]
        cache = _prefilled(model, *padded_left(beginnings, 0, None, model.device), prefill_chunk)
        if not movable(cache):
            return None
        caches.append(cache)
    for place, part in enumerate(parts):
        places |= {number: (place, row, len(prompts[number]) - 1) for row, number in enumerate(part)}
    return joined(caches[::-1], [places.get(number) for number in first])


def _forwards(lengths: Mapping[int, int], device: torch.device) -> list[list[int]]:
    """Groups of rows that are computed in one forward each, the longest first, with just enough tokens for the device.

    Args:
        lengths: tokens of each row; rows without any are left out.
        device: a CPU is busy with fewer tokens than a GPU.
    """
    room, parts = _FILLING.get(device.type, _FILLING_OTHERS), list[list[int]]()
    for number in sorted((n for n, length in lengths.items() if length), key=lambda n: (-lengths[n], n)):
        if not parts or (len(parts[-1]) + 1) * lengths[parts[-1][0]] > room:
            parts.append([])
        parts[-1].append(number)
    return parts


def _shared_cache(
    model: PreTrainedModel, ids: Tensor, mask: Tensor, first: Sequence[int], prefill_chunk: int | None
) -> Cache:
    """Keys and values of all but the last column, computed once for rows whose `first` is the same row."""
    different = sorted(set(first))
    cache = _prefilled(model, ids[different, :-1], mask[different, :-1], prefill_chunk)
    cache.batch_select_indices(torch.tensor([different.index(number) for number in first], device=ids.device))
    return cache


def read_on(model: PreTrainedModel, ids: Tensor, mask: Tensor, cache: Cache, prefill_chunk: int) -> None:
    """Extend a cache by all chunks of the rows but the last.

    Needed because `generate` of transformers 5.17 and earlier starts its chunks at the prompt's first token, whatever
    the cache holds already.

    Args:
        model: a causal language model.
        ids: whole rows. Shape: (num_prompts, width).
        mask: 0 where they are padded. Shape: (num_prompts, width).
        cache: of their first tokens; it grows.
        prefill_chunk: tokens of one forward.
    """
    options: dict[str, Any] = {CACHE: cache}
    for end in range(cache.get_seq_length() + prefill_chunk, ids.shape[1], prefill_chunk):
        generate(model, ids[:, :end], mask[:, :end], Limits(1, (0,)), None, **options)


def _prefilled(model: PreTrainedModel, ids: Tensor, mask: Tensor, prefill_chunk: int | None) -> Cache:
    out = generate(model, ids, mask, Limits(1, (0,)), prefill_chunk, whole=True)
    return cast(Cache, out[CACHE])  # the one new token never went through the model


def padded_left(
    prompts: Sequence[Sequence[int]], pad: int, width: int | None, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Ids and attention mask of a batch. Shapes: (num_prompts, width) each.

    Args:
        prompts: token ids of each row.
        pad: what stands on the left of shorter ones.
        width: tokens to pad to; `None` means the longest prompt.
        device: where the tensors go.
    """
    width = width or max(map(len, prompts))
    ids = [[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def generate(
    model: PreTrainedModel,
    ids: Tensor,
    mask: Tensor,
    limits: Limits,
    prefill_chunk: int | None,
    whole: bool = False,
    generation: Mapping[str, Any] | None = None,
    **options: Any,
) -> Any:
    """The most likely continuations of prompts.

    Args:
        model: asked.
        ids: of the prompts, padded on the left. Shape: (batch, width).
        mask: 1 where a token is, 0 where padding is. Shape: (batch, width).
        limits: when an answer ends.
        prefill_chunk: prompt tokens of one forward; `None` means all.
        whole: give the complete output object of `model.generate`.
        generation: settings of the generation beside these.
        **options: of `model.generate`.

    Returns:
        Token ids of prompts and continuations. Shape: (batch, width + new tokens). With `whole` the output object.
    """
    config = GenerationConfig(
        max_new_tokens=limits.max_new_tokens,
        min_new_tokens=limits.min_new_tokens or None,
        do_sample=False,
        eos_token_id=list(limits.stop_ids),
        pad_token_id=limits.stop_ids[0],
        use_cache=True,
        prefill_chunk_size=prefill_chunk,
        return_dict_in_generate=whole,
        **(generation or {}),
    )
    return model.generate(input_ids=ids, attention_mask=mask, generation_config=config, **options)  # type: ignore[operator]
