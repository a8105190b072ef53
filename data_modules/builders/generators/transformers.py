"""Answers from a transformers model in this process."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
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

from data_modules.builders.generators.base import Generator
from data_modules.builders.generators.requests import Completion, Decoding, Request
from lit_longpo.engine import Limits, continue_rows, end_ids, generation_mode
from lit_longpo.policy import PolicyConfig, PromptFormat, PromptTemplate
from lit_longpo.policy.fingerprint import model_fingerprint

log = logging.getLogger(__name__)


class SeededNoise(LogitsProcessor):
    """Turns the likeliest token into a sample: argmax of log-probabilities plus Gumbel noise.

    Every row draws from a generator of its own, so that a record's sample depends on its seed and not on
    which records share its batch.

    Args:
        seeds: one for each row.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores plus noise. Shape: (batch, vocabulary)."""
        drawn = [torch.rand(scores.shape[-1], generator=own) for own in self.generators]
        uniform = torch.stack(drawn).clamp_(1e-20, 1 - 1e-7).to(scores.device)
        return scores.float() - torch.log(-torch.log(uniform))


class StopTexts(StoppingCriteria):
    """Ends a row whose answer holds a stop text (transformers' own criterion needs a byte-level vocabulary).

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
        done = [any(mark in text for mark in self.stop) for text in texts]
        return torch.tensor(done, device=input_ids.device)


@dataclass
class TransformersGenerator(Generator):
    """The policy itself, in batches of similar length with a key-value cache.

    Args:
        max_batch_tokens: padded tokens of one batch, answers included; one prompt may exceed it.
        device: where the model runs; `None` takes a GPU if there is one.
    """

    max_batch_tokens: int = 16384
    device: str | None = None

    def __post_init__(self) -> None:
        # Not fields: the command line would take fields for settings.
        self._model: Any = None
        self._policy = PolicyConfig()
        self._formats: dict[str | None, PromptFormat] = {}

    def open(self, policy: PolicyConfig) -> str:
        """Load the policy; the identity is a hash of its weights and of its chat template's settings."""
        device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
        model: Any = policy.load_base()
        self._policy, self._model = policy, model.to(device).eval()
        template = policy.template
        return f"transformers:{model_fingerprint(self._model)}:{template.chat}:{template.options}"

    def batches(self, requests: Sequence[Request]) -> list[list[Request]]:
        """Neighbours in length with the same decoding: floating point depends on who shares a batch."""
        made: list[list[Request]] = []
        for decoding in dict.fromkeys(request.decoding for request in requests):
            alike = [request for request in requests if request.decoding == decoding]
            lengths = {id(request): len(self._encode(request)) for request in alike}
            made += _packed(sorted(alike, key=lambda request: lengths[id(request)]), lengths, self.max_batch_tokens)
        return made

    def answer(self, batches: Sequence[Sequence[Request]]) -> Iterator[Completion]:
        """One batch after the other."""
        for batch in batches:
            yield from self._answer(batch)

    def _answer(self, batch: Sequence[Request]) -> list[Completion]:
        prompts = [self._encode(request) for request in batch]
        ends, decoding = (self._format(None).end_id, *end_ids(self._model)), batch[0].decoding
        with generation_mode(self._model):
            answers = continue_rows(
                self._model,
                prompts,
                Limits(decoding.max_new_tokens, ends),  # sampling is greedy decoding of noisy scores: SeededNoise
                logits_processor=_processors(batch),
                stopping_criteria=StoppingCriteriaList(self._stops(decoding, max(map(len, prompts)))),
            )
        rows = zip(batch, prompts, answers, strict=True)
        return [self._completion(request, len(prompt), row, ends) for request, prompt, row in rows]

    def _stops(self, decoding: Decoding, width: int) -> list[StoppingCriteria]:
        return [StopTexts(decoding.stop, self._format(None), width)] if decoding.stop else []

    def _completion(self, request: Request, prompt_tokens: int, row: list[int], ends: Sequence[int]) -> Completion:
        ids = list(takewhile(lambda token: token not in ends, row))
        text = self._format(None).decode(ids)
        kept = until_stop(text, request.decoding.stop)
        finished = len(ids) < len(row) or kept != text or len(row) < request.decoding.max_new_tokens
        return Completion(request.id, kept, finished, prompt_tokens, len(ids))

    def _encode(self, request: Request) -> tuple[int, ...]:
        return self._format(request.system).encode_prompt("", request.text).ids

    def _format(self, system: str | None) -> PromptFormat:
        if system not in self._formats:
            self._formats[system] = layout(self._policy, system)
        return self._formats[system]


def layout(policy: PolicyConfig, system: str | None) -> PromptFormat:
    """How requests become the policy's prompts: its chat template around the whole text.

    Args:
        policy: tokenizer and chat template.
        system: a request's own system message; `None` means the policy's.
    """
    own = policy.template
    template = PromptTemplate("{context}{question}", system or own.system, own.chat, own.options)
    return PolicyConfig(**{**vars(policy), "template": template}).prompt_format()


def until_stop(text: str, stop: Sequence[str]) -> str:
    """The text before the first of the stop texts."""
    ends = [text.index(mark) for mark in stop if mark in text]
    return text[: min(ends)].strip() if ends else text.strip()


def _packed(ordered: Sequence[Request], lengths: dict[int, int], budget: int) -> list[list[Request]]:
    batches: list[list[Request]] = []
    for request in ordered:
        row = lengths[id(request)] + request.decoding.max_new_tokens
        if not batches or (len(batches[-1]) + 1) * row > budget:
            batches.append([])
        batches[-1].append(request)
    return batches


def _processors(batch: Sequence[Request]) -> LogitsProcessorList:
    decoding = batch[0].decoding
    if not decoding.temperature:
        return LogitsProcessorList()
    steps: list[Any] = [TemperatureLogitsWarper(decoding.temperature)]
    if decoding.top_p < 1:
        steps.append(TopPLogitsWarper(decoding.top_p))
    return LogitsProcessorList([*steps, SeededNoise([request.seed for request in batch])])
