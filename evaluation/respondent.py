"""The model that an evaluation asks, its devices, and the run's settings."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from lightning.fabric import Fabric
from lightning.pytorch.loggers import Logger
from torch import nn
from torch.distributed.device_mesh import init_device_mesh

from evaluation.processes import world_size
from evaluation.running.answerers import Answerer
from evaluation.running.settings import RunSettings
from lit_longpo.errors import InputError
from lit_longpo.policy import PolicyConfig, PromptFormat
from lit_longpo.policy.weights.vocabulary import check_vocabulary
from lit_longpo.policy.window import readable_positions
from lit_longpo.strategies import check_devices, check_processes, own_launcher, shard
from lit_longpo.strategies.watchdog import Watchdog

_AGAIN = "type the same command again: the answers that are stored stay"


@dataclass(frozen=True)
class Respondent:
    """A model that answers, as `evaluate` loads it.

    Args:
        policy: the model, as in `fit`; of `lora` nothing is used; adapters at its `source` are on.
        accelerator: "auto", "cpu", "gpu": Lightning's names.
        devices: processes that share the questions.
        shard: split the weights over the processes (FSDP2), for a model that does not fit on one device.

    Attributes:
        watchdog: entered around `load` and all work with it, it ends these processes when one of them is dead.

    Raises:
        InputError: 4-bit weights shall be sharded.
    """

    policy: PolicyConfig
    accelerator: str = "auto"
    devices: int | Literal["auto"] = 1
    shard: bool = False
    watchdog: Watchdog = field(default_factory=lambda: Watchdog(_AGAIN), init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.shard and self.policy.quantized is not None:
            raise InputError(
                "expected `--shard false` with `policy.quantization`, whose weights and scales belong together, got "
                "true; type --shard false, or --policy.quantization null"
            )

    def check(self, settings: RunSettings) -> None:
        """Check what can be checked before records are read.

        Raises:
            InputError: the devices are not here, or a launcher started another number of processes.
        """
        check_processes(check_devices(self.accelerator, self.devices) or 1)

    def known(self) -> tuple[PromptFormat, int | None] | None:
        """Prompt format and window before `load`; `None` if finding them takes as long as loading."""
        if self.policy.gguf_file is not None:  # whose configuration takes as long to read as its weights
            return None
        return self.policy.prompt_format(), readable_positions(self.policy.config())

    def check_likelihoods(self) -> None:
        """Refuse if it can only answer, and likelihoods are wanted."""

    def name(self, fingerprint: str) -> str:
        """The model's name in reports."""
        return f"{self.policy.source} ({fingerprint[:8]})"

    def load(self) -> tuple[nn.Module | Answerer, PromptFormat]:
        """The model on its device, in every process, and its tokenizer with its chat template."""
        strategy = "auto" if self.devices == 1 else "ddp"
        fabric = Fabric(accelerator=self.accelerator, devices=self.devices, strategy=strategy, plugins=own_launcher())
        fabric.launch()
        self.watchdog.connect(fabric.global_rank, fabric.world_size, fabric.broadcast, here=True)
        model, prompt_format = self._on(fabric.device), self.policy.prompt_format()
        check_vocabulary(model, prompt_format.tokenizer)
        return model, prompt_format

    def _on(self, device: torch.device) -> nn.Module:
        model = self.policy.load_base().to(device).eval()  # type: ignore[arg-type]
        if self.shard and world_size() > 1:
            shard(model, init_device_mesh(device.type, (world_size(),)))
        return model


@dataclass
class EvaluationRun:
    """The settings of one `evaluate` command beside the benchmark.

    Args:
        respondent: who is asked.
        settings: which examples, and for how long.
        output: folder of predictions and reports.
        command: that was typed, for the reports.
        loggers: that show the reports; without any, TensorBoard in the output.
    """

    respondent: Respondent
    settings: RunSettings
    output: Path
    command: str = ""
    loggers: Sequence[Logger] = ()
