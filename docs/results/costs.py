"""What a training took: tokens, FLOPs counted from the rows that ran, seconds; a callback of `fit`."""

import json
import time
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from lit_longpo.batch import PackedBatch
from lit_longpo.engine import base_model
from lit_longpo.engine.decoder import decoder_layers, decoder_of
from lit_longpo.objectives import PreferenceModule
from lit_longpo.planning.flops import row_flops
from lit_longpo.planning.sizes import ModelSizes

FILE = "costs.json"


class CostMeter(Callback):
    """Writes `costs.json` into the run's folder when the last step is done, before anything is evaluated.

    Counted are the model's FLOPs of every row (`lit_longpo.planning.flops`), a shared prompt once: forward and
    backward of the policy's rows, and one forward of the reference's: once for each example where it is cached, at
    every step where it is not. Seconds are those between the first and the last step; state it before callbacks that
    measure at the end.
    """

    def __init__(self) -> None:
        self._sizes: dict[bool, ModelSizes] = {}
        self._totals: dict[str, float] = {}
        self._start = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count the weights, and the cached reference's pass."""
        module = cast(PreferenceModule, pl_module)
        self._sizes = {trained: sizes_of(module.model, trained=trained) for trained in (True, False)}
        self._totals = dict.fromkeys(("examples", "tokens", "reference_tokens", "flops", "reference_flops"), 0.0)
        if module.views.reference and module.reference.config.mode == "cached":
            for row in trainer.datamodule.reference_dataloader():  # type: ignore[attr-defined]
                self._add_reference(module, row)
        self._start = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add a row."""
        module, row = cast(PreferenceModule, pl_module), batch.policy
        self._totals["examples"] += len(row.examples)
        self._totals["tokens"] += row.num_tokens
        config = base_model(module.model).config
        self._totals["flops"] += row_flops(config, self._sizes[True], row, checkpointing=False).model
        if batch.reference is not None and module.reference.config.mode == "online":
            self._add_reference(module, batch.reference)

    def _add_reference(self, module: PreferenceModule, row: PackedBatch) -> None:
        config = base_model(module.model).config
        self._totals["reference_tokens"] += row.num_tokens
        self._totals["reference_flops"] += row_flops(config, self._sizes[False], row, checkpointing=False).forward

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write."""
        costs = {"steps": trainer.global_step, **self._totals, "seconds": time.perf_counter() - self._start}
        folder = Path(trainer.log_dir or trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FILE).write_text(json.dumps(costs, indent=1) + "\n")


def sizes_of(model: nn.Module, *, trained: bool) -> ModelSizes:
    """Weights of the layers' linear maps and of the head, as far as FLOPs depend on them.

    Args:
        model: a policy, perhaps with adapters.
        trained: as it is trained; else as a reference, whose adapters are off.
    """
    base = base_model(model)
    linear = [
        (module.weight.numel(), module.weight.requires_grad, "lora_" in name)
        for layer in decoder_layers(decoder_of(base))
        for name, module in layer.named_modules()
        if isinstance(module, nn.Linear)
    ]
    head = base.get_output_embeddings().weight
    own = [(number, gradient) for number, gradient, is_adapter in linear if trained or not is_adapter]
    fields = dict.fromkeys(("total", "total_bytes", "largest_layer_bytes", "outside_bytes", "untied_head_bytes"), 0)
    return ModelSizes(
        **fields,
        trained=cast(Any, {}),
        frozen_linear=sum(number for number, gradient in own if not gradient),
        trained_linear=sum(number for number, gradient in own if gradient),
        head_weights=head.numel(),
        head_trained=bool(head.requires_grad),
    )
