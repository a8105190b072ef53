"""Trains on one process or several; writes losses, first gradients, final weights and answers; tests run it.

The global batch of a step is four examples: one on the first rank, three on the second, of different
lengths; a single process packs all four into one row, and so do processes that share rows. LOGO's positions
leap, and its examples have weights and margins. SGD, because AdamW would hide a wrong scale. Several processes run
layers that are recomputed (LongPO) in tiles of the row, the single one whole.
"""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningDataModule, Trainer, seed_everything
from lightning.pytorch.strategies import ModelParallelStrategy
from support.greedy import greedy
from support.preference_data import emphasis_of, groups_for
from support.quiet_cpu import QUIET_CPU
from support.zero3 import all_released, releasing_zero3
from torchdata.stateful_dataloader import StatefulDataLoader

from lit_longpo.batch import PackedBatch, PreferenceBatch, View, Views
from lit_longpo.callbacks import ThroughputCallback
from lit_longpo.engine import pack
from lit_longpo.objectives import DPO, LOGO, LongPO, PreferenceModule, SoLoPO
from lit_longpo.optimization import Optimization
from lit_longpo.policy import LoRA, PolicyConfig, ReferenceConfig, RoPE
from lit_longpo.strategies import (
    AnyDeviceDeepSpeedStrategy,
    SequenceParallelDDPStrategy,
    full_value,
    gathered_state_dict,
)

STEPS = 3
CLIP = 0.5
SHARES = ((0,), (1, 2, 3))
RESULTS = ("losses", "metrics", "gradients", "weights", "answers", "step_tokens", "gradient_norm", "partitioned")
PROMPTS = ((5, 7, 9, 11, 13), (40, 41, 42))

STRATEGIES = {
    "single": lambda: "auto",
    "ddp": lambda: "ddp",
    "fsdp2": lambda: ModelParallelStrategy(data_parallel_size=2, tensor_parallel_size=1, process_group_backend="gloo"),
    "zero1": partial(AnyDeviceDeepSpeedStrategy, stage=1),
    "zero2": partial(AnyDeviceDeepSpeedStrategy, stage=2),
    "zero3": releasing_zero3,
    "zero3_offload": partial(releasing_zero3, offload_optimizer=True),
    "ulysses": SequenceParallelDDPStrategy,
    "ulysses_twice": SequenceParallelDDPStrategy,
    "ulysses_zero2": partial(AnyDeviceDeepSpeedStrategy, stage=2, sequence_parallel=2),
    "ulysses_zero3": partial(releasing_zero3, sequence_parallel=2),
}
DEVICES = {"single": 1, "ulysses_twice": 4}
OBJECTIVES = {
    "solopo": partial(SoLoPO, base=DPO(beta=0.5)),
    "longpo": partial(LongPO, pref_weight=1.0),
    "logo": partial(LOGO, beta=2.0, gamma=0.5, num_rejected=1),
    "another reference": partial(DPO, beta=0.5),
    "online": partial(SoLoPO, base=DPO(beta=0.5), reference=ReferenceConfig(mode="online")),
}


class Uneven(LightningDataModule):
    """Four examples a step; each rank gets its share."""

    def __init__(self, views: Views, *, jump: bool) -> None:
        super().__init__()
        self.views, self.jump = views, jump

    def _row(self, step: int, views: tuple[View, ...], *, sequence: bool) -> PackedBatch:
        assert self.trainer is not None
        ranks = self.trainer.distributed_sampler_kwargs or {"num_replicas": 1, "rank": 0}
        shares = SHARES if ranks["num_replicas"] == 1 else [SHARES[ranks["rank"]]]
        numbers = [4 * step + n for share in shares for n in share]
        return pack([g for n in numbers for g in groups_for(n, views, sequence=sequence, jump=self.jump)])

    def _rows(self) -> list[PreferenceBatch]:
        made = []
        for step in range(STEPS):
            policy = self._row(step, self.views.policy, sequence=bool(self.views.sequence))
            reference = self._row(step, self.views.reference, sequence=False) if self.views.reference else None
            own = emphasis_of(policy.examples) if self.jump else (None, None)
            made.append(PreferenceBatch(policy, reference, *own))
        return made

    def train_dataloader(self) -> StatefulDataLoader:
        return StatefulDataLoader(self._rows(), batch_size=None)

    def reference_dataloader(self) -> Iterable[PackedBatch]:
        return [row.reference for row in self._rows() if row.reference is not None]


