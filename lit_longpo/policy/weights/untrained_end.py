"""Warns of base models that never learnt the token which ends answers, and cannot learn it with a frozen head.

Qwen's and Llama 3's base models have the control tokens of their chat formats in the vocabulary, but all with the same
row of the head, as initialised. Whatever adapters do before the head, these tokens get the same logit
(QwenLM/Qwen3#1064), so generated answers do not end.
"""

import logging
from typing import TypeGuard, cast

from torch import Tensor, nn

from lit_longpo.engine import base_model
from lit_longpo.policy.prompts.prompting import PromptFormat

log = logging.getLogger(__name__)

_FIRST = 64  # numbers of each row that are compared first
_ALIKE = 0.01  # of a row's length; trained rows are at least a tenth apart


def warn_of_untrained_end(model: nn.Module, prompt_format: PromptFormat) -> None:
    """Warn if the head is frozen and the token that ends answers has the same row as other tokens.

    A head that a strategy has split is not checked.
    """
    base = base_model(model)
    head = cast("nn.Module | None", base.get_output_embeddings())
    weight, end = getattr(head, "weight", None), prompt_format.end_id
    if head is None or not _is_whole(weight, end) or any(each.requires_grad for each in head.parameters()):
        return
    if getattr(head, "bias", None) is None and (alike := rows_like(weight, end)):
        names = {id(module): name.rpartition(".")[2] for name, module in base.named_modules()}
        both = ", ".join(names[id(module)] for module in (base.get_input_embeddings(), head))
        log.warning(
            "the head is frozen and cannot tell %r, which ends answers, from %r (%d tokens have one row, which no "
            "training has moved): answers would not end; %s, or start from the model that was trained to chat",
            *prompt_format.tokenizer.convert_ids_to_tokens([end, alike[0]]),
            1 + len(alike),
            f"train {both}, too (`policy.freeze`, `policy.train_only`)"
            if base is model
            else f"type --policy.lora.also_train '[{both}]'",
        )


def rows_like(weight: Tensor, row: int) -> list[int]:
    """Numbers of the other rows that nearly equal the given one.

    Args:
        weight: Shape: (rows, hidden).
        row: number of the row to compare with.
    """
    rows = weight.detach()
    wanted = rows[row].float()
    most = _ALIKE * wanted.norm()
    near = ((rows[:, :_FIRST].float() - wanted[:_FIRST]).norm(dim=1) <= most).nonzero().flatten()
    alike = near[(rows[near].float() - wanted).norm(dim=1) <= most]
    return [number for number in alike.tolist() if number != row]


def _is_whole(weight: object, row: int) -> TypeGuard[Tensor]:
    """Whether `weight` is a plain matrix with that row, neither split by a strategy nor quantised."""
    if type(weight) not in (Tensor, nn.Parameter):
        return False
    matrix = cast(Tensor, weight)
    return matrix.dim() == 2 and row < len(matrix) and matrix.is_floating_point()
