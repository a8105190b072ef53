"""One sequence at a time: what a packed row computes, for models whose layers it would mix up.

The segments of a row divide its tokens by who asks, and name the pieces that each may look at. Those pieces, put
together, are an ordinary sequence: prompt and one response. It goes through the model's own forward with the model's
own attention, and the last states are the segment's. Put side by side they are the row's hidden states, exact for any
causal model; a prompt is computed once for each of its responses.

Several sequences are recomputed in backward, so that the activations of one live at a time.

Shape legend: T row, K tokens of a sequence, Q of them the segment's own, C hidden size.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from lit_longpo.batch import PackedBatch, Segment, Views
from lit_longpo.engine.attention import exact_attention, shares_prefixes
from lit_longpo.engine.decoder import accepted, decoder_of
from lit_longpo.engine.layers import takes_our_attention
from lit_longpo.engine.rotary import angles_up_to

_PACKED_NAME = "_attention_of_packed_rows"  # of a model that is scored one sequence at a time


def scores_sequentially(model: PreTrainedModel) -> bool:
    """Whether a model was told to score one sequence at a time."""
    return hasattr(model, _PACKED_NAME)


def score_sequentially(model: PreTrainedModel, packed_name: str | None = None) -> None:
    """Score one sequence at a time from now on, with the model's own attention.

    Args:
        model: a causal language model.
        packed_name: the attention that packed rows would have; `None` means the one that the model has now.
    """
    setattr(model, _PACKED_NAME, packed_name or str(model.config._attn_implementation))
    if shares_prefixes(model):
        model.set_attn_implementation(exact_attention(model))
    # Else cuDNN would make a plan for every length; for good, as layers recomputed in backward have to take one kernel.
    torch.backends.cuda.enable_cudnn_sdp(False)


def score_packed(model: PreTrainedModel) -> None:
    """Undo `score_sequentially`, if the model can attend any other way."""
    if scores_sequentially(model) and takes_our_attention(model):
        model.set_attn_implementation(getattr(model, _PACKED_NAME))
        delattr(model, _PACKED_NAME)


def sequential_cost(views: Views) -> str:
    """A sentence for the user on what it costs to score one sequence at a time."""
    counts = Counter[str]()
    for view in views.policy:
        counts[view.context] += views.num_rejected if view.role == "rejected" else 1
    return (
        "each response is scored alone, through the model's own forward: same values, but a prompt is computed once "
        f"for each of its responses, up to {max(counts.values())} times"
    )


@dataclass(frozen=True)
class RowSequence:
    """A segment's keys as a sequence of their own.

    Args:
        input_ids: Shape: (1, K).
        position_ids: Shape: (1, K).
        furthest: last position of the longest sequence with the same prompt. Shape: (1, 1).
        num_states: how many states at its end are wanted, Q.
        end: where the segment ends in the row.
        num_scored: how many of its last tokens hold all that are scored.
    """

    input_ids: Tensor
    position_ids: Tensor
    furthest: Tensor
    num_states: int
    end: int = 0
    num_scored: int = 0


def sequential_states(model: PreTrainedModel, row: PackedBatch) -> Tensor:
    """Last hidden states of a row's tokens.

    Args:
        model: a causal language model with ordinary attention.
        row: the row; its table says which sequences it holds.

    Returns:
        Shape: (1, T, C).
    """
    decoder = decoder_of(model)

    def states(one: RowSequence, input_ids: Tensor, position_ids: Tensor) -> Tensor:
        options = accepted(decoder, **plain_options(row, position_ids))
        found = cast(Tensor, decoder(input_ids=input_ids, **options)[0])
        return found[:, found.shape[1] - one.num_states :]

    return torch.cat(run_sequences(decoder, row, states), dim=1)


def run_sequences(
    decoder: PreTrainedModel, row: PackedBatch, run: Callable[[RowSequence, Tensor, Tensor], Tensor]
) -> list[Tensor]:
    """Apply a function to each sequence of a row, with gradients.

    Args:
        decoder: what computes angles and holds the parameters.
        row: the row; its table says which sequences it holds.
        run: from a sequence, its tokens and their positions, (1, tokens) each, to what is kept of it; of an idle one,
            nothing that counts.
    """
    sequences = list(_sequences(row))
    count = _most_of_all_ranks(decoder, len(sequences))
    # Where each rank holds a slice of every layer, a forward is a collective call: who has fewer sequences than
    # another runs tokens that nobody asks for, on the same path, and takes no state of them.
    idle = RowSequence(row.input_ids[:, :1], row.position_ids[:, :1], row.position_ids[:, :1], 0)
    sequences += [idle] * (count - len(sequences))
    recomputed = count > 1 and torch.is_grad_enabled()
    return [_run(decoder, one, run, recomputed) for one in sequences]


def _run(
    decoder: PreTrainedModel, one: RowSequence, run: Callable[[RowSequence, Tensor, Tensor], Tensor], recomputed: bool
) -> Tensor:
    def forward(input_ids: Tensor, position_ids: Tensor) -> Tensor:
        with angles_up_to(decoder, one.furthest):
            return run(one, input_ids, position_ids)

    if recomputed:
        return cast(Tensor, checkpoint(forward, one.input_ids, one.position_ids, use_reentrant=False))
    return forward(one.input_ids, one.position_ids)


def plain_options(row: PackedBatch, position_ids: Tensor) -> dict[str, Any]:
    """Keywords of a plain forward over one of a row's sequences; true positions are for the model to count.

    Args:
        row: that the sequence is of.
        position_ids: of the sequence. Shape: (1, tokens).
    """
    if not row.leaps:
        return {"use_cache": False}
    # With a mask, transformers does not take a leap in the positions for the border of another sequence.
    return {"use_cache": False, "position_ids": position_ids, "attention_mask": torch.ones_like(position_ids)}


def in_row_order(noted: Sequence[Tensor], layers: int, row: PackedBatch) -> list[Tensor]:
    """Module outputs of a row's sequences, put together as the outputs of the row: each token once.

    A prompt's tokens are taken from the segment that they belong to, and not again from others that begin with them.

    Args:
        noted: of one sequence after the other, layer by layer. Shape of each: (K, E).
        layers: that were noted of each sequence.
        row: that the sequences come from.

    Returns:
        For each layer. Shape: (T, E).
    """
    own = [
        [given[len(given) - one.num_states :] for given in noted[number * layers : (number + 1) * layers]]
        for number, one in enumerate(_sequences(row))
    ]
    return [torch.cat(parts) for parts in zip(*own, strict=True)]


def _sequences(row: PackedBatch) -> Iterator[RowSequence]:
    pieces, segments = row.table.pieces, row.table.segments
    starts = [0, *accumulate(pieces)]

    def tokens(values: Tensor, segment: Segment) -> Tensor:
        return torch.cat([values[:, starts[piece] : starts[piece + 1]] for piece in segment.key_pieces], dim=1)

    ends = dict[int, int]()  # of the longest last piece, by the prompt's
    for segment in segments:
        last, prompt = segment.key_pieces[-1], segment.key_pieces[0]
        if prompt not in ends or pieces[last] > pieces[ends[prompt]]:
            ends[prompt] = last
    own_ends = accumulate(segment.query_length for segment in segments)
    for segment, own_end, scored in zip(segments, own_ends, row.scored_tails, strict=True):
        end = starts[ends[segment.key_pieces[0]] + 1]
        yield RowSequence(
            input_ids=tokens(row.input_ids, segment),
            position_ids=tokens(row.position_ids, segment),
            furthest=row.position_ids[:, end - 1 : end],
            num_states=segment.query_length,
            end=own_end,
            num_scored=scored,
        )


def is_sharded(model: nn.Module) -> bool:
    """Whether any parameter is only a slice on this rank."""
    return any(isinstance(parameter, DTensor) or hasattr(parameter, "ds_id") for parameter in model.parameters())


def _most_of_all_ranks(decoder: nn.Module, count: int) -> int:
    """The largest count of all ranks where they run in step; else this rank's, without asking."""
    if not torch.distributed.is_initialized() or not is_sharded(decoder):
        return count
    device = next(decoder.parameters()).device
    most = torch.tensor(count, device=device)
    torch.distributed.all_reduce(most, op=torch.distributed.ReduceOp.MAX)
    return int(most)
