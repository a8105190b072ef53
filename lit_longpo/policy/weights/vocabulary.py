"""Tokens that the policy's tokenizer did not have, and the rows of embeddings and head that they need.

A new row is the mean of the rows of all tokens there were: then a model hardly ever writes a token that it has not
learnt, and every load of the same source starts alike, as a reference and a resumed run have to. Rows that no token
has, as models padded to a round number hold them, are filled first; none is ever taken away.
"""

import logging
from collections.abc import Sequence
from typing import cast

import torch
from tokenizers import AddedToken
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lit_longpo.engine import base_model
from lit_longpo.errors import InputError

log = logging.getLogger(__name__)


def unknown_tokens(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[str], *, special: bool) -> list[str]:
    """Those that have to be added; what an earlier run has added is there.

    Raises:
        InputError: one is empty, named twice, or means something to the tokenizer already.
    """
    setting = "policy.added_special_tokens" if special else "policy.added_tokens"
    if odd := [token for token in tokens if not token.strip() or tokens.count(token) > 1]:
        raise InputError(f"expected `{setting}` to name each token once, got {odd[0]!r}; remove it")
    vocabulary = tokenizer.get_vocab()
    added = {token.content: token.special for token in tokenizer.added_tokens_decoder.values()}
    if other := [token for token in tokens if token in vocabulary and added.get(token) is not special]:
        kind = "special" if added.get(other[0]) else "added" if other[0] in added else "a part of its vocabulary"
        raise InputError(
            f"expected `{setting}` to be new to the tokenizer, got {other[0]!r}, which is {kind} there already; remove "
            "it from the list"
        )
    return [token for token in tokens if token not in vocabulary]


def add_tokens(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[str], special: Sequence[str]) -> dict[str, int]:
    """Ids of the new tokens; the tokenizer is changed in place.

    Args:
        tokenizer: of the source.
        tokens: what texts may write.
        special: control tokens.

    Raises:
        InputError: see `unknown_tokens`; or one is of both kinds.
    """
    if both := sorted(set(tokens) & set(special)):
        raise InputError(
            "expected a new token in one of `policy.added_tokens` and `policy.added_special_tokens`, got "
            f"{both[0]!r} in both; remove it from one"
        )
    new = {kind: unknown_tokens(tokenizer, names, special=kind) for kind, names in ((False, tokens), (True, special))}
    for kind, names in new.items():
        tokenizer.add_tokens([AddedToken(name, special=kind, normalized=False) for name in names], special_tokens=kind)
    vocabulary = tokenizer.get_vocab()
    return {name: vocabulary[name] for names in new.values() for name in names}


@torch.no_grad()
def grow(model: PreTrainedModel, known: Sequence[int], new: dict[str, int]) -> None:
    """Give new tokens their rows.

    Args:
        model: whole; changed in place.
        known: ids that the tokenizer had.
        new: tokens and ids that it has got.
    """
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
    """What has a row for every token: embeddings, and the head and its bias; tied ones once."""
    head = cast(nn.Linear, model.get_output_embeddings())
    parts = [model.get_input_embeddings().weight, head.weight, getattr(head, "bias", None)]
    return list({id(part): cast(Tensor, part) for part in parts if part is not None}.values())


def check_trained(model: nn.Module, new: dict[str, int]) -> None:
    """Refuse new tokens whose rows would stay the mean of the others.

    Args:
        model: what is trained, perhaps PEFT-wrapped.
        new: tokens and ids.

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
    """Refuse a tokenizer that can produce ids the model has no embedding for.

    Raises:
        ValueError: naming both sizes.
    """
    rows = cast(nn.Embedding, base_model(model).get_input_embeddings()).num_embeddings
    largest = max(tokenizer.get_vocab().values())
    if largest >= rows:
        raise InputError(
            f"expected a tokenizer whose ids are below the model's {rows:,} embeddings, got ids up to {largest:,}; "
            "`policy.source` mixes the files of two models, or tokens were added without resizing the embeddings"
        )
