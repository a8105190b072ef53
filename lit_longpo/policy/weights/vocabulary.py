"""Adds tokens to the policy's tokenizer, and rows for them to embeddings and head.

A new row is the mean of the rows of all earlier tokens. So a model hardly ever generates a token that it has not
learnt, and every load of the same source gives the same weights, which references and resumed runs need. Unused rows
(many models pad their embeddings to a round number) are filled first; no row is ever removed.
"""

import logging
from collections.abc import Sequence
from typing import cast

import torch
from tokenizers import AddedToken
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lit_longpo.engine import base_model
from lit_longpo.engine.decoder import whole_shape
from lit_longpo.errors import InputError

log = logging.getLogger(__name__)


def missing_tokens(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[str], *, special: bool) -> list[str]:
    """The tokens that still have to be added; those that an earlier run has added are there already.

    Raises:
        InputError: a token is empty, named twice, or has another meaning in the tokenizer.
    """
    setting = "policy.added_special_tokens" if special else "policy.added_tokens"
    if odd := [token for token in tokens if not token.strip() or tokens.count(token) > 1]:
        raise InputError(f"expected `{setting}` to name each token once, got {odd[0]!r}; remove it")
    vocabulary = tokenizer.get_vocab()
    added = {token.content: token.special for token in tokenizer.added_tokens_decoder.values()}
    if other := [token for token in tokens if token in vocabulary and added.get(token) is not special]:
        kinds = {True: "special", False: "added", None: "a part of its vocabulary"}
        raise InputError(
            f"expected `{setting}` to be new to the tokenizer, got {other[0]!r}, which is "
            f"{kinds[added.get(other[0])]} there already; remove it from the list"
        )
    return [token for token in tokens if token not in vocabulary]


def add_tokens(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[str], special: Sequence[str]) -> dict[str, int]:
    """Add new tokens to the tokenizer in place, and return their ids.

    Raises:
        InputError: see `missing_tokens`; or a token is in both lists.
    """
    if both := sorted(set(tokens) & set(special)):
        raise InputError(
            "expected a new token in one of `policy.added_tokens` and `policy.added_special_tokens`, got "
            f"{both[0]!r} in both; remove it from one"
        )
    new = {kind: missing_tokens(tokenizer, names, special=kind) for kind, names in ((False, tokens), (True, special))}
    for kind, names in new.items():
        tokenizer.add_tokens([AddedToken(name, special=kind, normalized=False) for name in names], special_tokens=kind)
    vocabulary = tokenizer.get_vocab()
    return {name: vocabulary[name] for names in new.values() for name in names}


@torch.no_grad()
def grow(model: PreTrainedModel, known: Sequence[int], new: dict[str, int]) -> None:
    """Give new tokens their rows in embeddings and head: the mean of those of all `known` ids."""
    embeddings = cast(nn.Embedding, model.get_input_embeddings())
    rows, needed = embeddings.num_embeddings, max(new.values()) + 1
    if needed > rows:
        model.resize_token_embeddings(needed, mean_resizing=False)
    ids, before = sorted(new.values()), torch.tensor(sorted(known))
    for tensor in _by_token(model):
        tensor[ids] = tensor[before[before < rows].to(tensor.device)].float().mean(0).to(tensor.dtype)
    log.info(
        "%d new tokens, ids %d to %d, start as the mean of the %d others; embeddings have %d rows (before: %d)",
        *(len(new), ids[0], ids[-1], len(known), max(needed, rows), rows),
    )


def _by_token(model: PreTrainedModel) -> list[Tensor]:
    """The tensors with one row per token: embeddings, head and the head's bias; tied ones once."""
    head = cast(nn.Linear, model.get_output_embeddings())
    parts = [model.get_input_embeddings().weight, head.weight, getattr(head, "bias", None)]
    return list({id(part): cast(Tensor, part) for part in parts if part is not None}.values())


def check_rows_trained(model: nn.Module, new: dict[str, int]) -> None:
    """Refuse new tokens whose rows are frozen and would stay the mean of the others.

    Raises:
        InputError: embeddings or head are frozen.
    """
    base = base_model(model)
    ends = {"embeddings": base.get_input_embeddings(), "head": base.get_output_embeddings()}
    still = [name for name, module in ends.items() if new and not module.weight.requires_grad]
    if still:
        names = {id(module): name.rpartition(".")[2] for name, module in base.named_modules()}
        wanted = ", ".join(dict.fromkeys(names[id(module)] for module in ends.values()))
        raise InputError(
            f"expected the rows of {len(new)} new tokens to be trained (`policy.added_tokens`), got a frozen "
            f"{' and a frozen '.join(still)}; type --policy.lora.also_train '[{wanted}]', or take them out of "
            "`policy.freeze`"
        )


def check_vocabulary(model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer that can produce ids the model has no embedding for."""
    rows = whole_shape(cast(Tensor, base_model(model).get_input_embeddings().weight))[0]  # under adapters, too
    largest = max(tokenizer.get_vocab().values())
    if largest >= rows:
        raise InputError(
            f"expected a tokenizer whose ids are below the model's {rows:,} embeddings, got ids up to {largest:,}; "
            "`policy.source` mixes the files of two models, or tokens were added without resizing the embeddings"
        )
