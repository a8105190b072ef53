"""Logits processors and stopping criteria for transformers' generation: seeded sampling, stop texts."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from data_modules.builders.generators.requests import Request, stop_place
from lit_longpo.policy import PromptFormat


class SeededNoise(LogitsProcessor):
    """Turns the likeliest token into a sample: argmax of log-probabilities plus Gumbel noise.

    Every row draws from a generator of its own, so that a record's sample depends on its seed and not on
    which records share its batch.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores plus noise. Shape: (batch, vocabulary)."""
        draws = [torch.rand(scores.shape[-1], generator=generator) for generator in self.generators]
        uniform = torch.stack(draws).clamp_(1e-20, 1 - 1e-7).to(scores.device)
        return scores.float() - torch.log(-torch.log(uniform))


class StopTexts(StoppingCriteria):
    """Ends a row whose answer holds a stop text (transformers' own criterion needs a byte-level vocabulary).

    Those in its thoughts end nothing (vllm#14170).

    Args:
        stop: the texts.
        prompt_format: decodes.
        width: tokens of the padded prompts.
    """

    def __init__(self, stop: Sequence[str], prompt_format: PromptFormat, width: int) -> None:
        self.stop, self.format, self.width = stop, prompt_format, width

    def __call__(self, input_ids: Tensor, scores: Tensor, **more: Any) -> Tensor:
        """Rows that are done. Shape: (batch,)."""
        texts = [self.format.decode(row) for row in input_ids[:, self.width :].tolist()]
        done = [stop_place(text, self.stop, opened=self.format.opens_thoughts) is not None for text in texts]
        return torch.tensor(done, device=input_ids.device)


def processors(batch: Sequence[Request]) -> LogitsProcessorList:
    """What changes the scores of a batch: nothing for greedy decoding, else temperature, top-p and noise."""
    decoding = batch[0].decoding
    if not decoding.temperature:
        return LogitsProcessorList()
    steps: list[Any] = [TemperatureLogitsWarper(decoding.temperature)]
    if decoding.top_p < 1:
        steps.append(TopPLogitsWarper(decoding.top_p))
    return LogitsProcessorList([*steps, SeededNoise([request.seed for request in batch])])


def stopping(stop: Sequence[str], prompt_format: PromptFormat, width: int) -> StoppingCriteriaList:
    """What ends rows beside the end token; see `StopTexts`."""
    return StoppingCriteriaList([StopTexts(stop, prompt_format, width)] if stop else [])
