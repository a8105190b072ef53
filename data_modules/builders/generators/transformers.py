"""Answers from a transformers model in this process."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from data_modules.builders.generators.base import TextGenerator
from data_modules.builders.generators.margins import margin_of
from data_modules.builders.generators.prompts import RequestPrompts
from data_modules.builders.generators.requests import Completion, Request, ended
from data_modules.builders.generators.steering import processors, stopping
from data_modules.records import PreferencePair
from lit_longpo.engine import Limits, check_answers, continue_rows, end_ids, generation_mode, until_stop_ids
from lit_longpo.policy import PolicyConfig, PromptFormat
from lit_longpo.policy.fingerprint import model_fingerprint
from lit_longpo.policy.window import readable_positions
from lit_longpo.ranges import MOST_TOKENS, check_numbers
from lit_longpo.strategies import check_torch_device


@dataclass
class TransformersGenerator(TextGenerator):
    """The policy itself, in batches of similar length with a key-value cache.

    Args:
        max_batch_tokens: padded tokens of one batch, answers included; one prompt may exceed it.
        device: where the model runs; `None` takes a GPU if there is one.
    """

    max_batch_tokens: int = 16384
    device: str | None = None

    gives_thoughts = True

    def __post_init__(self) -> None:
        check_numbers(self, "generator.init_args.", max_batch_tokens=(1, MOST_TOKENS))
        # Not fields: the command line would take fields for settings.
        self._model: Any = None
        self._policy = PolicyConfig()
        self._prompts = RequestPrompts(self._policy)
        self._plain: PromptFormat | None = None

    def open(self, policy: PolicyConfig) -> str:
        """Load the policy; the identity is a hash of its weights and of its chat template's settings.

        Raises:
            InputError: there is no such device here.
        """
        if self.device is not None:
            check_torch_device(self.device, "generator.init_args.device")
        device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
        model: Any = policy.load_base()
        self._policy, self._prompts, self._model = policy, RequestPrompts(policy), model.to(device).eval()
        return f"transformers:{model_fingerprint(self._model)}:{self._prompts.settings}"

    def batches(self, requests: Sequence[Request]) -> list[list[Request]]:
        """Neighbours in length with the same decoding: floating point depends on who shares a batch."""
        batches: list[list[Request]] = []
        for decoding in dict.fromkeys(request.decoding for request in requests):
            alike = [request for request in requests if request.decoding == decoding]
            lengths = {id(request): len(self._prompts.ids(request)) for request in alike}
            alike.sort(key=lambda request: lengths[id(request)])
            batches += _packed(alike, lengths, self.max_batch_tokens)
        return batches

    def answer(self, batches: Sequence[Sequence[Request]]) -> Iterator[Completion]:
        """One batch after the other; what the model cannot read fails."""
        window = readable_positions(self._model.config)
        for batch in batches:
            fitting, failures = self._prompts.part_by_room(batch, window)
            yield from failures
            if fitting:
                yield from self._answer(fitting)
        self._prompts.forget()

    def reads(self, policy: PolicyConfig) -> str:
        """Hash of the tokens of texts, and of the chat template's source."""
        return RequestPrompts(policy).identity()

    def margin(self, pair: PreferencePair) -> float | None:
        """By the policy, in the layout of `fit`."""
        if self._plain is None:
            self._plain = self._policy.prompt_format()
        return margin_of(self._model, self._plain, pair)

    def _answer(self, batch: Sequence[Request]) -> list[Completion]:
        prompts, plain = [self._prompts.ids(request) for request in batch], self._prompts.format(None)
        ends, decoding = (*plain.stop_ids, *end_ids(self._model)), batch[0].decoding
        with generation_mode(self._model):
            check_answers(self._model)
            answers = continue_rows(
                self._model,
                prompts,
                Limits(decoding.max_new_tokens, ends),  # sampling is greedy decoding of noisy scores: SeededNoise
                logits_processor=processors(batch),
                stopping_criteria=stopping(decoding.stop, plain, max(map(len, prompts))),
            )
        rows = zip(batch, prompts, answers, strict=True)
        return [self._completion(request, len(prompt), row, ends) for request, prompt, row in rows]

    def _completion(self, request: Request, prompt_tokens: int, row: list[int], ends: Sequence[int]) -> Completion:
        ids = until_stop_ids(row, ends)
        cut_off, form = len(ids) == request.decoding.max_new_tokens, self._prompts.format(None)
        answer, finished = ended(form.decode(ids), request.decoding.stop, cut_off=cut_off, opened=form.opens_thoughts)
        return Completion(request.id, answer, finished, prompt_tokens, len(ids))


def _packed(ordered: Sequence[Request], lengths: dict[int, int], budget: int) -> list[list[Request]]:
    batches: list[list[Request]] = []
    for request in ordered:
        row = lengths[id(request)] + request.decoding.max_new_tokens
        if not batches or (len(batches[-1]) + 1) * row > budget:
            batches.append([])
        batches[-1].append(request)
    return batches
