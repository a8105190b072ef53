"""From a configuration to everything that is printed."""

import copy
from dataclasses import dataclass, replace

from transformers import PretrainedConfig

from lit_longpo.engine import feasible_degrees
from lit_longpo.engine.layers import doubts
from lit_longpo.engine.log_probs import TILE_BYTES
from lit_longpo.engine.ulysses.degrees import head_counts
from lit_longpo.planning.activations import Tracer
from lit_longpo.planning.architecture import find_config
from lit_longpo.planning.configuration import Configuration
from lit_longpo.planning.conflicts import conflicts
from lit_longpo.planning.flops import Flops, row_flops
from lit_longpo.planning.memory import (
    CHECKPOINTING,
    ActivationMode,
    Memory,
    ReferenceBytes,
    States,
    longest,
    memory,
    states,
)
from lit_longpo.planning.model import ModelPlan
from lit_longpo.planning.own_heads import has_own_head
from lit_longpo.planning.reference_pass import ReferencePass, reference_pass, reference_row
from lit_longpo.planning.row import RowPlan
from lit_longpo.planning.sizes import ModelSizes, count
from lit_longpo.planning.tracing import packing_problem
from lit_longpo.policy import PolicyConfig

GIB = 2**30
MODES: tuple[ActivationMode, ...] = tuple(CHECKPOINTING)


@dataclass(frozen=True)
class Plan:
    """What a run takes.

    Args:
        configuration: what was asked about.
        config: architecture of the policy.
        architecture: where it came from.
        sizes: of its parameters.
        row: the fullest row.
        mode: what the configuration does with activations.
        memory: per device, by what could be done with activations.
        flops: of the row, in the configuration's mode, with the pass of an online reference.
        kv_copies: bytes of one layer's gathered keys and values beyond the row's own.
        head_tile: bytes of one tile of logits.
        layer_tile: tokens that a layer's MLP and norms treat at a time, in the configuration's mode; `None` means all.
        longest_context: tokens of the longest prompt that fits, by mode.
        degrees: feasible sequence-parallel degrees.
        warnings: see `conflicts`.
        alone: why every response is scored alone, with a prompt of its own; `None` in packed rows.
        reference_pass: before the first step; `None` without a cached reference.
    """

    configuration: Configuration
    config: PretrainedConfig
    architecture: str
    sizes: ModelSizes
    row: RowPlan
    mode: ActivationMode
    memory: dict[ActivationMode, Memory]
    flops: Flops
    kv_copies: int
    head_tile: int
    layer_tile: int | None
    longest_context: dict[ActivationMode, int]
    degrees: list[int]
    warnings: list[str]
    alone: str | None = None
    reference_pass: ReferencePass | None = None

    @property
    def cost_of_alone(self) -> float:
        """How many times the tokens of a packed row are computed."""
        return _computed(self.row, self.alone).num_tokens / self.row.num_tokens

    @property
    def fits(self) -> bool:
        """Whether the peak is below the device's share for it, and the host has room for the rest."""
        return self.configuration.has_room(self.memory[self.mode])

    @property
    def rows_per_step(self) -> int:
        """Rows of one optimizer step, over all devices."""
        return self.configuration.accumulate * self.configuration.sharding.data_parallel

    @property
    def tokens_per_step(self) -> int:
        """Tokens that the policy computes in one optimizer step."""
        return self.rows_per_step * _computed(self.row, self.alone).num_tokens

    @property
    def seconds_per_step(self) -> float | None:
        """At the stated utilisation; `None` if the device's peak was not stated."""
        return None if self.speed is None else self.rows_per_step * self.flops.model / self.speed

    @property
    def speed(self) -> float | None:
        """FLOPs that all devices compute in a second at the stated utilisation; `None` if their peak was not stated."""
        options = self.configuration.options
        if options.device_tflops is None:
            return None
        return options.device_tflops * 1e12 * options.mfu * self.configuration.sharding.world_size

    @property
    def reference_seconds(self) -> float | None:
        """Seconds of the reference's pass, likewise; `None` also if nobody knows how many examples there are."""
        if self.speed is None or self.reference_pass is None:
            return None
        return self.reference_pass.seconds(self.speed)


