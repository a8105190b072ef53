"""Rows for transformers' own `generate`: prompts computed without padding, in chunks, then answered together."""

import inspect
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, cast

import torch
from torch import Tensor
from transformers import Cache, GenerationConfig, PreTrainedModel

from lit_longpo.engine.attention import UnsupportedModelError
from lit_longpo.engine.decoder import base_model
from lit_longpo.engine.layers import STATE_LAYERS, counts_columns, layer_kinds
from lit_longpo.engine.rotary import depends_on_length
from lit_longpo.engine.spreading import joined, movable, spread
from lit_longpo.engine.states import masks_padding, mixers, unreachable_states

# Generation settings that have a say without sampling, and the values at which they have none.
_NEUTRAL: dict[str, Any] = {
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "bad_words_ids": None,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
    "sequence_bias": None,
    "forced_eos_token_id": None,
    "exponential_decay_length_penalty": None,
    "guidance_scale": 1.0,
    "min_new_tokens": 0,
    "min_length": 0,
}

# Prompt tokens that keep a device busy: prompts share a forward, with padding, up to there.
_FILLING = {"cpu": 256}
_FILLING_OTHERS = 4096


@dataclass(frozen=True)
class Limits:
    """When rows end.

    Args:
        max_new_tokens: tokens to generate at most.
        stop_ids: each of them ends a row.
        min_new_tokens: tokens before which none of them is generated.
    """

    max_new_tokens: int
    stop_ids: tuple[int, ...]
    min_new_tokens: int = 0


def end_ids(model: torch.nn.Module) -> tuple[int, ...]:
    """Tokens that end an answer by the model's own generation settings, often more than the tokenizer's one.

    Args:
        model: a causal language model, perhaps PEFT-wrapped, outside of `generation_mode`.
    """
    return ends_of(base_model(model).generation_config)


def ends_of(settings: GenerationConfig) -> tuple[int, ...]:
    """Tokens that end an answer by generation settings."""
    ends = getattr(settings, "eos_token_id", None)
    return () if ends is None else (ends,) if isinstance(ends, int) else tuple(ends)


def until_stop_ids(ids: Iterable[int], stop_ids: Container[int]) -> list[int]:
    """The ids before the first one that ends an answer.

    Args:
        ids: of a row that was generated, with what stands behind its end.
        stop_ids: each of them ends the answer.
    """
    return list(takewhile(lambda token: token not in stop_ids, ids))


def greedy_settings(model: torch.nn.Module) -> dict[str, Any]:
    """The model's own generation settings that change its most likely answer, as far as they are set.

    Args:
        model: a causal language model, perhaps PEFT-wrapped, outside of `generation_mode`.
    """
    return greedy_of(base_model(model).generation_config)


def greedy_of(settings: GenerationConfig) -> dict[str, Any]:
    """Generation settings that change the most likely answer, as far as they are set."""
    values = {name: getattr(settings, name, None) for name in _NEUTRAL}
    return {name: value for name, value in values.items() if value is not None and value != _NEUTRAL[name]}


def continue_rows(
    model: torch.nn.Module,
    prompts: Sequence[Sequence[int]],
    limits: Limits,
    *,
    prefill_chunk: int | None = None,
    width: int | None = None,
    cache: Cache | None = None,
    lockstep: bool = False,
    generation: Mapping[str, Any] | None = None,
    **options: Any,
) -> list[list[int]]:
    """Most likely continuations of a batch; call it inside `generation_mode`.

    Logits exist for the last position only. Prompts are computed without padding and their keys and values put
    side by side, where a model keeps nothing else; a prompt that several rows share (samples of one question, told
    apart by their `logits_processor`) goes through the model once.

    Args:
        model: a causal language model, perhaps PEFT-wrapped.
        prompts: token ids of each row.
        limits: when rows end.
        prefill_chunk: prompt tokens of one forward; `None` means all.
        width: tokens to pad to; `None` means the longest prompt.
        cache: keys and values of the tokens that the prompts begin with; it stays as it is. Several prompts may go
            on from it where `spreads` says so.
        lockstep: go on until every process is done, for sharded weights. Prompts of all processes must then
            be padded to one `width`.
        generation: settings of `GenerationConfig` beside the limits, for example `repetition_penalty`.
        **options: of `generate`, for example `logits_processor`.

    Returns:
        New ids of each row, stop ids and the padding after them included.

    Raises:
        UnsupportedModelError: the model needs prompts without padding, and `lockstep` padded ones.
    """
    base = base_model(model)
    if not pads(base) and len({*map(len, prompts), width or len(prompts[0])}) > 1:
        return _one_by_one(model, prompts, limits, lockstep=lockstep, generation=generation, **options)
    prefill_chunk = prefill_chunk if continues(base) else None
    ids, mask = padded_left(prompts, limits.stop_ids[0], width, base.device)
    past = None if cache is None else spread(cache, (mask == 0).sum(1).tolist())
    if past is None and not lockstep:
        past = _past(base, prompts, ids, mask, prefill_chunk)
    if past is not None:
        options["past_key_values"] = past
        if prefill_chunk is not None:
            _read_on(base, ids, mask, past, prefill_chunk)
            prefill_chunk = None
    options |= {"synced_gpus": lockstep, "generation": generation}
    out = _generate(base, ids, mask, limits, prefill_chunk, **options)
    return cast(Tensor, out)[:, ids.shape[1] :].tolist()


