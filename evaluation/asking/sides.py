"""One model's answers: generated as in `evaluate`, and how likely it finds answers that it is given."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from evaluation.asking.questions import DocumentQuestions, PromptRules, unknown_tokens
from evaluation.prompting import Prompt
from evaluation.running.answering import answer
from evaluation.running.batching import Batching, shareable_length
from lit_longpo.batch import Group, Response
from lit_longpo.checkpoints.reading import fill_policy, read_weights
from lit_longpo.engine import pack, plan_scoring, score
from lit_longpo.errors import InputError
from lit_longpo.policy import PolicyConfig, PromptFormat
from lit_longpo.policy.weights.vocabulary import check_vocabulary
from lit_longpo.policy.window import readable_positions

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reply:
    """A model's reply to a question.

    Args:
        text: the answer, white space around it left out.
        num_new: tokens generated.
        finished: whether the model ended it; else it ran into `max_new_tokens`.
        log_probs: of each given answer, its end included.
        num_scored: tokens of each given answer, its end included.
    """

    text: str
    num_new: int
    finished: bool
    log_probs: tuple[float, ...] = ()
    num_scored: tuple[int, ...] = ()

    @property
    def margin(self) -> float | None:
        """By how much the first given answer is likelier than the likeliest other; `None` without others."""
        return self.log_probs[0] - max(self.log_probs[1:]) if len(self.log_probs) > 1 else None


@dataclass(frozen=True)
class Side:
    """A model that is asked.

    Args:
        role: for readers: "base", "trained" or "model".
        name: as it was typed.
        policy: how its files are read.
        checkpoint: whose weights are put into the policy; `None` where its source has them.
        beneath: adapters whose base model this is; `None` if it is none.
        told_by: the file that knows the prompt's form; `None` if nobody does.
    """

    role: str
    name: str
    policy: PolicyConfig
    checkpoint: Path | None = None
    beneath: str | None = None
    told_by: str | None = None

    def load(self, device: torch.device) -> nn.Module:
        """The model in eval mode.

        Raises:
            InputError: checkpoint and policy, or tokenizer and model, do not belong together.
        """
        return self._read().to(device).eval()  # type: ignore[arg-type]

    def _read(self) -> nn.Module:
        if self.beneath is not None:
            return replace(self.policy, source=self.beneath).load_plain()
        if self.checkpoint is None:
            return self.policy.load_base()
        model = self.policy.load()
        advice = "set --model to a checkpoint that lies in its run's folder"
        drawn = self.policy.weights == "random"
        fill_policy(model, read_weights(self.checkpoint), self.checkpoint, advice, everything=drawn)
        return model

    def window(self) -> int | None:
        """Positions that it can read, from its configuration."""
        return readable_positions(self.policy.config())


@dataclass(frozen=True)
class Prepared:
    """A side with its prompts, before it is loaded.

    Args:
        window: positions that it can read; `None` if nobody knows.
    """

    side: Side
    prompt_format: PromptFormat
    window: int | None
    prompts: tuple[Prompt, ...]

    @classmethod
    def of(cls, side: Side, asked: DocumentQuestions, rules: PromptRules) -> "Prepared":
        """Prepare the prompts; refuses a document or questions that do not fit.

        Raises:
            InputError: see `PromptRules.prompts`, or the tokenizer does not know the document.
        """
        prompt_format, window = side.policy.prompt_format(), side.window()
        prompts = rules.prompts(asked, prompt_format, window)
        for line in unknown_tokens(prompts, prompt_format):
            log.warning("%s: %s", side.role, line)
        prepared = cls(side, prompt_format, window, tuple(prompts))
        _check_answers(prepared, asked)
        return prepared

    def replies(self, asked: DocumentQuestions, device: torch.device, batching: Batching) -> list[Reply]:
        """What the model says, loaded for it and released afterwards."""
        model = self.side.load(device)
        check_vocabulary(model, self.prompt_format.tokenizer)
        said = dict[int, list[int]]()
        for part in answer(model, self.prompts, batching):
            said.update(part)
        replies = [self._reply(said[number], prompt) for number, prompt in enumerate(self.prompts)]
        return self._with_log_probs(model, replies, asked) if asked.answers else replies

    def _reply(self, ids: Sequence[int], prompt: Prompt) -> Reply:
        return Reply(self.prompt_format.decode(list(ids)), len(ids), len(ids) < prompt.max_new_tokens)

    def _with_log_probs(self, model: nn.Module, replies: list[Reply], asked: DocumentQuestions) -> list[Reply]:
        plan_scoring(model)
        groups = _groups(self.prompts, [_encoded(texts, self.prompt_format) for texts in asked.answers])
        with torch.no_grad():
            scores = [score(model, pack([group]).to(next(model.parameters()).device)) for group in groups]
        found = iter([pair for part in scores for pair in zip(part.sums.tolist(), part.counts.tolist(), strict=True)])
        for number, texts in enumerate(asked.answers):
            sums, counts = zip(*(next(found) for _ in texts), strict=True)
            replies[number] = replace(replies[number], log_probs=sums, num_scored=tuple(map(int, counts)))
        return replies


def _encoded(texts: Sequence[str], prompt_format: PromptFormat) -> list[tuple[int, ...]]:
    return [prompt_format.encode_response(text) for text in texts]


def _check_answers(prepared: Prepared, asked: DocumentQuestions) -> None:
    """Refuse given answers that the tokenizer does not know, or that do not fit the model's window."""
    for prompt, texts in zip(prepared.prompts, asked.answers, strict=False):
        for text, ids in zip(texts, _encoded(texts, prepared.prompt_format), strict=True):
            if prepared.prompt_format.unknown_id in ids:
                raise InputError(
                    f"expected answers that the tokenizer of {prepared.side.name} knows, got {text!r}, whose "
                    "log-probability would be that of an unknown token; correct --answers"
                )
            if prepared.window is not None and len(prompt.ids) + len(ids) > prepared.window:
                raise InputError(
                    f"expected answers that fit {prepared.window:,} positions behind a prompt of {len(prompt.ids):,}, "
                    f"got one of {len(ids):,} tokens; lower --max_length"
                )


def _groups(prompts: Sequence[Prompt], answers: Sequence[Sequence[tuple[int, ...]]]) -> list[Group]:
    """Prompts and the answers that continue them, for rows of their own.

    What all prompts begin with goes through the model once if it is most of them: then it is the prompt, and the rest
    of each is an unscored part of its responses.
    """
    shared = min(shareable_length(prompts[0].ids, prompt.ids) for prompt in prompts)
    if 2 * shared < max(len(prompt.ids) for prompt in prompts):
        return [_group(prompt.ids, [((), ids) for ids in own]) for prompt, own in zip(prompts, answers, strict=True)]
    parts = [(prompt.ids[shared:], ids) for prompt, own in zip(prompts, answers, strict=True) for ids in own]
    return [_group(prompts[0].ids[:shared], parts)]


def _group(start: tuple[int, ...], parts: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]) -> Group:
    """One prompt; of each response the second part is scored."""
    masks = [(False,) * len(rest) + (True,) * len(ids) for rest, ids in parts]
    responses = [
        Response("rejected", (*rest, *ids), mask, index)
        for index, ((rest, ids), mask) in enumerate(zip(parts, masks, strict=True))
    ]
    return Group("document", "long", start, tuple(responses))
