"""How much likelier a model finds the chosen answer than the rejected one, given the short context."""

import math
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from data_modules.records import PreferencePair, Turn
from lit_longpo.engine import generation_mode, nan_error
from lit_longpo.engine.decoder import accepted_by
from lit_longpo.policy import PromptFormat


@torch.no_grad()
def _mean_log_prob(model: Any, prompt_format: PromptFormat, turn: Turn, answer: str) -> float:
    """Log-probability of an answer per token, given a turn's short context and question."""
    prompt = prompt_format.encode_prompt(turn.short_context, turn.question).ids
    response = prompt_format.encode_response(answer)
    ids = torch.tensor([[*prompt, *response]], device=model.device)
    with generation_mode(model):
        logits = model(input_ids=ids, **accepted_by(model, logits_to_keep=len(response) + 1)).logits
    logits = logits[0, -len(response) - 1 : -1]
    mean = -float(cross_entropy(logits.float(), ids[0, -len(response) :]))
    if math.isnan(mean):
        raise nan_error(logits.dtype)
    return mean


def margins_of(model: Any, prompt_format: PromptFormat, turn: Turn) -> list[float]:
    """By how much a turn's chosen answer is likelier than each rejected one, in nats per token."""
    chosen = _mean_log_prob(model, prompt_format, turn, turn.chosen)
    return [chosen - _mean_log_prob(model, prompt_format, turn, rejected) for rejected in turn.rejected]


def margin_of(model: Any, prompt_format: PromptFormat, pair: PreferencePair) -> float:
    """By how much chosen is likelier than rejected, in nats per token: the least over turns and rejected answers."""
    return round(min(margin for turn in pair.all_turns for margin in margins_of(model, prompt_format, turn)), 4)