def make_plan(run: Configuration) -> Plan:
    """Work everything out; only shapes exist, no weight is allocated."""
    config, where = find_config(run.policy, run.options.shape)
    warnings = conflicts(run, config)
    planner = Planner(run, config)
    row, mode = run.row(), chosen_mode(run)
    packed = _computed(row, planner.alone).policy_row()
    text = config.get_text_config()
    again = CHECKPOINTING[mode] or planner.alone is not None  # every sequence is recomputed in backward
    work = row_flops(config, planner.sizes, packed, checkpointing=again)
    return Plan(
        configuration=run,
        config=config,
        architecture=where,
        sizes=planner.sizes,
        row=row,
        mode=mode,
        memory={name: planner.memory(row, name) for name in MODES},
        flops=work.beside(_online_pass(run, config, planner.sizes, row)),
        kv_copies=0 if planner.alone else _kv_copies(config, row, run),
        head_tile=_head_tile(text.vocab_size, len(packed.score_targets)),
        layer_tile=planner.layer_tile(row, mode),
        longest_context={name: planner.longest_context(row, name) for name in MODES},
        degrees=[1] if doubts(config) else feasible_degrees(*head_counts(config), run.sharding.world_size),
        warnings=warnings,
        alone=planner.alone,
        reference_pass=_cached_pass(run, config, planner, planner.reference_row(row, mode)),
    )


def _computed(row: RowPlan, alone: str | None) -> RowPlan:
    """The row as it is computed: a prompt for every response where each is scored alone."""
    return row if alone is None else replace(row, prefix_sharing=False)


def chosen_mode(run: Configuration) -> ActivationMode:
    """What the configuration does with activations; without a GPU there is nowhere to offload them to."""
    wanted = run.policy.gradient_checkpointing
    if wanted == "keep_attention" or (wanted == "offload" and run.on_gpu):
        return wanted
    return "recompute" if wanted else "none"


class Planner:
    """Adds up memory; keeps what is the same for all rows.

    Args:
        run: what was configured.
        config: architecture of the policy.
    """

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
        return self.tracer.one_layer(row, checkpointing=CHECKPOINTING[mode])

    def memory(self, row: RowPlan, mode: ActivationMode) -> Memory:
        """One device's memory with the row."""
        sharding = self.run.sharding
        part = row.divided(sharding.sequence_parallel)
        scored = self.reference_row(row, mode).divided(sharding.sequence_parallel)
        borrowed = self.tracer.reference_pass(scored) if self.run.objective.views.reference else 0
        return memory(
            self.states,
            self.tracer.activations(part, checkpointing=CHECKPOINTING[mode]),
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
        size = self.tracer.tile_of(part, CHECKPOINTING[mode])
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
    taken = 0 if other is None else _reference_model(other)[1].total_bytes
    if not online:
        return ReferenceBytes(once=taken)
    if other is None and not run.policy.reference_is_inside:
        trained = sum(dtype.itemsize * number for dtype, number in sizes.trained.items())
        taken = sizes.total_bytes if run.policy.trains_everything else trained
    return ReferenceBytes(taken, online=True)


def _reference_model(policy: PolicyConfig) -> tuple[PretrainedConfig, ModelSizes]:
    config, _ = find_config(policy, None)
    return config, count(ModelPlan(config, policy.torch_dtype, quantization=policy.quantized))


def _online_pass(run: Configuration, config: PretrainedConfig, sizes: ModelSizes, row: RowPlan) -> float:
    """FLOPs of scoring the reference's row in every step; 0 if that was done before the first one."""
    packed = row.reference_row() if run.reference.mode == "online" else None
    if packed is None:
        return 0.0
    if run.reference.policy is not None:
        config, sizes = _reference_model(run.reference.policy)
    return row_flops(config, sizes, packed, checkpointing=False).forward


def _cached_pass(run: Configuration, config: PretrainedConfig, planner: Planner, row: RowPlan) -> ReferencePass | None:
    """What is scored before the first step."""
    if run.reference.mode == "online" or not run.objective.views.reference:
        return None
    found = (config, planner.sizes) if run.reference.policy is None else _reference_model(run.reference.policy)
    return reference_pass(run, row, *found)


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


def _kv_copies(config: PretrainedConfig, row: RowPlan, run: Configuration) -> int:
    """Keys and values of all segments but for the row's own, in one layer on one device."""
    text, degree = config.get_text_config(), run.sharding.sequence_parallel
    heads, kv_heads = head_counts(config)
    size = getattr(text, "head_dim", None) or text.hidden_size // heads
    table = row.divided(degree).policy_row().table
    keys = sum(table.sequence_lengths)
    width = 2 * max(kv_heads, degree) * size * (run.autocast or run.dtype).itemsize
    return (keys - table.num_tokens) * width


def _head_tile(vocabulary: int, scored: int) -> int:
    """One fp32 tile of logits, see `engine.log_probs`."""
    rows = max(1, TILE_BYTES // (4 * vocabulary))
    return 4 * vocabulary * min(rows, scored)
