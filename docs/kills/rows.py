"""A callback that writes down every row that is trained on, at once and in full precision."""

import json
import os
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class Rows(Callback):
    """Appends to `rows-RANK.jsonl` in the root folder: number, records, loss; after a validation, its metrics."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, _: int
    ) -> None:
        """A row was trained on."""
        number = trainer.fit_loop.epoch_loop.batch_progress.total.ready
        loss = float(trainer.callback_metrics["train/loss"])
        self._write(trainer, {"row": number, "records": list(batch.policy.examples), "loss": loss.hex()})

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A validation has its metrics."""
        found = {name: float(value).hex() for name, value in trainer.callback_metrics.items() if name[:4] == "val/"}
        self._write(trainer, {"validation": trainer.global_step, **found})

    def _write(self, trainer: Trainer, line: dict[str, Any]) -> None:
        path = Path(trainer.default_root_dir) / f"rows-{trainer.global_rank}.jsonl"
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(file, (json.dumps(line) + "\n").encode())
        os.close(file)
