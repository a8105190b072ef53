"""Scores a packed row with a model: the one place that joins segment table, attention and log-probabilities."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from lit_longpo.batch import PackedBatch, Scores
from lit_longpo.engine.attention import PREFIX_SHARED, UnsupportedModelError, shares_prefixes
from lit_longpo.engine.decoder import accepted, base_model, decoder_of
from lit_longpo.engine.head import tiled_head
from lit_longpo.engine.log_probs import LogitTransform
from lit_longpo.engine.rotary import angles_by_group
from lit_longpo.engine.routers import balancing_loss, recorded_logits, routers
from lit_longpo.engine.sequential.own_logits import own_log_probs, uses_own_logits
from lit_longpo.engine.sequential.sequences import in_row_order, scores_sequentially, sequential_states
from lit_longpo.engine.sharing import copies_of, row_for
from lit_longpo.engine.ulysses.sequence_parallel import RowPart, sequence_ranks

# What configurations call a head's factor and soft-cap; some models mean by a divisor's name a factor.
_FACTORS = ("logit_scale", "lm_head_multiplier", "output_multiplier")
_SOFTCAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")
_MULTIPLYING = frozenset({"hyperclovax"})
_NO_LEAPS = "_no_leaps_because"  # of a model that cannot be scored at synthesised positions


def score(model: nn.Module, batch: PackedBatch, *, router_loss: bool = False) -> Scores:
    """Summed log-probabilities of every response in the row.

    Args:
        model: a causal language model (perhaps PEFT-wrapped) loaded with the prefix-shared attention.
        batch: the packed row, on the model's device.
        router_loss: whether the load-balancing loss of routed experts is wanted too.

    Returns:
        Scores with gradients, if gradients are on.

    Raises:
        UnsupportedModelError: the model does not use the prefix-shared attention, or asks for
            something that a packed row cannot honour.
    """
    if not router_loss:
        return _scores(row_log_probs(model, batch), batch)
    base = base_model(model)
    with recorded_logits(base) as logits:
        scores = _scores(row_log_probs(model, batch), batch)
    return replace(scores, router_loss=loss_of_routers(base, logits, batch))


def loss_of_routers(base: PreTrainedModel, logits: Sequence[Tensor], batch: PackedBatch) -> Tensor:
    """The load-balancing loss of a row. A token that several groups share counts once for each of them.

    Args:
        base: the model without the PEFT wrapper.
        logits: recorded by `recorded_logits` while the row was scored.
        batch: the row.

    Returns:
        Shape: ().
    """
    row = row_for(base, batch)
    if scores_sequentially(base):
        logits = in_row_order(logits, len(routers(base)), row)
    return balancing_loss(base, logits, row.num_tokens, copies_of(row))


def _scores(per_token: Tensor, batch: PackedBatch) -> Scores:
    sums = _sum_by_owner(per_token, batch)
    return Scores(sums=sums, counts=batch.num_scored.to(sums.dtype), slots=batch.slots)


def _sum_by_owner(per_token: Tensor, batch: PackedBatch) -> Tensor:
    """Sums per slot, added up in fp64: in fp32 the sum of a long sequence would lose what its last tokens add.

    Shape: (N,) -> (slots,).
    """
    exact = torch.float32 if per_token.device.type == "mps" else torch.float64  # Apple's GPUs have no fp64
    sums = per_token.new_zeros(len(batch.slots), dtype=exact)
    return sums.index_add(0, batch.score_owners, per_token.to(exact)).to(per_token.dtype)


def row_log_probs(model: nn.Module, batch: PackedBatch) -> Tensor:
    """Log-probability of every scored token of one packed row, fp32. Shape: (N,).

    Raises:
        UnsupportedModelError: the model does not take this row's positions, or has a layer between decoder and head.
    """
    base = base_model(model)
    cause = getattr(base, _NO_LEAPS, None)
    if batch.leaps and cause is not None:
        raise UnsupportedModelError(leap_message(base, cause))
    batch = row_for(base, batch)
    if scores_sequentially(base):
        check_ranks(base)
    if uses_own_logits(base):
        return own_log_probs(base, batch)
    ranks = sequence_ranks()
    part = ranks.split(batch)
    hidden = sequential_states(base, part.row) if scores_sequentially(base) else _packed(base, part)
    head = tiled_head(base)
    if hidden.shape[-1] != head.in_features:
        raise UnsupportedModelError(
            f"{type(base).__name__}: its head takes {head.in_features} features and its decoder gives "
            f"{hidden.shape[-1]}; another layer lies between"
        )
    log_probs: Tensor = head(
        hidden[0].index_select(0, part.score_index),
        part.score_targets,
        logit_transform(base.config.get_text_config()),
    )
    return ranks.join(part, log_probs)


def _packed(base: PreTrainedModel, part: RowPart) -> Tensor:
    """Last hidden states of this rank's tokens, from one forward. Shape: (1, t, C)."""
    if not shares_prefixes(base):
        raise UnsupportedModelError(
            f'{type(base).__name__} was loaded with attention "{base.config._attn_implementation}"; packed rows need '
            f'attn_implementation="{PREFIX_SHARED}" (lit_longpo.policy.PolicyConfig.load does that)'
        )
    decoder = decoder_of(base)
    with angles_by_group(decoder, part.row, part.span):
        hidden: Tensor = decoder(
            input_ids=part.row.input_ids[:, part.span],
            **accepted(decoder, position_ids=part.row.position_ids[:, part.span], attention_mask=None, use_cache=False),
            segment_table=part.row.table,
        ).last_hidden_state
    return hidden


def refuse_leaps(model: PreTrainedModel, cause: str | None) -> None:
    """From now on refuse rows whose positions leap (LOGO's synthesised ones) for this cause; `None` allows them."""
    setattr(model, _NO_LEAPS, cause)


def leap_message(model: PreTrainedModel, cause: str) -> str:
    """The error message about such rows."""
    return (
        f"expected true positions for {type(model).__name__}, got synthesised ones: {cause}; type "
        "--data.init_args.positions null"
    )


def check_ranks(base: PreTrainedModel) -> None:
    """Refuse one sequence at a time where ranks share rows."""
    if (ranks := sequence_ranks().size) > 1:
        raise UnsupportedModelError(
            f"{type(base).__name__} is scored one sequence at a time, which {ranks} ranks cannot share; set "
            "`trainer.strategy.init_args.sequence_parallel: 1`"
        )


def logit_transform(config: PretrainedConfig) -> LogitTransform:
    """Scale and soft-cap that the model's own head applies, from its configuration."""
    scale = math.prod(getattr(config, name, None) or 1.0 for name in _FACTORS)
    divisor = getattr(config, "logits_scaling", None) or 1.0
    scale = scale * divisor if config.model_type in _MULTIPLYING else scale / divisor
    softcap = next((cap for name in _SOFTCAPS if (cap := getattr(config, name, None))), None)
    return LogitTransform(scale=scale, softcap=softcap)