class Record(Callback):
    """Global losses of every step, gradients of the first, final weights, and what the final policy generates."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.metrics: list[dict[str, float]] = []
        self.gradients: dict[str, torch.Tensor] = {}
        self.weights: dict[str, torch.Tensor] = {}
        self.answers: list[list[int]] = []
        self.step_tokens = 0.0
        self.gradient_norm = 0.0
        self.partitioned = True

    def on_train_start(self, trainer: Trainer, module: PreferenceModule) -> None:
        self._look(trainer, module)  # after the probe and the reference pass

    def on_train_batch_start(self, trainer: Trainer, module: PreferenceModule, *_: object) -> None:
        self._look(trainer, module)

    def on_before_optimizer_step(self, trainer: Trainer, module: PreferenceModule, *_: object) -> None:
        if not self.gradients:
            trained = [(name, part) for name, part in module.model.named_parameters() if part.requires_grad]
            self.gradients = {name: gradient(parameter) for name, parameter in trained}
            squares = [value.double().square().sum() for value in self.gradients.values()]
            self.gradient_norm = float(torch.stack(squares).sum().sqrt())

    def on_train_batch_end(self, trainer: Trainer, module: PreferenceModule, *_: object) -> None:
        seen = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("train/")}
        self.losses.append(seen.pop("train/loss"))
        self.metrics.append(seen)

    def on_train_end(self, trainer: Trainer, module: PreferenceModule) -> None:
        self._look(trainer, module)
        self.weights = gathered_state_dict(module.model, keep=True)
        seen = trainer.callback_metrics
        self.step_tokens = float(seen["perf/tokens_per_second"] * seen["perf/step_seconds"])
        self.answers = greedy(module.model, PROMPTS, max_new_tokens=6, eos_token_id=2)

    def _look(self, trainer: Trainer, module: PreferenceModule) -> None:
        if isinstance(trainer.strategy, AnyDeviceDeepSpeedStrategy) and trainer.strategy.zero_stage_3:
            self.partitioned = self.partitioned and all_released(module.model)


def gradient(parameter: torch.nn.Parameter) -> torch.Tensor:
    """The whole gradient, before clipping."""
    if hasattr(parameter, "ds_id") or hasattr(parameter, "_hp_mapping"):
        from deepspeed.utils import safe_get_full_grad

        return safe_get_full_grad(parameter).clone()
    return full_value(parameter.grad).clone()


def train(
    strategy: str,
    objective: str,
    folder: str,
    out: Path,
    dtype: str = "float32",
    precision: str = "32-true",
    tile_tokens: int | None = 5,
    lora: LoRA | None = None,
) -> Record:
    seed_everything(0, verbose=False)
    sgd = Optimization(partial(torch.optim.SGD, lr=0.5), schedule="constant", warmup_fraction=0.0)
    recomputed = objective == "longpo"
    tiles = tile_tokens if recomputed and strategy != "single" else None
    policy = PolicyConfig(source=folder, gradient_checkpointing=recomputed, tile_tokens=tiles, dtype=dtype, lora=lora)
    options = {}
    if objective == "another reference":  # another function of the same tokens
        options["reference"] = ReferenceConfig(policy=PolicyConfig(source=folder, dtype=dtype, rope=RoPE(theta=500.0)))
    module, record = OBJECTIVES[objective](policy=policy, optimization=sgd, **options), Record()
    trainer = Trainer(
        max_epochs=1,
        **QUIET_CPU,
        devices=DEVICES.get(strategy, 2),
        strategy=STRATEGIES[strategy](),
        gradient_clip_val=CLIP,
        precision=precision,
        enable_checkpointing=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        default_root_dir=out.parent / strategy / objective,
        callbacks=[record, ThroughputCallback(every_n_steps=STEPS)],
    )
    trainer.fit(module, datamodule=Uneven(module.views, jump=objective == "logo"))
    trainer.strategy.barrier()
    if trainer.is_global_zero:
        torch.save({name: getattr(record, name) for name in RESULTS}, f"{out}.{objective}")
    trainer.strategy.barrier()
    return record


def objectives(strategy: str) -> list[str]:
    """What a strategy trains.

    The reference of another model concerns ZeRO-3, which would split it too; an online one is a copy of the policy,
    which has to be whole.
    """
    left_out = set()
    if strategy not in ("single", "zero3"):
        left_out.add("another reference")
    if strategy == "fsdp2" or "zero3" in strategy:
        left_out.add("online")
    return [name for name in OBJECTIVES if name not in left_out]


def train_all(strategy: str, folder: str, out: Path) -> None:
    """With every objective; the results of one are in OUT.OBJECTIVE."""
    for name in objectives(strategy):
        train(strategy, name, folder, out)


def train_counting_gathers(folder: str, out: Path) -> None:
    """With ZeRO-3, LongPO in whole rows and in tiles; writes how many numbers of weights a rank got in all steps."""
    from deepspeed.runtime.zero import partition_parameters

    gather, got, counts = partition_parameters._dist_allgather_fn, [0], {}

    def counted(part: torch.Tensor, whole: torch.Tensor, group: object = None) -> object:
        got[0] += whole.numel()
        return gather(part, whole, group)

    partition_parameters._dist_allgather_fn = counted
    Record.on_train_start = lambda *_: got.__setitem__(0, 0)
    Record.on_train_end = lambda *_: counts.__setitem__(str(tile_tokens), got[0])
    for tile_tokens in (None, 5):
        train("zero3", "longpo", folder, out, tile_tokens=tile_tokens)
    torch.save(counts, out)


def train_first_mlp(strategy: str, folder: str, out: Path) -> None:
    """LongPO with adapters in the first layer's MLP only, whose input needs no gradient."""
    train(strategy, "longpo", folder, out, lora=LoRA(r=2, target_modules=r".*layers\.0\.mlp\..*_proj"))
