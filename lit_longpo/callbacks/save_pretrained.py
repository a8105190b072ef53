"""Leave a folder that transformers alone can load."""

from pathlib import Path
from typing import cast

from lightning.pytorch import Callback, LightningModule, Trainer

from lit_longpo.objectives import PreferenceModule


class SavePretrained(Callback):
    """Writes model and tokenizer in Hugging Face form at the end of training.

    Args:
        directory: folder to write; `None` means `model` in the run's folder. Adapters are saved as adapters.
    """

    def __init__(self, directory: str | None = None) -> None:
        self.directory = directory

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save on rank zero."""
        run_folder = Path(trainer.log_dir or trainer.default_root_dir)  # asked on every rank: it broadcasts
        if trainer.is_global_zero:
            folder = Path(self.directory or run_folder / "model")
            module = cast(PreferenceModule, pl_module)
            module.model.save_pretrained(folder)  # type: ignore[operator]
            if module.prompt_format is not None:
                module.prompt_format.tokenizer.save_pretrained(folder)
