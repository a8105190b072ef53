"""Rows for transformers' own `generate`: prompts computed without padding, in chunks, then answered together."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from transformers import Cache, LogitsProcessorList

from lit_longpo.engine.attention import UnsupportedModelError
from lit_longpo.engine.decoder import base_model, decoder_of
from lit_longpo.engine.generation.abilities import CACHE, angles_differ, continues, pads
from lit_longpo.engine.generation.nan_logits import NanDetector
from lit_longpo.engine.generation.prefilling import generate, padded_left, past_of, read_on
from lit_longpo.engine.generation.settings import Limits
from lit_longpo.engine.generation.spreading import spread
from lit_longpo.engine.rotary import fresh_angles


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
        InputError: the model's logits are NaN.
    """
    base = base_model(model)
    lengths = {*map(len, prompts)}
    padded = len({*lengths, width or len(prompts[0])}) > 1
    if (padded and not pads(base)) or (len(lengths) > 1 and angles_differ(base)):
        return _one_by_one(model, prompts, limits, lockstep=lockstep, generation=generation, **options)
    prefill_chunk = prefill_chunk if continues(base) else None
    if padded and prefill_chunk == 1:
        prefill_chunk = 2  # layers with a state take a column that comes alone for a new token, and mask no padding
    ids, mask = padded_left(prompts, limits.stop_ids[0], width, base.device)
    past = None if cache is None else spread(cache, (mask == 0).sum(1).tolist())
    if past is None and not lockstep:
        past = past_of(base, prompts, ids, mask, prefill_chunk)
    if past is not None:
        options[CACHE] = past
        if prefill_chunk is not None:
            read_on(base, ids, mask, past, prefill_chunk)
            prefill_chunk = None
    detector = NanDetector()
    options["logits_processor"] = LogitsProcessorList([*options.get("logits_processor", ()), detector])
    options |= {"synced_gpus": lockstep, "generation": generation}
    with fresh_angles(decoder_of(base)):
        out = generate(base, ids, mask, limits, prefill_chunk, **options)
    detector.check(base.dtype)
    return cast(Tensor, out)[:, ids.shape[1] :].tolist()


def _one_by_one(
    model: torch.nn.Module, prompts: Sequence[Sequence[int]], limits: Limits, *, lockstep: bool, **options: Any
) -> list[list[int]]:
    """Continuations of unequal prompts without padding, which is added to what comes back."""
    if lockstep or options.get("logits_processor"):
        raise UnsupportedModelError(
            f"expected prompts of one length for {type(base_model(model)).__name__}, to which padding means something, "
            f"got {sorted(set(map(len, prompts)))}; ask for one prompt at a time, of whole weights"
        )
    rows = [continue_rows(model, [prompt], limits, **options)[0] for prompt in prompts]
    longest = max(map(len, rows))
    return [row + [limits.stop_ids[0]] * (longest - len(row)) for row in rows]
