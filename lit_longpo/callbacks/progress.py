"""Lightning's rich progress bar, for runs that steps or time end, too."""

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar

_SHORT = {
    "train/loss": "loss",
    "train/rewards/margins": "margin",
    "val/loss": "val loss",
    "val/rewards/margins": "val margin",
    "perf/tokens_per_second": "tokens/s",
}


class TrainingProgressBar(RichProgressBar):
    """Loss, margin and tokens per second beside the bar; the last epoch's number only where it is known.

    Lightning's own says `Epoch 0/-2` where `trainer.max_steps` or `trainer.max_time` ends the run.
    """

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Under names that a terminal of 80 columns has room for."""
        metrics = super().get_metrics(trainer, pl_module)
        return {_SHORT.get(name, name): value for name, value in metrics.items() if name != "v_num"}

    def _init_progress(self, trainer: Trainer) -> None:
        """In notebooks as in files, without a live bar: there rich and IPython call each other without end.

        https://github.com/Textualize/rich/issues/3390
        """
        self._console_kwargs.setdefault("force_jupyter", False)
        super()._init_progress(trainer)

    def _get_train_description(self, current_epoch: int) -> str:
        last = self.trainer.max_epochs
        description = f"Epoch {current_epoch}" if last in (None, -1) else f"Epoch {current_epoch}/{last - 1}"
        return f"{description:{len(self.validation_description)}}"  # of one width, or the bars flicker
