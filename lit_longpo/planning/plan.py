"""From a setting to everything that is printed."""

import copy
from dataclasses import dataclass, replace
from functools import partial

from transformers import PretrainedConfig

from lit_longpo.engine import feasible_degrees
from lit_longpo.engine.degrees import head_counts
from lit_longpo.engine.log_probs import TILE_BYTES
from lit_longpo.planning.activations import Tracer
from lit_longpo.planning.architecture import find_config
from lit_longpo.planning.conflicts import conflicts
from lit_longpo.planning.flops import Flops, row_flops
from lit_longpo.planning.memory import CHECKPOINTING, Memory, Mode, ReferenceBytes, longest, memory
from lit_longpo.planning.rows import RowPlan
from lit_longpo.planning.setting import Setting
from lit_longpo.planning.sizes import Sizes, count
from lit_longpo.planning.states import States, states
from lit_longpo.planning.tracing import ModelPlan
from lit_longpo.policy import PolicyConfig

GIB = 2**30
MODES: tuple[Mode, ...] = tuple(CHECKPOINTING)


@dataclass(frozen=True)
class Plan:
    """What a run takes.

    Args:
        setting: what was asked about.
        config: architecture of the policy.
        architecture: where it came from.
        sizes: of its parameters.
        row: the fullest row.
        mode: what the setting does with activations.
        memory: per device, by what could be done with activations.
        flops: of the row, in the setting's mode, with the pass of an online reference.
        kv_copies: bytes of one layer's gathered keys and values beyond the row's own.
        head_tile: bytes of one tile of logits.
        longest_context: tokens of the longest prompt that fits, by mode.
        degrees: feasible sequence-parallel degrees.
        warnings: see `conflicts`.
    """

    setting: Setting
    config: PretrainedConfig
    architecture: str
    sizes: Sizes
    row: RowPlan
    mode: Mode
    memory: dict[Mode, Memory]
    flops: Flops
    kv_copies: int
    head_tile: int
    longest_context: dict[Mode, int]
    degrees: list[int]
    warnings: list[str]

    @property
    def fits(self) -> bool:
        """Whether the setting's peak is below the device's memory."""
        return self.memory[self.mode].peak <= self.setting.options.device_memory_gib * GIB

    @property
    def rows_per_step(self) -> int:
        """Rows of one optimizer step, over all devices."""
        return self.setting.accumulate * self.setting.sharding.data_parallel

    @property
    def tokens_per_step(self) -> int:
        """Tokens that the policy computes in one optimizer step."""
        return self.rows_per_step * self.row.num_tokens

    @property
    def seconds_per_step(self) -> float | None:
        """At the stated utilisation; `None` if the device's peak was not stated."""
        options = self.setting.options
        if options.device_tflops is None:
            return None
        speed = options.device_tflops * 1e12 * options.mfu * self.setting.sharding.world_size
        return self.rows_per_step * self.flops.model / speed


def make_plan(setting: Setting) -> Plan:
    """Work everything out; only shapes exist, no weight is allocated."""
    config, where = find_config(setting.policy, setting.options.shape)
    warnings = conflicts(setting, config)
    planner = _Planner(setting, config)
    row, mode = setting.row(), chosen_mode(setting)
    packed = row.policy_row()
    text = config.get_text_config()
    work = row_flops(config, planner.sizes, packed, checkpointing=CHECKPOINTING[mode])
    return Plan(
        setting=setting,
        config=config,
        architecture=where,
        sizes=planner.sizes,
        row=row,
        mode=mode,
        memory={name: planner.memory(row, name) for name in MODES},
        flops=work.beside(_online_pass(setting, config, planner.sizes, row)),
        kv_copies=_kv_copies(config, row, setting),
        head_tile=_head_tile(text.vocab_size, len(packed.score_targets)),
        longest_context={name: planner.longest_context(row, name) for name in MODES},
        degrees=feasible_degrees(*head_counts(config), setting.sharding.world_size),
        warnings=warnings,
    )


