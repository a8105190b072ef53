"""The reference implementation: every (prompt, response) a right-padded row, whole logits."""

import inspect
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lit_longpo.batch import Group, Response
from lit_longpo.engine.attention import ordinary_attention
from lit_longpo.engine.decoder import base_model


def rows_of(groups: Sequence[Group]) -> list[tuple[Group, Response]]:
    return [(group, response) for group in groups for response in group.responses]


def padded_log_probs(model: nn.Module, groups: Sequence[Group], implementation: str | None = None) -> list[Tensor]:
    """Log-probabilities of the scored tokens of every row, in row order."""
    rows = rows_of(groups)
    ids = [group.prompt_ids + response.token_ids for group, response in rows]
    length = max(map(len, ids))
    input_ids = torch.tensor([row + (0,) * (length - len(row)) for row in ids])
    mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in ids])
    positions = torch.tensor([_positions(group, response, length) for group, response in rows])
    with ordinary_attention(base_model(model), implementation):
        logits = model(input_ids=input_ids, attention_mask=mask, position_ids=positions, use_cache=False).logits
    log_probs = logits.float().log_softmax(-1)
    return [_scored(log_probs[number], group, response) for number, (group, response) in enumerate(rows)]


def plain_log_probs(model: nn.Module, groups: Sequence[Group]) -> list[Tensor]:
    """The same from one row after another, without padding and with the attention that the model has."""
    found = []
    # Some whole models hand on what they do not name themselves.
    takers = (model.forward, model.get_decoder().forward)
    takes_positions = any("position_ids" in inspect.signature(taker).parameters for taker in takers)
    device = next(model.parameters()).device
    for group, response in rows_of(groups):
        ids = torch.tensor([group.prompt_ids + response.token_ids], device=device)
        positions = torch.tensor([_positions(group, response, ids.shape[1])], device=device)
        # True ones are the model's to count: not all start at 0.
        options = {"position_ids": positions} if takes_positions and group.position_ids else {}
        # The mask keeps transformers from taking a leap in positions for a border.
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False, **options).logits
        found.append(_scored(logits[0].float().log_softmax(-1), group, response))
    return found


def plain_sums(model: nn.Module, group: Group) -> Tensor:
    """Log-probabilities of a group's responses, by `plain_log_probs`. Shape: (responses,)."""
    return torch.stack([values.sum() for values in plain_log_probs(model, [group])])


def _positions(group: Group, response: Response, length: int) -> list[int]:
    prompt = list(group.position_ids or range(len(group.prompt_ids)))
    answer = list(range(prompt[-1] + 1, prompt[-1] + 1 + len(response.token_ids)))
    padding = length - len(prompt) - len(answer)
    return prompt + answer + [answer[-1]] * padding


def _scored(log_probs: Tensor, group: Group, response: Response) -> Tensor:
    start = len(group.prompt_ids)
    wanted = [offset for offset, scored in enumerate(response.mask) if scored]
    return torch.stack([log_probs[start + offset - 1, response.token_ids[offset]] for offset in wanted])
