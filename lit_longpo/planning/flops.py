"""Floating-point operations of a step, and how long they take.

For one row with T tokens, N scored tokens and W weights in the layers' linear maps, a forward pass takes

    2 T W  (linear maps)  +  4 H D sum(pairs)  (attention)  +  2 N C V  (head)

where a segment of q queries over k keys has q k - q (q - 1) / 2 pairs, fewer with a window. Backward takes
twice the forward pass; a frozen weight needs no gradient, so its linear map takes once. These are the *model's*
FLOPs, which model FLOP utilisation (MFU) counts. The hardware also computes the layers again with
checkpointing (all but their last map, which is counted here all the same, and attention where it is kept), the
head's tiles again (all but the last one), and flash attention's scores once more in backward (2.5 instead of 2).
"""

from dataclasses import dataclass, replace

from transformers import PretrainedConfig

from lit_longpo.batch import PackedBatch, SegmentTable
from lit_longpo.engine.log_probs import projected_twice
from lit_longpo.engine.ulysses.degrees import head_counts, head_size
from lit_longpo.planning.sizes import ModelSizes
from lit_longpo.policy.checkpointing import Checkpointing

# Layers whose work does not grow with the square of the length; what a scan adds to their linear maps is left out.
_LINEAR = frozenset({"linear_attention", "conv", "mamba", "mlp", "moe"})


@dataclass(frozen=True)
class Flops:
    """Floating-point operations of one row.

    Args:
        forward: one pass without gradients.
        model: forward and backward.
        hardware: and what is computed twice.
    """

    forward: float
    model: float
    hardware: float

    def beside(self, reference: float) -> "Flops":
        """With those of a reference that is scored in the same step."""
        return replace(self, model=self.model + reference, hardware=self.hardware + reference)


def row_flops(config: PretrainedConfig, sizes: ModelSizes, row: PackedBatch, *, checkpointing: Checkpointing) -> Flops:
    """FLOPs of one row; a layer that is computed again counts whole, though its last product is left out."""
    linear = 2.0 * row.num_tokens * (sizes.frozen_linear + sizes.trained_linear)
    gradients = 2.0 * row.num_tokens * (sizes.frozen_linear + 2 * sizes.trained_linear)
    attention = attention_flops(config, row.table)
    head = 2.0 * len(row.score_targets) * sizes.head_weights
    forward = linear + attention + head
    model = forward + gradients + 2 * attention + head * (2 if sizes.head_trained else 1)
    again = 2.0 * _head_again(config, row) * sizes.head_weights
    again += 0.5 * attention + (linear if checkpointing else 0.0)
    again += attention if checkpointing and checkpointing != "keep_attention" else 0.0
    return Flops(forward, model, model + again)


def _head_again(config: PretrainedConfig, row: PackedBatch) -> int:
    """Tokens whose logits are computed in backward, too."""
    text, scored = config.get_text_config(), len(row.score_targets)
    capped = getattr(text, "final_logit_softcapping", None) is not None
    return scored if capped else projected_twice(scored, text.vocab_size)


def attention_flops(config: PretrainedConfig, table: SegmentTable) -> float:
    """Scores and weighted values of all layers, forward."""
    text = config.get_text_config()
    heads, _ = head_counts(config)
    window = getattr(text, "sliding_window", None)
    kinds = getattr(text, "layer_types", None) or [None] * text.num_hidden_layers
    attending = [kind for kind in kinds if kind not in _LINEAR]
    total = 0
    for segment, keys in zip(table.segments, table.sequence_lengths, strict=True):
        whole, near = pairs(segment.query_length, keys, None), pairs(segment.query_length, keys, window)
        total += sum(whole if kind == "full_attention" else near for kind in attending)
    return 4.0 * heads * head_size(config) * total


def pairs(queries: int, keys: int, window: int | None) -> int:
    """Query-key pairs of a causal segment whose queries are its last positions."""
    if window is None or keys <= window:
        return queries * keys - queries * (queries - 1) // 2
    short = max(0, window - (keys - queries))  # queries that see less than a whole window
    return (queries - short) * window + short * (keys - queries) + short * (short + 1) // 2
