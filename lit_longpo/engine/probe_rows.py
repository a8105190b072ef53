"""The tiny rows that models are tried on at start-up."""

from collections.abc import Callable, Sequence

import torch
from transformers import PretrainedConfig

from lit_longpo.batch import Group, Response


def probe_groups(config: PretrainedConfig) -> list[Group]:
    """Two prompts, three responses each; the second prompt jumps in its positions."""
    generator = torch.Generator().manual_seed(0)
    vocabulary = min(config.vocab_size, getattr(config, "unpadded_vocab_size", None) or config.vocab_size)
    window = getattr(config, "sliding_window", None) or 0
    length = 24 + (window if window <= 256 else 0)

    def draw(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(5, vocabulary, (count,), generator=generator).tolist())

    jump = tuple(number if number < length // 2 else number + 100 for number in range(length))
    return [
        _probe_group("the plain prompt", draw, length, None),
        _probe_group("the jumping prompt", draw, length, jump),
    ]


def _probe_group(
    name: str, draw: Callable[[int], tuple[int, ...]], length: int, positions: tuple[int, ...] | None
) -> Group:
    responses = tuple(Response("rejected", draw(size), (True,) * size, index) for index, size in enumerate((5, 7, 3)))
    return Group(name, "long", draw(length), responses, positions)


def rows_of(groups: Sequence[Group]) -> list[tuple[Group, Response]]:
    """Each response with its group, in the order of a packed row."""
    return [(group, response) for group in groups for response in group.responses]
