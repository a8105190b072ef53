"""Scores by a model's own logits, one sequence at a time: for heads that are no plain product with a weight.

Elsewhere the engine multiplies hidden states with the head's weight itself, tile by tile. A head of several layers
(BERT's), of fewer rows than the vocabulary (Inkling's) or with a factor of its own would be left out so. Here the whole
model runs, and what it gives counts. The price: logits of all tokens from a sequence's first scored one on exist at
once, if the model lets itself be asked for the last ones; else those of the whole sequence.

Shape legend: N scored tokens of the row, L last tokens of a sequence, V vocabulary.
"""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from lit_longpo.batch import PackedBatch, Views
from lit_longpo.engine.decoder import accepted_by, decoder_of
from lit_longpo.engine.sequential.sequences import (
    RowSequence,
    plain_options,
    run_sequences,
    score_sequentially,
    scores_sequentially,
    sequential_cost,
)
from lit_longpo.engine.tiling.tiles import accumulation_dtype

_OWN = "_scored_by_own_logits"


def uses_own_logits(model: PreTrainedModel) -> bool:
    """Whether a model was told to be scored by its own logits."""
    return getattr(model, _OWN, False)


def use_own_logits(model: PreTrainedModel, wanted: bool = True) -> None:
    """Score a model's rows by its own logits from now on, one sequence at a time; or no longer so."""
    setattr(model, _OWN, wanted)
    if wanted and not scores_sequentially(model):
        score_sequentially(model)


def scoring_cost(model: PreTrainedModel, views: Views) -> str:
    """A sentence for the user on what it costs to score a model that cannot be packed."""
    cost = sequential_cost(views)
    if not uses_own_logits(model):
        return cost
    vocabulary = model.config.get_text_config().vocab_size
    return (
        f"{cost}; its own head gives whole logits, {4 * vocabulary / 2**20:.1f} MiB in fp32 for each token from the "
        "first scored one on"
    )


def own_log_probs(model: PreTrainedModel, row: PackedBatch) -> Tensor:
    """Log-probability of every scored token, fp32 (fp64 for fp64 logits).

    Args:
        model: a causal language model with ordinary attention.
        row: the row; its table says which sequences it holds.

    Returns:
        Shape: (N,).
    """

    def log_probs(one: RowSequence, input_ids: Tensor, position_ids: Tensor) -> Tensor:
        asked = max(one.num_scored, 1)
        options = accepted_by(model, **plain_options(row, position_ids), logits_to_keep=asked)
        return _picked(model(input_ids=input_ids, **options).logits[0, -asked:], one, row)

    # Every scored token is predicted in one sequence; of the others it gets zeros.
    return torch.stack(run_sequences(decoder_of(model), row, log_probs)).sum(0)


def _picked(logits: Tensor, one: RowSequence, row: PackedBatch) -> Tensor:
    """The row's log-probabilities that a sequence's last logits give, zeros elsewhere.

    Args:
        logits: Shape: (L, V).
        one: the sequence.
        row: that it comes from.

    Returns:
        Shape: (N,).
    """
    logits = logits.to(accumulation_dtype(logits.dtype))
    first = one.end - len(logits)
    # Not `nonzero`: it would wait for a GPU, and a plan's tensors have no values.
    inside = (row.score_index >= first) & (row.score_index < one.end)
    index = (row.score_index - first).clamp(0, len(logits) - 1)
    found = logits[index, row.score_targets] - logits.logsumexp(-1)[index]
    return torch.where(inside, found, 0)
