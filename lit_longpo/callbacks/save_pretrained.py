"""Leave a folder that transformers alone can load."""

import copy
from pathlib import Path
from typing import cast

from lightning.pytorch import Callback, LightningModule, Trainer
from peft import PeftModel
from transformers import PreTrainedModel

from lit_longpo.objectives import PreferenceModule
from lit_longpo.strategies import gathered_state_dict, is_sharded


class SavePretrained(Callback):
    """Writes model and tokenizer in Hugging Face form at the end of training.

    Args:
        directory: folder to write; `None` means `model` in the run's folder.

    Adapters are saved as adapters, unless base weights were trained beside them (`policy.lora.also_train`):
    then everything is merged into one model.
    """

    def __init__(self, directory: str | None = None) -> None:
        self.directory = directory

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save on rank zero."""
        run_folder = Path(trainer.log_dir or trainer.default_root_dir)  # asked on every rank: it broadcasts
        module = cast(PreferenceModule, pl_module)
        model, state = _export(module), None
        if is_sharded(module.model):
            state = gathered_state_dict(module.model, keep=trainer.is_global_zero)  # every rank takes part
        if trainer.is_global_zero:
            folder = Path(self.directory or run_folder / "model")
            model.save_pretrained(str(folder), state_dict=state)
            if module.prompt_format is not None:
                module.prompt_format.tokenizer.save_pretrained(folder)


def _export(module: PreferenceModule) -> PreTrainedModel | PeftModel:
    """What is written: the model, its adapters, or both merged."""
    model = cast(PreTrainedModel | PeftModel, module.model)
    if not isinstance(model, PeftModel) or module.policy.reference_is_inside:
        return model
    if is_sharded(model):
        raise ValueError(
            "adapters beside trained base weights (`policy.lora.also_train`) cannot be merged while the policy is "
            "sharded; export from a checkpoint in one process"
        )
    merged: PreTrainedModel = copy.deepcopy(model).merge_and_unload()
    return merged