def chosen_mode(setting: Setting) -> Mode:
    """What the setting does with activations; without a GPU there is nowhere to offload them to."""
    wanted = setting.policy.gradient_checkpointing
    if wanted == "keep_attention" or (wanted == "offload" and setting.on_gpu):
        return wanted
    return "recompute" if wanted else "none"


class _Planner:
    """Keeps what is the same for all rows."""

    def __init__(self, setting: Setting, config: PretrainedConfig) -> None:
        self.setting = setting
        model = ModelPlan(
            config, setting.dtype, setting.policy.lora, setting.flash, setting.autocast, converted=setting.converted
        )
        self.sizes = count(model)
        degree = setting.sharding.sequence_parallel
        self.tracer = Tracer(replace(model, config=with_copied_heads(config, degree)))
        self.states: States = states(self.sizes, setting.sharding, setting.optimization.optimizer)
        self.reference = _reference(setting, self.sizes)

    def memory(self, row: RowPlan, mode: Mode) -> Memory:
        """One device's memory with the row."""
        sharding = self.setting.sharding
        part = row.divided(sharding.sequence_parallel)
        borrowed = self.tracer.reference_pass(part) if self.setting.objective.views.reference else 0
        return memory(
            self.states,
            self.tracer.activations(part, checkpointing=CHECKPOINTING[mode]),
            sharding,
            mode=mode,
            accumulates=self.setting.accumulate > 1,
            untied_head_bytes=self.sizes.untied_head_bytes,
            reference=replace(self.reference, borrowed=borrowed),
        )

    def longest_context(self, row: RowPlan, mode: Mode) -> int:
        """Tokens of the longest prompt of a row with one example."""
        room = self.setting.options.device_memory_gib * GIB
        alone = replace(row, num_examples=1)
        return longest(partial(self._fits, alone, mode, room))

    def _fits(self, row: RowPlan, mode: Mode, room: float, tokens: int) -> bool:
        return self.memory(replace(row, long_tokens=tokens), mode).peak <= room


def _reference(setting: Setting, sizes: Sizes) -> ReferenceBytes:
    """A frozen copy's bytes; switched-off adapters need none, `cached` needs another model until it has scored."""
    online, other = setting.reference.mode == "online", setting.reference.policy
    if not setting.objective.views.reference:
        return ReferenceBytes()
    taken = 0 if other is None else _reference_model(other)[1].total_bytes
    if not online:
        return ReferenceBytes(once=taken)
    if other is None and not setting.policy.reference_is_inside:
        taken = sizes.total_bytes
    return ReferenceBytes(taken, online=True)


def _reference_model(policy: PolicyConfig) -> tuple[PretrainedConfig, Sizes]:
    config, _ = find_config(policy, None)
    return config, count(ModelPlan(config, policy.torch_dtype, policy.lora))


def _online_pass(setting: Setting, config: PretrainedConfig, sizes: Sizes, row: RowPlan) -> float:
    """FLOPs of scoring the reference's row in every step; 0 if that was done before the first one."""
    packed = row.reference_row() if setting.reference.mode == "online" else None
    if packed is None:
        return 0.0
    if setting.reference.policy is not None:
        config, sizes = _reference_model(setting.reference.policy)
    return row_flops(config, sizes, packed, checkpointing=False).forward


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


def _kv_copies(config: PretrainedConfig, row: RowPlan, setting: Setting) -> int:
    """Keys and values of all segments but for the row's own, in one layer on one device."""
    text, degree = config.get_text_config(), setting.sharding.sequence_parallel
    heads, kv_heads = head_counts(config)
    size = getattr(text, "head_dim", None) or text.hidden_size // heads
    table = row.divided(degree).policy_row().table
    keys = sum(table.pieces[piece] for segment in table.segments for piece in segment.key_pieces)
    width = 2 * max(kv_heads, degree) * size * (setting.autocast or setting.dtype).itemsize
    return (keys - table.num_tokens) * width


def _head_tile(vocabulary: int, scored: int) -> int:
    """One fp32 tile of logits, see `engine.log_probs`."""
    rows = max(1, TILE_BYTES // (4 * vocabulary))
    return 4 * vocabulary * min(rows, scored)
