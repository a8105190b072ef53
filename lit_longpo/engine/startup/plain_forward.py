"""Runs a model's own forward over one plain sequence, and finds out whether it is causal and reads positions.

Shape legend: K tokens of a sequence, R of them the response's, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from lit_longpo.batch import Group, Response
from lit_longpo.engine.decoder import accepted_by, decoder_of
from lit_longpo.engine.rotary import angles_up_to

_SAME = 1e-6  # relative to the largest logit; the same computation twice


def plain_log_probs(model: PreTrainedModel, group: Group, response: Response) -> Tensor:
    """Log-probabilities of a response's tokens behind its prompt, from whole logits. Shape: (R,).

    Angles that depend on a length are those of the group's longest sequence, as everywhere.

    Args:
        model: in `plain_mode`.
        group: whose prompt it follows.
        response: R tokens.
    """
    with angles_up_to(decoder_of(model), _furthest(group).to(next(model.parameters()).device)):
        logits = _logits(model, group.prompt_ids + response.token_ids, _positions(group, response))
    start = len(group.prompt_ids)
    log_probs = logits[start - 1 : -1].float().log_softmax(-1)
    return log_probs.gather(1, torch.tensor(response.token_ids, device=logits.device).unsqueeze(1)).squeeze(1)


def repeats_itself(model: PreTrainedModel, group: Group, tolerance: float) -> bool:
    """Whether a model gives the same logits twice.

    Args:
        model: in `plain_mode`.
        group: whose first response is read.
        tolerance: greatest difference, relative to the largest logit.
    """
    return not _prompts_differ(model, group, group.responses[0], group.responses[0], tolerance)


def later_tokens_matter(model: PreTrainedModel, group: Group, tolerance: float) -> bool:
    """Whether what follows a prompt changes what is predicted inside of it, as in an encoder.

    Args:
        model: with its own attention.
        group: whose first response is taken, forwards and backwards.
        tolerance: relative to the largest logit.
    """
    response = group.responses[0]
    return _prompts_differ(model, group, response, replace(response, token_ids=response.token_ids[::-1]), tolerance)


def _prompts_differ(model: PreTrainedModel, group: Group, one: Response, other: Response, tolerance: float) -> bool:
    first, second = (
        _logits(model, group.prompt_ids + response.token_ids, _positions(group, response))[: len(group.prompt_ids)]
        for response in (one, other)
    )
    return _difference(first, second) > tolerance


def reads_positions(model: PreTrainedModel, group: Group) -> bool:
    """Whether a model gives other logits at a group's own positions than at 0, 1, 2 ..."""
    response = group.responses[0]
    ids = group.prompt_ids + response.token_ids
    own, plain = (_logits(model, ids, places) for places in (_positions(group, response), list(range(len(ids)))))
    return _difference(own, plain) > _SAME


def counts_from_zero(model: PreTrainedModel, group: Group) -> bool:
    """Whether a model that is given no positions takes 0, 1, 2 ... (RoBERTa starts behind its padding token's id)."""
    ids = group.prompt_ids + group.responses[0].token_ids
    return _difference(_logits(model, ids, list(range(len(ids)))), _logits(model, ids, None)) <= _SAME


def _difference(some: Tensor, others: Tensor) -> float:
    return float((some - others).abs().max() / some.abs().max())


def _positions(group: Group, response: Response) -> list[int] | None:
    """A sequence's own; `None` leaves true ones to the model."""
    if group.position_ids is None:
        return None
    end = group.position_ids[-1] + 1
    return [*group.position_ids, *range(end, end + len(response.token_ids))]


def _furthest(group: Group) -> Tensor:
    """The last position of a group's longest sequence. Shape: (1, 1)."""
    last = len(group.prompt_ids) - 1 if group.position_ids is None else group.position_ids[-1]
    return torch.tensor([[last + max(len(response.token_ids) for response in group.responses)]])


def _logits(model: PreTrainedModel, ids: Sequence[int], positions: Sequence[int] | None) -> Tensor:
    """Shape: (K, V)."""
    device = next(model.parameters()).device
    row = torch.tensor([ids], device=device)
    options: dict[str, Any] = {"use_cache": False}
    if positions is not None:
        # An explicit mask keeps transformers from reading a jump as a sequence boundary.
        options |= {"position_ids": torch.tensor([positions], device=device), "attention_mask": torch.ones_like(row)}
    logits: Tensor = model(input_ids=row, **accepted_by(model, **options)).logits[0]
    return logits
