"""Greedy answers: batched by length, contexts computed once, dealt over processes, in step if sharded."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn
from transformers import Cache

from evaluation.processes import gather, rank, world_size
from evaluation.prompting import Prompt
from evaluation.running.batching import Batch, Batching, Round, limits, plan_rounds
from lit_longpo.engine import (
    check_answers,
    continue_rows,
    end_ids,
    generation_mode,
    prefill,
    spreads,
    until_stop_ids,
)
from lit_longpo.strategies import is_sharded


def answer(
    model: nn.Module,
    prompts: Sequence[Prompt],
    batching: Batching,
    *,
    seed: int | None = None,
    generation: Mapping[str, Any] | None = None,
) -> Generator[dict[int, list[int]], None, None]:
    """Most likely answers, token by token, as they come.

    Of the model's own generation settings only the end tokens have a say, and what `generation` names. Every
    process asks for the same prompts, answers its share and gets all answers. With sharded weights every process
    runs the same forwards: prompts of a round are padded to one width, a process without a batch repeats another's,
    and no keys are shared between prompts.

    Args:
        model: a policy with prefix-shared attention; it attends ordinarily meanwhile.
        prompts: what to answer.
        batching: which share a forward.
        seed: of a random order of rounds; `None` means the longest first.
        generation: arguments of `generate`, for example a repetition penalty. It counts tokens, padding too, so with
            any prompts are answered one by one.

    Yields:
        Generated ids, stop ids left out, by the prompt's number: a round's of all processes. Stop between
        rounds by closing the generator, on all processes alike.
    """
    sharded = is_sharded(model) and world_size() > 1
    batching = replace(batching, min_shared=0) if sharded else batching
    batching = replace(batching, max_batch_tokens=1) if generation else batching
    prompts = [_with_stops(prompt, end_ids(model)) for prompt in prompts]
    for step in plan_rounds(prompts, batching, world_size(), seed):
        with generation_mode(model):
            check_answers(model, lockstep=sharded)
            share = _share(model, step, prompts, batching, generation or {}, sharded=sharded)
        merged = dict[int, list[int]]()
        for part in gather(share):
            merged.update(part)
        yield merged


def _with_stops(prompt: Prompt, ends: tuple[int, ...]) -> Prompt:
    if prompt.only_these_stops:
        return prompt
    return replace(prompt, stop_ids=tuple(dict.fromkeys((*prompt.stop_ids, *ends))))


def _share(
    model: nn.Module,
    step: Round,
    prompts: Sequence[Prompt],
    batching: Batching,
    generation: Mapping[str, Any],
    *,
    sharded: bool,
) -> dict[int, list[int]]:
    """This process's answers of a round."""
    idle = rank() >= len(step.batches)
    if idle and not sharded:
        return {}
    batch = step.batches[-1 if idle else rank()]
    if batch.shared:
        return _shared(model, batch, prompts, batching, generation)
    chosen = [prompts[number] for number in batch.numbers]
    rows = continue_rows(
        model,
        [prompt.ids for prompt in chosen],
        limits(chosen[0]),
        prefill_chunk=batching.prefill_chunk,
        width=step.width if sharded else None,
        lockstep=sharded,
        generation=generation,
    )
    answers = zip(batch.numbers, rows, chosen, strict=True)
    return {} if idle else {number: until_stop_ids(row, prompt.stop_ids) for number, row, prompt in answers}


def _shared(
    model: nn.Module, batch: Batch, prompts: Sequence[Prompt], batching: Batching, generation: Mapping[str, Any]
) -> dict[int, list[int]]:
    """Questions on copies of the keys and values of what they share, together where they can go on together."""
    options: dict[str, Any] = {"prefill_chunk": batching.prefill_chunk, "generation": generation}
    cache = prefill(model, prompts[batch.numbers[0]].ids[: batch.shared], prefill_chunk=batching.prefill_chunk)
    answers = {}
    for part in _parts(batch.numbers, prompts, batching.max_batch_tokens, cache):
        chosen = [prompts[number] for number in part]
        rows = continue_rows(model, [prompt.ids for prompt in chosen], limits(chosen[0]), cache=cache, **options)
        for number, row, prompt in zip(part, rows, chosen, strict=True):
            answers[number] = until_stop_ids(row, prompt.stop_ids)
    return answers


def _parts(
    numbers: Sequence[int], prompts: Sequence[Prompt], max_tokens: int, cache: Cache | None
) -> Iterator[list[int]]:
    """Prompts that go on from one cache in one batch, the longest first."""
    part = list[int]()
    for number in sorted(numbers, key=lambda number: -len(prompts[number].ids)):
        lengths = [len(prompts[member].ids) for member in (*part, number)]
        pads = [lengths[0] - length for length in lengths]
        if part and (len(lengths) * lengths[0] > max_tokens or not spreads(cache, pads)):
            yield part
            part = []
        part.append(number)
    yield part
