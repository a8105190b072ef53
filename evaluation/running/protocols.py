"""The two protocols: generating as the official script does, or as the model is served; and what deviates from it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from evaluation.benchmark import Benchmark
from evaluation.prompting import Prompt
from evaluation.running.answerers import Answerer
from lit_longpo.errors import InputError
from lit_longpo.policy import PromptFormat

ProtocolName = Literal["served", "official"]
_LEAST = ("min_new_tokens", "min_length")  # generation settings that are a prompt's own here
_NOT_KEPT = ("stop_strings",)  # `generate` refuses them without a tokenizer, which official scripts do not give it


@dataclass(frozen=True)
class Protocol(ABC):
    """How prompts begin and how answers end."""

    benchmark: Benchmark
    answerer: Answerer
    prompt_format: PromptFormat

    @property
    def kept(self) -> Mapping[str, Any]:
        """The model's own settings that change its most likely answers and hold: none."""
        return {}

    @property
    def generation(self) -> Mapping[str, Any]:
        """The settings that `generate` is told; how long answers are at least stands in `adapted` prompts."""
        return {name: value for name, value in self.kept.items() if name not in _LEAST}

    @property
    def manifest(self) -> dict[str, object]:
        """What stored responses depend on, beside what those of all protocols do: nothing."""
        return {}

    @abstractmethod
    def adapted(self, prompt: Prompt) -> Prompt:
        """A benchmark's prompt with the beginning and the end tokens of this protocol."""

    @abstractmethod
    def deviations(self, *, in_chat: bool) -> tuple[str, ...]:
        """What the official script does otherwise, in words; `in_chat` if any prompt is in the chat template."""

    def _own_ends(self) -> tuple[int, ...]:
        """What ends answers in the official scripts; the tokenizer's end where the model states none."""
        return self.answerer.ends or (int(self.prompt_format.tokenizer.eos_token_id),)

    @property
    def _leaves_spaces(self) -> dict[str, bool]:
        """Whether answers have spaces that the official scripts' `decode` takes out, as this tokenizer asks it to."""
        cleans = bool(getattr(self.prompt_format.tokenizer, "clean_up_tokenization_spaces", False))
        return {"spaces before punctuation are left in answers (no `clean_up_tokenization_spaces`)": cleans}

    def _missing_front(self, ids: tuple[int, ...]) -> tuple[int, ...]:
        """Tokens that the tokenizer puts before texts, if these do not begin with them."""
        front = self.prompt_format.added_in_front
        return front if ids[: len(front)] != front else ()


class Served(Protocol):
    """Answers as servers give them: most likely tokens, up to the end of the turn or any other end that is known."""

    def adapted(self, prompt: Prompt) -> Prompt:
        """The prompt as it is; the model's own end tokens come in addition."""
        return prompt

    def deviations(self, *, in_chat: bool) -> tuple[str, ...]:
        """Settings of the model that the official script would apply, and ends and beginnings that it has not."""
        if not self.benchmark.generates_as_model_does:
            return ()
        own = in_words(self.answerer.own_settings)
        more = [token for token in self.prompt_format.stop_ids if token not in self._own_ends()]
        names = ", ".join(self.prompt_format.tokenizer.convert_ids_to_tokens(more))
        lacks_front = in_chat and bool(self._missing_front(self.prompt_format.encode_message("text")))
        said = {
            f"{own} of the model's generation settings not applied": own,
            f"answers end at {names}, too": more,
            "no beginning-of-text token before the chat template": lacks_front,
            **self._leaves_spaces,
        }
        return tuple(text for text, holds in said.items() if holds)


class Official(Protocol):
    """Answers as official scripts make them: the model's generation settings hold, without sampling."""

    @property
    def kept(self) -> Mapping[str, Any]:
        """A repetition penalty, for example."""
        return {name: value for name, value in self.answerer.own_settings.items() if name not in _NOT_KEPT}

    @property
    def manifest(self) -> dict[str, object]:
        """The protocol and the settings that are kept."""
        return {"protocol": "official", "generation settings": dict(self.kept)}

    def adapted(self, prompt: Prompt) -> Prompt:
        """The model's own end tokens only, and once the beginning that the tokenizer gives every text."""
        ids = self._missing_front(prompt.ids) + prompt.ids
        prompt = replace(prompt, ids=ids, min_new_tokens=self._least(prompt, len(ids)))
        if not prompt.only_these_stops:
            return replace(prompt, stop_ids=self._own_ends())
        eos, newline = int(self.prompt_format.tokenizer.eos_token_id), prompt.stop_ids[-1]
        return replace(prompt, stop_ids=(eos, newline))

    def _least(self, prompt: Prompt, num_ids: int) -> int:
        """New tokens before which nothing ends an answer; `min_length` counts the prompt's, too."""
        own, whole = (int(self.kept.get(name, 0)) for name in _LEAST)
        return max(prompt.min_new_tokens, own, whole - num_ids)

    def deviations(self, *, in_chat: bool) -> tuple[str, ...]:
        """An end that had to be chosen, and settings with which the official script would not run."""
        own = in_words({name: value for name, value in self.answerer.own_settings.items() if name in _NOT_KEPT})
        said = {
            "the model's generation settings name no end token: answers end at the tokenizer's": not self.answerer.ends,
            f"{own} of the model's generation settings not applied": own,
            **self._leaves_spaces,
        }
        return tuple(text for text, holds in said.items() if holds)


_PROTOCOLS: dict[str, type[Protocol]] = {"served": Served, "official": Official}


def protocol_of(name: ProtocolName, benchmark: Benchmark, answerer: Answerer, prompt_format: PromptFormat) -> Protocol:
    """The protocol of that name.

    Raises:
        InputError: the benchmark has no official script that generates with transformers.
    """
    check_protocol(name, benchmark)
    return _PROTOCOLS[name](benchmark, answerer, prompt_format)


def check_protocol(name: ProtocolName, benchmark: Benchmark) -> None:
    """Refuse what nothing official says anything about, before a model is loaded.

    Raises:
        InputError: the benchmark has no official script that generates with transformers.
    """
    if name == "official" and not benchmark.generates_as_model_does:
        raise InputError(
            f"expected `protocol: served` for {benchmark.name}, which no official script asks through transformers' "
            "`generate`, got official; type --protocol served"
        )


def chat_deviation(benchmark: Benchmark, model: str, *, used: bool, whose: str = "the tokenizer's") -> tuple[str, ...]:
    """What the official script would have written around prompts, if that is something else.

    Args:
        benchmark: what is asked.
        model: name by which the official script would know it.
        used: whether any prompt was wrapped in a chat template.
        whose: that template is.
    """
    if not benchmark.generates_as_model_does:
        return ()
    named = next((name for name in benchmark.chat_names if name in model), None)
    if used:
        official = "asks models that it does not name plainly" if named is None else f"has a string for {named}"
        return (f"asked in {whose} chat template; the official script {official}",)
    if named is not None:
        return (f"asked plainly, where the official script has a chat string for {named}",)
    return ()


def in_words(settings: Mapping[str, Any]) -> str:
    """Settings in words."""
    return ", ".join(f"{name} {value}" for name, value in settings.items())


def generation_fact(name: ProtocolName, settings: Mapping[str, Any]) -> str:
    """How answers were generated, for a report."""
    return f"most likely tokens, {name}" + (f", with the model's {in_words(settings)}" if settings else "")
