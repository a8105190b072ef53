"""TRL's side: its own trainers, data preparation and collators on the same weights, tokens and optimizer.

`trl` is the shipped trainer. `trl_compact` is the strongest fair baseline on a CPU: TRL scores response
positions only where Triton runs, and every position elsewhere; here it is told that Triton runs.
The reference's values are given, uniform as on our side, so that nobody's reference pass is timed.
"""

import os
import tempfile
from contextlib import nullcontext
from math import log
from pathlib import Path
from typing import Any
from unittest.mock import patch

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import torch
import trl.trainer.dpo_trainer
import trl.trainer.utils
from benchmarks.meter import Meter
from benchmarks.setting import Setting, tokenizer, torch_dtype, words
from datasets import Dataset, disable_progress_bars
from transformers import AutoModelForCausalLM, PreTrainedModel, TrainerCallback
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer
from trl.experimental.cpo import CPOConfig, CPOTrainer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

from lit_longpo.policy.checkpointing import attention_kept


class GivenReferenceDPO(DPOTrainer):
    """DPO whose precomputed reference values are given."""

    vocab = 0

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        for role in ("chosen", "rejected"):
            values = [-len(ids) * log(self.vocab) for ids in dataset[f"{role}_ids"]]
            dataset = dataset.add_column(f"ref_{role}_logps", values)
        return dataset


def run(setting: Setting, *, compact: bool) -> dict[str, Any]:
    """Train for the setting's steps; seconds, losses and memory."""
    disable_progress_bars()
    response_only = patch.object(trl.trainer.utils, "_use_triton", lambda device: True)
    # A name for the cache of reference values, which are given: of an 8B model it takes a minute of one core.
    named = patch.object(trl.trainer.dpo_trainer, "hash_module", lambda module: "given")
    with named, response_only if compact else nullcontext():
        return _train(setting)


def _train(setting: Setting) -> dict[str, Any]:
    meter = Meter(setting.device, setting.warmup)
    with tempfile.TemporaryDirectory() as folder:
        trainer = _TRAINERS[setting.objective](setting, folder)
        trainer.add_callback(_Metered(meter))
        compute = trainer.compute_loss

        def recorded(*args: Any, **kwargs: Any) -> Any:
            loss = compute(*args, **kwargs)
            meter.loss(loss[0] if isinstance(loss, tuple) else loss)
            return loss

        trainer.compute_loss = recorded
        trainer.train()
    return meter.result()


def make_model(setting: Setting) -> PreTrainedModel:
    torch.manual_seed(0)
    with torch.device(setting.device):
        return AutoModelForCausalLM.from_config(
            setting.sizes.config(), dtype=torch_dtype(setting), attn_implementation="sdpa"
        )


def records(setting: Setting) -> Dataset:
    """Every pair once per step, in order."""
    prompt = words(setting.tokens("long prompt", setting.prompt))
    answers = [" " + words(setting.response(number)) for number in range(len(setting.answers))]
    if setting.objective == "sft":
        rows = [{"prompt": prompt, "completion": answers[0]}]
    else:
        pairs = zip(answers[0::2], answers[1::2], strict=True)
        rows = [{"prompt": prompt, "chosen": chosen, "rejected": rejected} for chosen, rejected in pairs]
    return Dataset.from_list(rows * (setting.steps + setting.warmup))


def _options(setting: Setting, folder: str) -> dict[str, Any]:
    return {
        "output_dir": str(Path(folder) / "run"),
        "max_steps": setting.steps + setting.warmup,
        "per_device_train_batch_size": max(1, len(setting.answers) // 2),
        "max_length": setting.prompt + max(setting.answers) + 1,
        "learning_rate": setting.lr,
        "lr_scheduler_type": "constant",
        "optim": "adamw_torch_fused",
        "weight_decay": 0.0,
        "max_grad_norm": 0.0,
        "bf16": False,
        "gradient_checkpointing": bool(setting.checkpointing),
        "gradient_checkpointing_kwargs": _checkpointing(setting) if setting.checkpointing else None,
        "train_sampling_strategy": "sequential",
        "logging_steps": 10**6,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": setting.accelerator == "cpu",
        "dataloader_pin_memory": setting.accelerator == "gpu",
    }


def _checkpointing(setting: Setting) -> dict[str, Any]:
    """Ours to choose, by a switch of TRL's; keeping attention is given to it, as a user could."""
    ways = {"offload": {"offload": True}, "keep_attention": {"context_fn": attention_kept}}
    return {"use_reentrant": False, **ways.get(str(setting.checkpointing), {})}


def _common(setting: Setting) -> dict[str, Any]:
    made: dict[str, Any] = {
        "model": make_model(setting),
        "processing_class": tokenizer(setting.sizes.vocab),
        "train_dataset": records(setting),
    }
    if setting.lora:
        from peft import LoraConfig

        made["peft_config"] = LoraConfig(
            r=setting.lora, lora_alpha=2 * setting.lora, target_modules="all-linear", task_type="CAUSAL_LM"
        )
    return made


def _dpo(setting: Setting, folder: str) -> DPOTrainer:
    GivenReferenceDPO.vocab = setting.sizes.vocab
    config = DPOConfig(**_options(setting, folder), beta=0.1, precompute_ref_log_probs=True)
    return GivenReferenceDPO(args=config, **_common(setting))


def _simpo(setting: Setting, folder: str) -> CPOTrainer:
    config = CPOConfig(**_options(setting, folder), loss_type="simpo", beta=2.0, simpo_gamma=1.0, cpo_alpha=0.0)
    return CPOTrainer(args=config, **_common(setting))


def _orpo(setting: Setting, folder: str) -> ORPOTrainer:
    return ORPOTrainer(args=ORPOConfig(**_options(setting, folder), beta=0.1), **_common(setting))


def _sft(setting: Setting, folder: str) -> SFTTrainer:
    return SFTTrainer(args=SFTConfig(**_options(setting, folder)), **_common(setting))


_TRAINERS = {"dpo": _dpo, "simpo": _simpo, "orpo": _orpo, "sft": _sft}


class _Metered(TrainerCallback):
    def __init__(self, meter: Meter) -> None:
        self.meter = meter

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self.meter.start()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.meter.step()
