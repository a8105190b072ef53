"""Answerers: a model in these processes, or anything else that gives texts for prompts."""

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from evaluation.processes import world_size
from evaluation.prompting import Prompt
from evaluation.running.answering import answer
from evaluation.running.batching import Batching, PromptedExample, portion
from evaluation.running.facts import model_facts
from lit_longpo.engine import base_model, end_ids, greedy_settings
from lit_longpo.errors import InputError
from lit_longpo.policy import PromptFormat
from lit_longpo.policy.fingerprint import model_fingerprint
from lit_longpo.policy.window import readable_positions
from lit_longpo.strategies import is_sharded


@dataclass(frozen=True)
class GivenAnswer:
    """One answer.

    Args:
        text: nothing stripped.
        at_limit: whether the prompt's limit of new tokens ended it, not the model.
    """

    text: str
    at_limit: bool


Texts = dict[int, GivenAnswer | None]  # by the prompt's number; `None` where there is no answer


class Answerer(ABC):
    """Gives the most likely answers to prompts, and knows what the run has to know about the model behind them."""

    device: torch.device | str = "cpu"
    gives_thoughts = True  # an answer goes on with the thoughts that its prompt opens

    @property
    @abstractmethod
    def window(self) -> int | None:
        """Positions that prompt and answer may take; `None` if nobody knows."""

    @property
    @abstractmethod
    def ends(self) -> tuple[int, ...]:
        """Tokens that end an answer by the model's own generation settings."""

    @property
    @abstractmethod
    def own_settings(self) -> Mapping[str, Any]:
        """The model's own generation settings that change its most likely answer, as far as they are set."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """A hash that distinguishes its answers from another model's; a collective call."""

    @property
    def deviations(self) -> tuple[str, ...]:
        """How its answers may differ from those of a local model, in words; by default not at all."""
        return ()

    @abstractmethod
    def facts(self, prompt_format: PromptFormat) -> Mapping[str, object]:
        """What a report says about the model."""

    def check_generation(self, generation: Mapping[str, Any]) -> None:  # noqa: B027  (most can do everything)
        """Refuse arguments of `generate` that it cannot follow."""

    def check_prompt(self, prompt: Prompt) -> None:  # noqa: B027  (most can be asked everything)
        """Refuse a prompt that it cannot be asked."""

    @abstractmethod
    def portion(self, asked: Iterator[PromptedExample], batching: Batching) -> list[PromptedExample]:
        """The next prompts to answer before the clock is looked at again; empty when all are taken."""

    @abstractmethod
    def answers(
        self,
        prompts: Sequence[Prompt],
        prompt_format: PromptFormat,
        batching: Batching,
        *,
        seed: int | None = None,
        generation: Mapping[str, Any] | None = None,
    ) -> Generator[Texts, None, None]:
        """Yields answers by the prompt's number as they come, unstripped (see `PromptFormat.decode_reply`).

        Args:
            prompts: what to answer.
            prompt_format: tokenizer and chat template of the prompts.
            batching: which share a forward.
            seed: of a random order; `None` leaves the order to the answerer.
            generation: arguments of `generate`, for example a repetition penalty.
        """


class LocalModel(Answerer):
    """A model in these processes.

    Args:
        model: a policy with prefix-shared attention, adapters included.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    @property
    def device(self) -> torch.device | str:  # type: ignore[override]
        """Where processes exchange scores; alone, the CPU, as not every device has float64."""
        return "cpu" if world_size() == 1 else next(self.model.parameters()).device

    @property
    def window(self) -> int | None:
        """Positions that the model's configuration allows; `None` if it names no limit."""
        return readable_positions(base_model(self.model).config)

    @property
    def ends(self) -> tuple[int, ...]:
        """Tokens that end an answer by the model's generation settings."""
        return end_ids(self.model)

    @property
    def own_settings(self) -> Mapping[str, Any]:
        """The model's generation settings that change its most likely answer."""
        return greedy_settings(self.model)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the model's weights, adapters included."""
        return model_fingerprint(self.model, with_adapters=True)

    def facts(self, prompt_format: PromptFormat) -> Mapping[str, object]:
        """Its precision, device and end tokens."""
        return model_facts(self.model, prompt_format)

    def check_generation(self, generation: Mapping[str, Any]) -> None:
        """Refuse a repetition penalty for sharded weights, whose prompts are padded: it would count the padding."""
        if generation and world_size() > 1 and is_sharded(self.model):
            own = ", ".join(f"{name} {value}" for name, value in generation.items())
            raise InputError(
                f"expected `protocol: served` for sharded weights, whose prompts are padded, got official with the "
                f"model's {own}, which counts padding; type --protocol served"
            )

    def portion(self, asked: Iterator[PromptedExample], batching: Batching) -> list[PromptedExample]:
        """About four rounds of answers."""
        return portion(asked, batching, world_size())

    def answers(
        self,
        prompts: Sequence[Prompt],
        prompt_format: PromptFormat,
        batching: Batching,
        *,
        seed: int | None = None,
        generation: Mapping[str, Any] | None = None,
    ) -> Generator[Texts, None, None]:
        """Round by round, on every process alike."""
        with closing(answer(self.model, prompts, batching, seed=seed, generation=generation)) as rounds:
            for found in rounds:
                yield {
                    number: _given_answer(ids, prompts[number], prompt_format) for number, ids in sorted(found.items())
                }


def _given_answer(ids: Sequence[int], prompt: Prompt, prompt_format: PromptFormat) -> GivenAnswer:
    """What generated ids, without the one that ended them, say."""
    text = prompt_format.decode_reply(list(ids), opened=prompt.begins_turn)
    return GivenAnswer(text, at_limit=len(ids) >= prompt.max_new_tokens)


def answerer_of(model: "nn.Module | Answerer") -> Answerer:
    """A model that answers here, or the answerer as it is."""
    return model if isinstance(model, Answerer) else LocalModel(model)