def _one_by_one(
    model: torch.nn.Module, prompts: Sequence[Sequence[int]], limits: Limits, *, lockstep: bool, **options: Any
) -> list[list[int]]:
    """Continuations of unequal prompts without padding, which is added to what comes back."""
    if lockstep or options.get("logits_processor"):
        raise UnsupportedModelError(
            f"expected prompts of one length for {type(base_model(model)).__name__}, whose layers do not know padding, "
            f"got {sorted(set(map(len, prompts)))}; ask for one prompt at a time, of whole weights"
        )
    rows = [continue_rows(model, [prompt], limits, **options)[0] for prompt in prompts]
    longest = max(map(len, rows))
    return [row + [limits.stop_ids[0]] * (longest - len(row)) for row in rows]


def _past(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], ids: Tensor, mask: Tensor, prefill_chunk: int | None
) -> Cache | None:
    """All but the last column, each prompt computed once and without padding; `None` if that cannot be.

    Where angles depend on the longest row, or a width was asked for, rows are computed as a padded batch.
    """
    first = {tuple(prompt): number for number, prompt in reversed(list(enumerate(prompts)))}
    if ids.shape[1] < 2 or _keeps_more_than_keys(model):
        return None
    different = [first[tuple(prompt)] for prompt in prompts]
    joins = ids.shape[1] == max(map(len, prompts)) and not _angles_differ(model)
    past = _joined(model, prompts, different, prefill_chunk) if joins else None
    if past is not None or len(first) == len(prompts):
        return past
    return _shared_cache(model, ids, mask, different, prefill_chunk)


def _angles_differ(model: PreTrainedModel) -> bool:
    return any(map(depends_on_length, model.modules()))


def _joined(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], first: Sequence[int], prefill_chunk: int | None
) -> Cache | None:
    """Keys and values of all but each prompt's last token, by few forwards with next to no padding.

    Args:
        model: a causal language model.
        prompts: of all rows.
        first: of each row, the number of the first one with its prompt.
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
    """Rows that are computed in one forward, the longest first: enough tokens to fill the device, no more.

    Args:
        lengths: tokens of each row; rows without any are left out.
        device: a processor is busy with few tokens.
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


def _keeps_more_than_keys(model: PreTrainedModel) -> bool:
    """Whether a cache holds what `batch_select_indices` does not know of."""
    return carries_state(model) or counts_columns(model.config.get_text_config())


def carries_state(model: PreTrainedModel) -> bool:
    """Whether some of the model's layers keep a state, of which a cache has one for each row and no selection."""
    kinds = layer_kinds(model.config.get_text_config())
    return bool(mixers(model)) or any(kind in STATE_LAYERS for kind in kinds)


def continues(model: PreTrainedModel) -> bool:
    """Whether a prompt may come in parts, each from the cache that the one before has left."""
    known = unreachable_states(model, model.config.get_text_config()) is None
    return known and "past_key_values" in inspect.signature(model.forward).parameters


def pads(model: PreTrainedModel) -> bool:
    """Whether tokens left of a prompt are as good as none; not where a state reads them, or is nowhere we know."""
    if counts_columns(model.config.get_text_config()):
        return False
    return not carries_state(model) or masks_padding(model)


def prefill(model: torch.nn.Module, prefix: Sequence[int], *, prefill_chunk: int | None = None) -> Cache | None:
    """Keys and values of tokens that several prompts begin with; call it inside `generation_mode`.

    Args:
        model: a causal language model, perhaps PEFT-wrapped.
        prefix: token ids.
        prefill_chunk: tokens of one forward; `None` means all.

    Returns:
        `None` for a model that cannot go on from what it has read: each prompt has to be whole.
    """
    base = base_model(model)
    if not continues(base):
        return None
    return _prefilled(base, *padded_left([prefix], 0, None, base.device), prefill_chunk)


def _read_on(model: PreTrainedModel, ids: Tensor, mask: Tensor, cache: Cache, prefill_chunk: int) -> None:
    """Put all but the last chunk behind what a cache holds.

    `generate` of transformers 5.17 and before begins its chunks at the prompt's first token whatever the cache holds.
    """
    for end in range(cache.get_seq_length() + prefill_chunk, ids.shape[1], prefill_chunk):
        _generate(model, ids[:, :end], mask[:, :end], Limits(1, (0,)), None, past_key_values=cache)


def _prefilled(model: PreTrainedModel, ids: Tensor, mask: Tensor, prefill_chunk: int | None) -> Cache:
    out = _generate(model, ids, mask, Limits(1, (0,)), prefill_chunk, whole=True)
    return cast(Cache, out.past_key_values)  # the one new token never went through the model


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


def _generate(
    model: PreTrainedModel,
    ids: Tensor,
    mask: Tensor,
    limits: Limits,
    prefill_chunk: int | None,
    whole: bool = False,
    generation: Mapping[str, Any] | None = None,
    **options: Any,
) -> Any:
    """Ids of prompts and continuations; with `whole` everything that `generate` has to give."""
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
