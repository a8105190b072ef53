"""What one step of a shallow model keeps and borrows, traced on fake tensors.

The engine's own code runs, forward and backward, on tensors that have shapes and no values. So a figure holds
for any architecture, adapter, precision and row, and nothing has to be kept in step with other people's layers.
Every gradient is dropped as soon as it is made: what is left are the activations.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, cast
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from transformers import PreTrainedModel, masking_utils

from lit_longpo.batch import Group, PackedBatch, Response
from lit_longpo.engine import UnsupportedModelError, base_model, pack
from lit_longpo.engine.backends import merged
from lit_longpo.engine.backends.flash import varlen_plan
from lit_longpo.engine.decoder import decoder_of
from lit_longpo.engine.generation.abilities import carries_state
from lit_longpo.engine.routers import recorded_logits
from lit_longpo.engine.scoring import loss_of_routers, row_log_probs
from lit_longpo.engine.startup.probe import packing_cause, packing_rule
from lit_longpo.engine.tiling import tiles
from lit_longpo.errors import InputError
from lit_longpo.live_bytes import LiveBytes
from lit_longpo.planning.inputs.row import RowPlan
from lit_longpo.planning.tracing.model import Depth, ModelPlan, hybrid_kinds
from lit_longpo.planning.tracing.stand_ins.experts import planned_products
from lit_longpo.planning.tracing.stand_ins.scan import planned_scans
from lit_longpo.planning.tracing.stand_ins.window import planned_windows
from lit_longpo.policy.checkpointing import Checkpointing


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


def trace_step(plan: ModelPlan, row: RowPlan, layers: Depth, *, checkpointing: Checkpointing) -> Trace:
    """Forward and backward over the policy's row with a model of so many layers, or of such.

    Raises:
        InputError: shapes inside the model depend on values, as those of routed experts do.
    """
    on_meta, packed = plan.build(layers, checkpointing=checkpointing), _policy_row(row)
    with planned_scans(on_meta), fake(plan):
        model = materialised(on_meta)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(_drop)
        batch = _without_values(packed)
        with LiveBytes() as memory, planned_windows(memory):
            return _trace(model, batch, memory, plan)


def trace_forward(plan: ModelPlan, row: RowPlan, layers: Depth) -> int:
    """Peak bytes of scoring the reference's row without gradients; 0 if there is none."""
    packed = _reference_row(row)
    if packed is None:
        return 0
    on_meta = plan.build(layers)
    with planned_scans(on_meta), fake(plan), torch.no_grad(), LiveBytes() as memory, planned_windows(memory):
        model, batch = materialised(on_meta), _without_values(packed)
        for tensor in (*model.parameters(), *model.buffers(), batch.input_ids):
            memory.add(tensor)
        start = memory.live
        memory.restart()
        with _autocast(plan):
            row_log_probs(model, batch)
        return memory.peak - start


@lru_cache(maxsize=8)
def _policy_row(row: RowPlan) -> PackedBatch:
    """Packed once for all models; packing looks at every token."""
    return row.policy_row()


@lru_cache(maxsize=8)
def _reference_row(row: RowPlan) -> PackedBatch | None:
    return row.reference_row()


def _without_values(row: PackedBatch) -> PackedBatch:
    """The row on tensors of the mode that is on."""
    tensors = {name: value for name, value in vars(row).items() if isinstance(value, Tensor)}
    empty: dict[str, Any] = {name: torch.empty(value.shape, dtype=value.dtype) for name, value in tensors.items()}
    return replace(row, **empty)


def packing_problem(plan: ModelPlan) -> str | None:
    """Why the policy's rows are not packed, as far as shapes can tell; `None` if they may be.

    Raises:
        InputError: a row that is not packed would be traced token by token.
    """
    base = base_model(plan.build())
    if (cause := packing_rule(base)) is not None:
        if carries_state(base):
            raise InputError(
                f"expected a model whose memory can be planned, got {type(base).__name__}, which `fit` scores one "
                f"sequence at a time ({cause}) and whose layers go token by token; to measure it, type fit "
                "--trainer.max_steps 1"
            )
        return cause
    tokens = Group("a", "long", (0, 0), (Response("chosen", (0,), (True,)),))
    kinds = tuple(hybrid_kinds(plan.config))
    on_meta = plan.build(kinds or 1)
    try:
        with planned_scans(on_meta), fake(plan), torch.no_grad():
            row_log_probs(materialised(on_meta), pack([tokens]))
    except UnsupportedModelError as refused:
        return packing_cause(refused)
    return None


