"""Our side: the shipped objectives under Lightning's Trainer, on packed rows."""

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
from benchmarks.meter import Meter
from benchmarks.setting import Setting, save_policy
from lightning.pytorch import Callback, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lit_longpo.batch import Group, PackedBatch, PreferenceBatch, Response, Scores, View, Views
from lit_longpo.engine import pack
from lit_longpo.engine.layer_kernels import LayerKernels
from lit_longpo.objectives import DPO, ORPO, SFT, SimPO, SoLoPO, dpo_loss
from lit_longpo.objectives.orpo import log_odds
from lit_longpo.optimization import FusedAdamW, Optimization
from lit_longpo.policy import LoRA, PolicyConfig
from lit_longpo.policy.reference.cache import ReferenceCache

_LAYER_KERNELS: dict[str, LayerKernels | None] = {"own": None, "liger": "liger", "compile": "compile"}


class UniformReference(ReferenceCache):
    """A reference that gives every token 1 / vocabulary: no pass to time, and losses that tell models apart."""

    def __init__(self, vocab: int) -> None:
        super().__init__(Path())
        self._log_probability = -float(torch.tensor(float(vocab)).log())

    def scores(self, batch: PackedBatch) -> Scores:
        counts = torch.bincount(batch.score_owners, minlength=len(batch.slots)).float()
        return Scores(sums=counts * self._log_probability, counts=counts, slots=batch.slots)


class _Seeded:
    """The same random weights on every side."""

    uniform: UniformReference

    def configure_model(self) -> None:
        torch.manual_seed(0)
        super().configure_model()  # type: ignore[misc]
        self.reference.cache = self.uniform


class SeededDPO(_Seeded, DPO):
    """DPO on as many pairs as there are pairs of responses."""

    pairs = 1

    @property
    def views(self) -> Views:
        views = (View("long", "chosen"), View("long", "rejected"))
        return Views(policy=views, reference=views, num_rejected=2 * self.pairs - 1)

    def loss(self, policy: Scores, reference: Scores | None) -> tuple[Tensor, dict[str, Tensor]]:
        if self.pairs == 1:
            return super().loss(policy, reference)
        sums, frozen = _responses(policy), _responses(reference)
        pairs = (sums[:, 0::2], sums[:, 1::2], frozen[:, 0::2], frozen[:, 1::2])
        return dpo_loss(*pairs, beta=0.1).mean(dim=1), {}


class SeededSimPO(_Seeded, SimPO):
    """SimPO."""


class SeededORPO(_Seeded, ORPO):
    """ORPO whose NLL runs over prompt and chosen response, as TRL's does."""

    @property
    def views(self) -> Views:
        return Views(policy=super().views.policy, sequence=("long",))

    def loss(self, policy: Scores, reference: Scores | None) -> tuple[Tensor, dict[str, Tensor]]:
        sums, counts = (policy.log_probs, policy.num_tokens)
        chosen = log_odds(sums("long", "chosen"), counts("long", "chosen"))
        rejected = log_odds(sums("long", "rejected")[:, 0], counts("long", "rejected")[:, 0])
        return policy.sequence_nll("long") - 0.1 * torch.nn.functional.logsigmoid(chosen - rejected), {}


class SeededSoLoPO(_Seeded, SoLoPO):
    """SoLoPO."""


class SeededSFT(_Seeded, SFT):
    """The chosen response's NLL."""


class PackedRows(Dataset[PreferenceBatch]):
    """The same row again and again, packed anew each time as a data module would; its tokens are there before."""

    def __init__(self, setting: Setting, views: Views) -> None:
        self.setting, self.views, self.groups = setting, views, groups(setting, views)

    def __len__(self) -> int:
        return self.setting.steps + self.setting.warmup

    def __getitem__(self, index: int) -> PreferenceBatch:
        if index >= len(self):
            raise IndexError(index)
        row = pack(self.groups)
        return PreferenceBatch(row, row if self.views.reference else None)


def groups(setting: Setting, views: Views) -> list[Group]:
    """One group per context, or one per response."""
    made = []
    for context in ("short", "long"):
        roles = {view.role for view in views.policy if view.context == context}
        responses = [_response(setting, number) for number in range(len(setting.answers))]
        responses = [response for response in responses if response.role in roles]
        size = setting.short if context == "short" else setting.prompt
        prompt = setting.tokens(f"{context} prompt", size)
        for part in [[response] for response in responses] if setting.separate else [responses]:
            if part:
                made.append(Group("record", context, prompt, tuple(part), score_sequence=context in views.sequence))
    return made


def run(setting: Setting, profiler: torch.profiler.profile | None = None) -> dict[str, Any]:
    """Train for the setting's steps; seconds, losses and memory."""
    meter = Meter(setting.device, setting.warmup, profiler)
    with tempfile.TemporaryDirectory() as folder:
        save_policy(setting, Path(folder))
        module = make_module(setting, folder)
        trainer = Trainer(
            accelerator=setting.accelerator,
            devices=1,
            max_steps=setting.steps + setting.warmup,
            callbacks=[_Metered(meter)],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        trainer.fit(module, DataLoader(PackedRows(setting, module.views), batch_size=None))
    return meter.result()


def make_module(setting: Setting, folder: str) -> Any:
    """The objective with its policy and optimizer."""
    classes = {
        "dpo": SeededDPO,
        "simpo": SeededSimPO,
        "orpo": SeededORPO,
        "solopo": partial(SeededSoLoPO, base=DPO(), detach_short=False),
        "sft": SeededSFT,
    }
    module = classes[setting.objective](
        policy=PolicyConfig(
            source=folder,
            weights="random",
            dtype=setting.dtype,
            gradient_checkpointing=setting.checkpointing,
            layer_kernels=_LAYER_KERNELS[setting.layer_kernels],
            lora=LoRA(r=setting.lora, alpha=2 * setting.lora) if setting.lora else None,
        ),
        optimization=Optimization(partial(FusedAdamW, lr=setting.lr), schedule="constant", warmup_fraction=0.0),
    )
    module.uniform, module.pairs = UniformReference(setting.sizes.vocab), len(setting.answers) // 2
    return module


class _Metered(Callback):
    def __init__(self, meter: Meter) -> None:
        self.meter = meter

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.meter.start()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.meter.loss(outputs["loss"])
        self.meter.step()


def _response(setting: Setting, number: int) -> Response:
    ids = setting.response(number)
    return Response("rejected" if number else "chosen", ids, (True,) * len(ids), max(0, number - 1))


def _responses(scores: Scores | None) -> Tensor:
    """Sums of all responses in their order. Shape: (B, k)."""
    assert scores is not None
    return torch.cat([scores.log_probs("long", "chosen").unsqueeze(1), scores.log_probs("long", "rejected")], dim=1)
