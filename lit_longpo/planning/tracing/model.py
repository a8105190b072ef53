"""The model that a plan is for, built on the meta device: whole, or with as many layers as a trace takes."""

import copy
from collections import Counter
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from lit_longpo.engine import PREFIX_SHARED
from lit_longpo.engine.attention import exact_attention
from lit_longpo.engine.decoder import decoder_layers, decoder_of
from lit_longpo.engine.layers import STATE_LAYERS, layer_kinds, model_class
from lit_longpo.engine.sequential.own_logits import use_own_logits
from lit_longpo.engine.sequential.sequences import score_sequentially
from lit_longpo.engine.tiling.tile_lengths import TileTokens, chosen_tile, mlp_sizes
from lit_longpo.engine.tiling.tiled_layers import tile_layers
from lit_longpo.planning.tracing.stand_ins.flash import PLANNED_FLASH, register
from lit_longpo.policy import LoRA, Quantization
from lit_longpo.policy.adapters.lora import add_adapters
from lit_longpo.policy.checkpointing import Checkpointing, enable_checkpointing, recomputes_all
from lit_longpo.policy.weights import freeze_weights
from lit_longpo.policy.weights.quantization import quantizable
from lit_longpo.policy.weights.unread import freeze_unread

Depth = int | tuple[str, ...]  # how many layers, or of which kinds

register()


@dataclass(frozen=True)
class ModelPlan:
    """How the policy is built.

    Args:
        flash: whether a flash kernel attends (GPU, half precision), or torch's sdpa.
        autocast: precision of the products where it differs from the weights' ("bf16-mixed").
        converted: whether a plugin casts the finished model, adapters included, to `dtype` ("bf16-true").
        quantization: how linear maps are quantised; their products are traced whole.
        router_loss: whether the loss of routed experts is trained too.
        train_only: names of what is trained without adapters; counted, and traced as if everything were.
        frozen: names of what is not.
        sequential: whether rows are scored one sequence at a time.
        own_logits: whether that is by whole logits, as the head is one that the engine does not know.
        tile_tokens: `policy.tile_tokens`; traces are of a number or of whole rows.
        on_cpu: whether rows are computed on a CPU, where tiles may be faster.
        gathers: whether shared keys are copied for every segment: on a GPU without a flash kernel.
    """

    config: PretrainedConfig
    dtype: torch.dtype
    lora: LoRA | None = None
    flash: bool = False
    autocast: torch.dtype | None = None
    converted: bool = False
    quantization: Quantization | None = None
    router_loss: bool = False
    train_only: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()
    sequential: bool = False
    own_logits: bool = False
    tile_tokens: TileTokens = None
    on_cpu: bool = False
    gathers: bool = False

    def tile_of(self, num_tokens: int, checkpointing: Checkpointing) -> int | None:
        """Tokens of a tile in a row of so many; `None` if its layers are run whole.

        `checkpointing` is `True` where there is no backward.
        """
        if self.tile_tokens != "auto":
            return self.tile_tokens
        is_quick = self.on_cpu and checkpointing == "keep_attention"
        itemsize = (self.autocast or self.dtype).itemsize if is_quick else None
        sizes = mlp_sizes(self.config)
        recomputed = recomputes_all(checkpointing)
        return chosen_tile(num_tokens, sizes, recomputed=recomputed, quick=itemsize, on_cpu=self.on_cpu)

    def build(self, layers: Depth | None = None, *, checkpointing: Checkpointing = False) -> nn.Module:
        """The policy with as many layers (all by default) or with these kinds of layers, on the meta device."""
        config = shallow(self.config, layers) if isinstance(layers, int) else self.config
        attention = PLANNED_FLASH if self.flash else PREFIX_SHARED
        if (self.sequential or layers is None) and (found := model_class(config)) is not None:
            attention = exact_attention(found, config)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, dtype=self.dtype, attn_implementation=attention)
            if self.sequential:
                score_sequentially(model, PREFIX_SHARED)
                use_own_logits(model, self.own_logits)
            if isinstance(layers, tuple):
                _keep_kinds(model, layers)
            if layers is None:
                freeze_weights(model, self.train_only, self.frozen)
            else:
                tile_layers(model, self.tile_tokens, recomputed=recomputes_all(checkpointing))
            if checkpointing:
                enable_checkpointing(model, checkpointing)
            if self.quantization:
                for linear in quantizable(model):
                    cast(Any, linear.weight).quantized_as = self.quantization
            wrapped: nn.Module = model if self.lora is None else add_adapters(model, self.lora)
            if layers is None:
                freeze_unread(wrapped)
        return (wrapped.to(self.dtype) if self.converted else wrapped).train()


def _keep_kinds(model: PreTrainedModel, kinds: tuple[str, ...]) -> None:
    """Leave one layer of each of the kinds, in this order; the configurations of hybrids cannot say that."""
    decoder = decoder_of(model)
    layers, all_kinds = decoder_layers(decoder), layer_kinds(model.config.get_text_config())
    left = list(zip(all_kinds, layers, strict=True))
    chosen = [left.pop(next(i for i, (kind, _) in enumerate(left) if kind == wanted))[1] for wanted in kinds]
    name = next(name for name, child in decoder.named_children() if child is layers)
    setattr(decoder, name, nn.ModuleList(chosen))


def hybrid_kinds(config: PretrainedConfig) -> Counter[str]:
    """How many layers of each kind, the most common first; empty for models whose layers carry no state."""
    kinds = Counter(layer_kinds(config.get_text_config()))
    return Counter(dict(kinds.most_common())) if set(kinds) & STATE_LAYERS else Counter()


def shallow(config: PretrainedConfig, layers: int) -> PretrainedConfig:
    """The configuration with fewer layers; of several kinds, those with full attention first.

    A model of one layer gets a second one like its first: what a further layer takes is asked of all models.
    """
    small = copy.deepcopy(config)
    text = small.get_text_config()
    for name, values in list(vars(text).items()):
        if "layer" in name and isinstance(values, list) and len(values) == text.num_hidden_layers < layers:
            setattr(text, name, values + values[-1:] * (layers - len(values)))
    kinds = getattr(text, "layer_types", None)
    text.num_hidden_layers = layers
    if kinds:
        text.layer_types = sorted(kinds, key=lambda kind: kind != "full_attention")[:layers]
    return small
