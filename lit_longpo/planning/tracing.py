"""What one step of a shallow model keeps and borrows, traced on fake tensors.

The engine's own code runs, forward and backward, on tensors that have shapes and no values. So a figure holds
for any architecture, adapter, precision and row, and nothing has to be kept in step with other people's layers.
Every gradient is dropped as soon as it is made: what is left are the activations.
"""

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DynamicOutputShapeException, FakeTensorMode
from transformers import AutoModelForCausalLM, PretrainedConfig

from lit_longpo.batch import PackedBatch
from lit_longpo.engine import PREFIX_SHARED, base_model
from lit_longpo.engine.flash import make_plan
from lit_longpo.engine.head import tiled_head
from lit_longpo.engine.scoring import logit_transform
from lit_longpo.planning.flash_stand_in import PLANNED_FLASH, register
from lit_longpo.planning.live_bytes import LiveBytes
from lit_longpo.planning.rows import RowPlan
from lit_longpo.policy.checkpointing import Checkpointing, enable_checkpointing
from lit_longpo.policy.loading import LoRA, add_adapters

register()


@dataclass(frozen=True)
class ModelPlan:
    """How the policy is built.

    Args:
        config: its architecture.
        dtype: precision of the weights.
        lora: adapters.
        flash: whether a flash kernel attends (GPU, half precision), or torch's sdpa.
        autocast: precision of the products where it differs from the weights' ("bf16-mixed").
        converted: whether a plugin casts the finished model, adapters included, to `dtype` ("bf16-true").
    """

    config: PretrainedConfig
    dtype: torch.dtype
    lora: LoRA | None = None
    flash: bool = False
    autocast: torch.dtype | None = None
    converted: bool = False

    def build(self, layers: int | None = None, *, checkpointing: Checkpointing = False) -> nn.Module:
        """The policy with as many layers (all by default), on the meta device."""
        attention = PLANNED_FLASH if self.flash else PREFIX_SHARED
        config = self.config if layers is None else shallow(self.config, layers)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, dtype=self.dtype, attn_implementation=attention)
            if checkpointing:
                enable_checkpointing(model, checkpointing)
            wrapped: nn.Module = model if self.lora is None else add_adapters(model, self.lora)
        return (wrapped.to(self.dtype) if self.converted else wrapped).train()


@dataclass(frozen=True)
class Trace:
    """Bytes of activations in one forward and backward pass; parameters and finished gradients are left out.

    Args:
        kept: what autograd holds between forward and backward.
        decoder_forward: peak until the last hidden states are there.
        head_forward: peak while the scored tokens go through the head.
        head_backward: peak in the head's backward, its weight gradient included.
        layers_backward: peak from there to the embeddings.
        embedding_backward: peak after the last layer.
    """

    kept: int
    decoder_forward: int
    head_forward: int
    head_backward: int
    layers_backward: int
    embedding_backward: int


def trace_step(plan: ModelPlan, row: RowPlan, layers: int, *, checkpointing: Checkpointing) -> Trace:
    """Forward and backward over the policy's row with a model of so many layers.

    Raises:
        ValueError: shapes inside the model depend on values, as those of routed experts do.
    """
    on_meta = plan.build(layers, checkpointing=checkpointing)
    with _fake(plan):
        model = _materialised(on_meta)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(_drop)
        batch = row.policy_row()
        with LiveBytes() as memory:
            return _trace(model, batch, memory, _autocast(plan))


def trace_forward(plan: ModelPlan, row: RowPlan, layers: int) -> int:
    """Peak bytes of scoring the reference's row without gradients; 0 if there is none."""
    on_meta = plan.build(layers)
    with _fake(plan), torch.no_grad(), LiveBytes() as memory:
        model, batch = _materialised(on_meta), row.reference_row()
        if batch is None:
            return 0
        for tensor in (*model.parameters(), *model.buffers()):
            memory.add(tensor)
        start = memory.live
        memory.restart()
        with _autocast(plan):
            _log_probs(model, _hidden(model, batch), batch)
        return memory.peak - start


def shallow(config: PretrainedConfig, layers: int) -> PretrainedConfig:
    """The configuration with fewer layers; of several kinds, those with full attention first."""
    small = copy.deepcopy(config)
    text = small.get_text_config()
    kinds = getattr(text, "layer_types", None)
    text.num_hidden_layers = layers
    if kinds:
        text.layer_types = sorted(kinds, key=lambda kind: kind != "full_attention")[:layers]
    return small


def _trace(model: nn.Module, row: PackedBatch, memory: LiveBytes, autocast: AbstractContextManager[object]) -> Trace:
    for tensor in (*model.parameters(), *model.buffers()):
        memory.add(tensor)
    start = memory.live
    marks = dict[str, int]()

    def mark(name: str) -> None:
        marks[name] = memory.restart() - start

    with autocast:
        hidden = _hidden(model, row, lambda _: mark("layers_backward"))
        mark("decoder_forward")
        hidden.register_hook(lambda _: mark("head_backward"))
        log_probs = _log_probs(model, hidden, row)
        del hidden
        mark("head_forward")
    kept = memory.live - start
    log_probs.sum().backward()
    mark("embedding_backward")
    return Trace(kept=kept, **marks)


def _hidden(model: nn.Module, row: PackedBatch, embedded: object = None) -> Tensor:
    """Last hidden states; `embedded` is called in backward, when the embeddings' gradient is there."""
    base = base_model(model)

    def watch(module: nn.Module, args: object, output: Tensor) -> None:
        if callable(embedded) and output.requires_grad:
            output.register_hook(embedded)

    handle = base.get_input_embeddings().register_forward_hook(watch)
    try:
        hidden: Tensor = base.get_decoder()(
            input_ids=row.input_ids,
            position_ids=row.position_ids,
            attention_mask=None,
            use_cache=False,
            segment_table=row.table,
        ).last_hidden_state
    finally:
        handle.remove()
    return hidden


def _log_probs(model: nn.Module, hidden: Tensor, row: PackedBatch) -> Tensor:
    base = base_model(model)
    chosen = hidden[0].index_select(0, row.score_index)
    result: Tensor = tiled_head(base)(chosen, row.score_targets, logit_transform(base.config.get_text_config()))
    return result


def _materialised(model: nn.Module) -> nn.Module:
    """Exchange meta parameters and buffers for empty ones on the CPU; tied ones stay tied."""
    made = dict[Tensor, Tensor]()
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            empty = torch.empty(parameter.shape, dtype=parameter.dtype)
            made.setdefault(parameter, nn.Parameter(empty, parameter.requires_grad))
            module.register_parameter(name, cast(nn.Parameter, made[parameter]))
        for name, buffer in module.named_buffers(recurse=False, remove_duplicate=False):
            setattr(module, name, made.setdefault(buffer, torch.empty(buffer.shape, dtype=buffer.dtype)))
    return model


def _drop(parameter: Tensor) -> None:
    parameter.grad = None


def _autocast(plan: ModelPlan) -> AbstractContextManager[object]:
    return nullcontext() if plan.autocast is None else torch.autocast("cpu", plan.autocast)


@contextmanager
def _fake(plan: ModelPlan) -> Iterator[None]:
    """Every tensor that is made inside the block is fake."""
    try:
        with FakeTensorMode():
            yield
    except DynamicOutputShapeException as error:
        raise ValueError(
            f"expected a model whose shapes do not depend on values, got {type(plan.config).__name__}, which picks "
            f"tokens by value ({error.func}); routed experts cannot be planned"
        ) from error
    finally:
        make_plan.cache_clear()  # it has kept fake tensors
