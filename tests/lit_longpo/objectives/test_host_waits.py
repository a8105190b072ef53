"""A training step gives the device work and asks it nothing: no value comes back to the host."""

from functools import partial

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from support.preference_data import RandomPairs
from torch.utils._python_dispatch import TorchDispatchMode

from lit_longpo.callbacks import NonFiniteGuard
from lit_longpo.objectives import DPO, LOGO, ORPO, SFT, LongPO, SimPO, SoLoPO
from lit_longpo.policy import LoRA, PolicyConfig, ReferenceConfig

OBJECTIVES = {
    "sft": SFT,
    "dpo": DPO,
    "dpo-online": partial(DPO, reference=ReferenceConfig(mode="online")),
    "simpo": SimPO,
    "orpo": ORPO,
    "solopo-orpo": partial(SoLoPO, base=ORPO()),
    "longpo": partial(LongPO, nll="answer"),
    "logo": partial(LOGO, num_rejected=1),
}
# On a GPU each of these waits until everything before it is done, to tell a value or how much it found.
_WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "bincount", "unique", "equal", "repeat_interleave.Tensor")


class NoWaits(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = str(func).removeprefix("aten.")
        assert not name.startswith(_WAITS), f"{name} waits for the device"
        return func(*args, **(kwargs or {}))


class Watched(Callback):
    """Watches from the start of a batch to its end."""

    def __init__(self):
        self.mode, self.watched = None, 0

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.mode = NoWaits()
        self.mode.__enter__()

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.mode.__exit__(None, None, None)
        self.watched += 1

    def on_exception(self, trainer, module, exception):
        if self.mode is not None:
            self.mode.__exit__(None, None, None)


def fit(module, folder, watched, accelerator="cpu"):
    trainer = Trainer(
        max_steps=3, accelerator=accelerator, devices=1, logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, default_root_dir=folder, gradient_clip_val=1.0,
        num_sanity_val_steps=0, use_distributed_sampler=False, callbacks=[watched, NonFiniteGuard(wait=False)],
    )  # fmt: skip
    trainer.fit(module, datamodule=RandomPairs(module.views, emphasis=True))
    assert watched.watched == 3


def test_a_wait_is_noticed():
    with NoWaits(), pytest.raises(AssertionError, match=r"_local_scalar_dense.* waits"):
        torch.ones(2).sum().item()


@pytest.mark.parametrize("lora", [False, True], ids=["whole", "lora"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_no_objective_waits(name, lora, policy_folder, tmp_path):
    policy = PolicyConfig(source=str(policy_folder), lora=LoRA(r=2) if lora else None)
    fit(OBJECTIVES[name](policy=policy), tmp_path, Watched())


class Strict(Callback):
    """CUDA's own account of who waits."""

    watched = 0

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        torch.cuda.set_sync_debug_mode("error")

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        torch.cuda.set_sync_debug_mode("default")
        self.watched += 1

    def on_exception(self, trainer, module, exception):
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@pytest.mark.parametrize("name", OBJECTIVES)
def test_no_objective_waits_on_a_gpu(name, policy_folder, tmp_path):
    fit(OBJECTIVES[name](policy=PolicyConfig(source=str(policy_folder))), tmp_path, Strict(), accelerator="gpu")
