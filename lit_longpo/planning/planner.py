"""Adds up what one device holds, for one model under any strategy, row and way to keep activations."""

import copy
from dataclasses import replace

from transformers import PretrainedConfig

from lit_longpo.engine.ulysses.degrees import head_counts
from lit_longpo.planning.inputs.architecture import find_config
from lit_longpo.planning.inputs.configuration import Configuration
from lit_longpo.planning.inputs.row import RowPlan
from lit_longpo.planning.memory import (
    TRACED,
    ActivationMode,
    Memory,
    ReferenceBytes,
    States,
    longest,
    memory,
    states,
)
from lit_longpo.planning.reference_pass import reference_row
from lit_longpo.planning.sizes import ModelSizes, count
from lit_longpo.planning.tracing.activations import Tracer
from lit_longpo.planning.tracing.model import ModelPlan
from lit_longpo.planning.tracing.own_heads import has_own_head
from lit_longpo.planning.tracing.steps import packing_problem
from lit_longpo.policy import PolicyConfig


def chosen_mode(run: Configuration) -> ActivationMode:
    """What the configuration does with activations; without a GPU there is nowhere to offload them to."""
    wanted = run.policy.gradient_checkpointing
    if wanted == "keep_attention" or (wanted == "offload" and run.on_gpu):
        return wanted
    return "recompute" if wanted else "none"


class Planner:
    """Adds up memory; keeps what is the same for all rows."""

    def __init__(self, run: Configuration, config: PretrainedConfig) -> None:
        self.run = run
        model = ModelPlan(
            config,
            run.dtype,
            run.policy.trained_lora,
            run.flash,
            run.autocast,
            converted=run.converted,
            quantization=run.policy.quantized,
            router_loss=run.optimization.router_loss != 0,
            train_only=tuple(run.policy.train_only),
            frozen=tuple(run.policy.freeze),
            tile_tokens=run.policy.tile_tokens,
            on_cpu=not run.on_gpu,
            gathers=run.on_gpu and not run.flash,
        )
        self.sizes = count(model)
        self.layers = int(config.get_text_config().num_hidden_layers)
        self.alone = packing_problem(model)
        if own := has_own_head(model):
            self.alone = "its head does more than multiply by a weight, so the model's own logits are scored"
        model = replace(model, sequential=self.alone is not None, own_logits=own)
        degree = run.sharding.sequence_parallel
        self.tracer = Tracer(replace(model, config=with_copied_heads(config, degree)))
        self.states: States = states(self.sizes, run.sharding, run.optimization.optimizer, pages=run.on_gpu)
        self.reference = _reference(run, self.sizes)

    def beside(self, run: Configuration) -> "Planner":
        """For the same model under another strategy, optimizer or checkpointing; what was traced serves both."""
        other = copy.copy(self)
        other.run, other.reference = run, _reference(run, self.sizes)
        other.states = states(self.sizes, run.sharding, run.optimization.optimizer, pages=run.on_gpu)
        return other

    def sharing_rows(self, run: Configuration) -> "Planner":
        """For another number of ranks to a row, or checkpointing, under the same strategy and optimizer."""
        other = copy.copy(self)
        other.run = run
        return other

    def one_layer(self, row: RowPlan, mode: ActivationMode) -> tuple[int, int]:
        """Peak bytes of one layer's activations over a device's part of a row: added up, and traced as it is."""
        return self.tracer.one_layer(row, checkpointing=TRACED[mode])

    def memory(self, row: RowPlan, mode: ActivationMode) -> Memory:
        """One device's memory with the row."""
        sharding = self.run.sharding
        part = row.divided(sharding.sequence_parallel)
        scored = self.reference_row(row, mode).divided(sharding.sequence_parallel)
        borrowed = self.tracer.reference_pass(scored) if self.run.objective.views.reference else 0
        return memory(
            self.states,
            self.tracer.activations(part, checkpointing=TRACED[mode]),
            sharding,
            mode=mode,
            accumulates=self.run.accumulate > 1,
            untied_head_bytes=self.sizes.untied_head_bytes,
            reference=replace(self.reference, borrowed=borrowed),
        )

    def reference_row(self, row: RowPlan, mode: ActivationMode) -> RowPlan:
        """The examples that the reference scores at once."""
        return reference_row(self.run, row, self.layers, mode)

    def layer_tile(self, row: RowPlan, mode: ActivationMode) -> int | None:
        """Tokens of a tile of layers; `None` if they are run whole."""
        part = row.divided(self.run.sharding.sequence_parallel)
        size = self.tracer.tile_of(part, TRACED[mode])
        return None if size is None or size >= part.num_tokens else size

    def longest_context(self, row: RowPlan, mode: ActivationMode) -> int:
        """Tokens of the longest prompt of a row with one example."""
        alone = replace(row, num_examples=1)
        return longest(lambda tokens: self.run.has_room(self.memory(replace(alone, long_tokens=tokens), mode)))


def _reference(run: Configuration, sizes: ModelSizes) -> ReferenceBytes:
    """A frozen copy's bytes, of what is trained; new adapters need none, `cached` another model until it has scored."""
    online, other = run.reference.mode == "online", run.reference.policy
    if not run.objective.views.reference:
        return ReferenceBytes()
    taken = 0 if other is None else reference_model(other)[1].total_bytes
    if not online:
        return ReferenceBytes(once=taken)
    if other is None and not run.policy.reference_is_inside:
        trained = sum(dtype.itemsize * number for dtype, number in sizes.trained.items())
        taken = sizes.total_bytes if run.policy.trains_everything else trained
    return ReferenceBytes(taken, online=True)


def reference_model(policy: PolicyConfig) -> tuple[PretrainedConfig, ModelSizes]:
    """Architecture and sizes of a reference of its own."""
    config, _ = find_config(policy, None)
    return config, count(ModelPlan(config, policy.torch_dtype, quantization=policy.quantized))


def with_copied_heads(config: PretrainedConfig, degree: int) -> PretrainedConfig:
    """The architecture whose every rank attends with a key/value head of its own, as ranks do that share a row.

    Where there are fewer of these heads than ranks, a rank's attention holds a copy of one over the whole row.
    """
    heads, kv_heads = head_counts(config)
    if degree <= kv_heads or heads % degree:
        return config
    copied = copy.deepcopy(config)
    copied.get_text_config().num_key_value_heads = degree
    return copied