def _trace(model: nn.Module, row: PackedBatch, memory: LiveBytes, plan: ModelPlan) -> Trace:
    for tensor in (*model.parameters(), *model.buffers(), row.input_ids):
        memory.add(tensor)
    start = memory.live
    marks = dict[str, int]()

    def mark(name: str) -> None:  # one sequence at a time comes by several times
        marks[name] = max(memory.restart() - start, marks.get(name, 0))

    def embedded(module: nn.Module, args: object, output: Tensor) -> None:
        if output.requires_grad:
            output.register_hook(lambda _: mark("layers_backward"))

    def decoded(module: nn.Module, args: object, output: Any) -> None:
        if "head_forward" in marks:  # a sequence that is recomputed: part of its layers' backward
            return
        mark("decoder_forward")
        output.last_hidden_state.register_hook(lambda _: mark("head_backward"))

    base = base_model(model)
    base.get_input_embeddings().register_forward_hook(embedded)
    decoder_of(base).register_forward_hook(decoded)
    with _autocast(plan):
        loss = _loss(base, model, row) if plan.router_loss else row_log_probs(model, row).sum()
    mark("head_forward")  # autocast's copies of weights are gone
    kept = memory.live - start
    loss.backward()
    mark("embedding_backward")
    return Trace(kept=kept, **marks)


def _loss(base: PreTrainedModel, model: nn.Module, row: PackedBatch) -> Tensor:
    with recorded_logits(base) as logits:
        log_probs = row_log_probs(model, row)
    return log_probs.sum() + loss_of_routers(base, logits, row)


def materialised(model: nn.Module) -> nn.Module:
    """Exchange meta parameters and buffers for empty ones on the CPU; tied ones stay tied."""
    empties = dict[Tensor, Tensor]()
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            empty = torch.empty(parameter.shape, dtype=parameter.dtype)
            empties.setdefault(parameter, nn.Parameter(empty, parameter.requires_grad))
            module.register_parameter(name, cast(nn.Parameter, empties[parameter]))
        for name, buffer in module.named_buffers(recurse=False, remove_duplicate=False):
            setattr(module, name, empties.setdefault(buffer, torch.empty(buffer.shape, dtype=buffer.dtype)))
    return model


def _drop(parameter: Tensor) -> None:
    parameter.grad = None


def _autocast(plan: ModelPlan) -> AbstractContextManager[object]:
    return nullcontext() if plan.autocast is None else torch.autocast("cpu", plan.autocast)


@contextmanager
def fake(plan: ModelPlan) -> Iterator[None]:
    """Every tensor that is made inside the block is fake."""
    try:
        with FakeTensorMode(), planned_products(), _one_sequence_each(), _three_tiles(), _gathered(plan):
            yield
    except (DynamicOutputShapeException, DataDependentOutputException) as error:
        raise InputError(
            f"expected tensors whose sizes do not depend on values, got {type(plan.config).__name__}, which picks "
            f"tokens by their values ({error.func}); leave out `experts_implementation: eager`, by which routed "
            "experts do so"
        ) from error
    finally:
        varlen_plan.cache_clear()  # it has kept fake tensors


def _one_sequence_each() -> AbstractContextManager[object]:
    """Without transformers' look for borders in positions, which ends in a mask on fake tensors only."""
    return patch.object(masking_utils, "find_packed_sequence_indices", lambda position_ids: None)


def _gathered(plan: ModelPlan) -> AbstractContextManager[object]:
    """With keys gathered where the kernels that attend in parts do not run."""
    merges = merged.merges
    return patch.object(merged, "merges", lambda *arguments: not plan.gathers and merges(*arguments))


def _three_tiles() -> AbstractContextManager[object]:
    """Of tiles, of logits and of layers, the first two and the last: all between take and leave what the second does.

    Each holds results of the one before while it runs, so the second may be larger than the first.
    """
    every = tiles.slices

    def few(num_tokens: int, size: int) -> Iterator[slice]:
        parts = list(every(num_tokens, size))
        yield from parts[:2]
        yield from parts[2:][-1:]

    return patch.object(tiles, "slices", few)
