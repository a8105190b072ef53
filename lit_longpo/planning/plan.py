"""Works out everything that a plan prints, from a configuration."""

from dataclasses import dataclass, replace

from transformers import PretrainedConfig

from lit_longpo.engine.log_probs import TILE_BYTES
from lit_longpo.engine.ulysses.degrees import degrees_of, head_counts, head_size
from lit_longpo.planning.conflicts import conflicts
from lit_longpo.planning.flops import Flops, row_flops
from lit_longpo.planning.inputs.architecture import find_config
from lit_longpo.planning.inputs.configuration import Configuration
from lit_longpo.planning.inputs.row import RowPlan
from lit_longpo.planning.memory import TRACED, ActivationMode, Memory
from lit_longpo.planning.planner import Planner, chosen_mode, reference_model
from lit_longpo.planning.reference_pass import ReferencePass, reference_pass
from lit_longpo.planning.sizes import ModelSizes

GIB = 2**30


@dataclass(frozen=True)
class Plan:
    """The predicted costs of a run.

    Args:
        architecture: where the architecture came from.
        mode: what the configuration does with activations.
        memory: per device, by what could be done with activations.
        flops: of the row, in the configuration's mode, with the pass of an online reference.
        kv_copies: bytes of one layer's gathered keys and values beyond the row's own.
        head_tile: bytes of one tile of logits.
        layer_tile: tokens that a layer's MLP and norms treat at a time, in the configuration's mode; `None` means all.
        longest_context: tokens of the longest prompt that fits, by mode.
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
    again = TRACED[mode] or planner.alone is not None  # every sequence is recomputed in backward
    work = row_flops(config, planner.sizes, packed, checkpointing=again)
    return Plan(
        configuration=run,
        config=config,
        architecture=where,
        sizes=planner.sizes,
        row=row,
        mode=mode,
        memory={name: planner.memory(row, name) for name in TRACED},
        flops=work.beside(_online_pass(run, config, planner.sizes, row)),
        kv_copies=0 if planner.alone else _kv_copies(config, row, run),
        head_tile=_head_tile(text.vocab_size, len(packed.score_targets)),
        layer_tile=planner.layer_tile(row, mode),
        longest_context={name: planner.longest_context(row, name) for name in TRACED},
        degrees=degrees_of(config, run.sharding.world_size),
        warnings=warnings,
        alone=planner.alone,
        reference_pass=_cached_pass(run, config, planner, planner.reference_row(row, mode)),
    )


def _computed(row: RowPlan, alone: str | None) -> RowPlan:
    """The row as it is computed, with a prompt for every response if each sequence is scored alone."""
    return row if alone is None else replace(row, prefix_sharing=False)


def _online_pass(run: Configuration, config: PretrainedConfig, sizes: ModelSizes, row: RowPlan) -> float:
    """FLOPs of scoring the reference's row in every step; 0 if that was done before the first one."""
    packed = row.reference_row() if run.reference.mode == "online" else None
    if packed is None:
        return 0.0
    if run.reference.policy is not None:
        config, sizes = reference_model(run.reference.policy)
    return row_flops(config, sizes, packed, checkpointing=False).forward


def _cached_pass(run: Configuration, config: PretrainedConfig, planner: Planner, row: RowPlan) -> ReferencePass | None:
    """The reference's pass before the first step; `None` without one."""
    if run.reference.mode == "online" or not run.objective.views.reference:
        return None
    found = (config, planner.sizes) if run.reference.policy is None else reference_model(run.reference.policy)
    return reference_pass(run, row, *found)


def _kv_copies(config: PretrainedConfig, row: RowPlan, run: Configuration) -> int:
    """Keys and values of all segments but for the row's own, in one layer on one device."""
    degree, (_, kv_heads) = run.sharding.sequence_parallel, head_counts(config)
    table = row.divided(degree).policy_row().table
    keys = sum(table.sequence_lengths)
    width = 2 * max(kv_heads, degree) * head_size(config) * (run.autocast or run.dtype).itemsize
    return (keys - table.num_tokens) * width


def _head_tile(vocabulary: int, scored: int) -> int:
    """One fp32 tile of logits, see `engine.log_probs`."""
    rows = max(1, TILE_BYTES // (4 * vocabulary))
    return 4 * vocabulary * min(rows, scored)
