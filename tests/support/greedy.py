"""`evaluation.running.answering.answer` for prompts that end alike, all at once."""

from collections.abc import Callable, Sequence

from torch import nn

from evaluation.prompting import Prompt
from evaluation.running.answering import answer
from evaluation.running.batching import Batching


def greedy(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    eos_token_id: int,
    max_batch_tokens: int = 16384,
    progress: Callable[[int], None] | None = None,
) -> list[list[int]]:
    """`answer` for prompts that end alike, all at once.

    Args:
        model: a policy with prefix-shared attention.
        prompts: token ids of each prompt.
        max_new_tokens: tokens to generate at most.
        eos_token_id: ends a continuation and is left out of it.
        max_batch_tokens: padded prompt tokens of one batch; one prompt may exceed it.
        progress: called with the number of prompts of every finished round.

    Returns:
        Generated ids in the order of the prompts.
    """
    ends = (eos_token_id,)
    asked = [Prompt(tuple(ids), max_new_tokens, ends, num_tokens=len(ids), uses_chat=False) for ids in prompts]
    results: dict[int, list[int]] = {}
    for found in answer(model, asked, Batching(max_batch_tokens)):
        results.update(found)
        if progress is not None:
            progress(len(found))
    return [results[number] for number in range(len(prompts))]
