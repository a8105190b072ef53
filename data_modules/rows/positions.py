"""Synthesised position ids: few real tokens teach the positions of a long context (LOGO, section 3.3).

Tang et al. 2024 (arXiv 2410.18533, Eq. 4 and appendix D) spread the k tokens of N chunks over K > k
positions: id = i + b, with a bias b drawn per chunk (continuous: order inside a chunk is kept, large
gaps between chunks) or per token (sparse: gaps everywhere), mixed 9 : 1. The printed range of b does
not guarantee increasing ids. Here chunk c draws from [c*g, (c+1)*g] with g = (K - k) / N, which does,
and keeps every id below K. Question and answers stay together at the far end, as in the authors' code.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from lit_longpo.errors import InputError
from lit_longpo.policy.prompts.encoded_prompt import EncodedPrompt
from lit_longpo.ranges import MOST_TOKENS, check_numbers

Scheme = Literal["mixed", "continuous", "sparse", "none"]

_SPARSE_SHARE = 0.1


@dataclass
class PositionSynthesis:
    """Position ids of long prompts, by record.

    Args:
        target_length: K, positions of the prompt and the longest response. Shorter sequences are stretched to it,
            longer ones keep their true positions.
        chunk_tokens: tokens that stay together in the continuous scheme.
        scheme: "continuous", "sparse", "mixed" (9 : 1, the paper's), or "none": true positions, the baseline.
        seed: decides a record's positions, together with its id.
    """

    target_length: int
    chunk_tokens: int = 512
    scheme: Scheme = "mixed"
    seed: int = 0

    def __post_init__(self) -> None:
        sizes = dict.fromkeys(("target_length", "chunk_tokens"), (1, MOST_TOKENS))
        check_numbers(self, "data.init_args.positions.", **sizes)
        if self.scheme not in get_args(Scheme):
            raise InputError(f"expected a scheme of {', '.join(get_args(Scheme))}, got {self.scheme!r}")

    def __call__(self, prompt: EncodedPrompt, response_length: int, name: str) -> tuple[int, ...] | None:
        """Strictly increasing ids of the prompt's tokens.

        Args:
            prompt: head, context and tail; only the context is stretched.
            response_length: tokens of the longest response, which needs room below K.
            name: the record's id.

        Returns:
            Shape: (tokens of the prompt,); `None` for true positions.
        """
        head, tail = len(prompt.head), len(prompt.tail)
        room = self.target_length - head - tail - response_length
        if self.scheme == "none" or room <= len(prompt.context):
            return None
        draw = random.Random(f"{self.seed}-{name}")
        sparse = self.scheme == "sparse" or (self.scheme == "mixed" and draw.random() < _SPARSE_SHARE)
        spread = sparse_chunks if sparse else continuous_chunks
        context = spread(len(prompt.context), self.chunk_tokens, room, draw)
        end = self.target_length - tail - response_length
        return (*range(head), *(head + position for position in context), *range(end, end + tail))


def continuous_chunks(num_tokens: int, chunk_tokens: int, target_length: int, draw: random.Random) -> list[int]:
    """One bias for each chunk: `num_tokens` strictly increasing ids in [0, target_length)."""
    positions = list[int]()
    for start, end, low, high in _chunks(num_tokens, chunk_tokens, target_length):
        bias = draw.randint(low, high)
        positions += range(start + bias, end + bias)
    return positions


def sparse_chunks(num_tokens: int, chunk_tokens: int, target_length: int, draw: random.Random) -> list[int]:
    """A bias for each token, ascending: `num_tokens` strictly increasing ids in [0, target_length).

    Arguments as in `continuous_chunks`.
    """
    positions = list[int]()
    for start, end, low, high in _chunks(num_tokens, chunk_tokens, target_length):
        biases = sorted(draw.randint(low, high) for _ in range(start, end))
        positions += [token + bias for token, bias in zip(range(start, end), biases, strict=True)]
    return positions


def _chunks(num_tokens: int, chunk_tokens: int, target_length: int) -> Iterator[tuple[int, int, int, int]]:
    """First token, end, and lowest and highest bias of each chunk."""
    spare, count = target_length - num_tokens, -(-num_tokens // chunk_tokens)
    for number in range(count):
        start = number * chunk_tokens
        end = min(start + chunk_tokens, num_tokens)
        yield start, end, number * spare // count, (number + 1) * spare // count
