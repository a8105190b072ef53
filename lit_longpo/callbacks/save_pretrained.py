"""Saves the trained model as a folder that transformers can load."""

import copy
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging

from lit_longpo.checkpoints import run_record
from lit_longpo.checkpoints.whole import replacing
from lit_longpo.errors import InputError
from lit_longpo.export import check_replaceable, is_merged, save_policy
from lit_longpo.export.card import model_card
from lit_longpo.objectives import PreferenceModule
from lit_longpo.policy.adapters.merging import merge_adapters
from lit_longpo.run_folder import folder_of_run, keeps_nothing, results_folder
from lit_longpo.strategies import gathered_state_dict, is_sharded

log = logging.getLogger(__name__)


class SavePretrained(Callback):
    """Writes model, tokenizer and model card in Hugging Face form at the end of training.

    Args:
        directory: folder to write; `None` means `model` in the run's folder.

    Adapters are saved as adapters, unless their base cannot be named (see `export`); then everything is merged into one
    model in fp32, which rounds nothing away. An existing model is replaced as a whole, after the new one is written.
    Under `trainer.fast_dev_run` it stays, and the new one is deleted. `python -m lit_longpo export` does the same from
    any checkpoint.
    """

    def __init__(self, directory: str | None = None) -> None:
        self.directory = directory
        self.written: Path | None = None  # where a model lies by now

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a folder that cannot be replaced, before anything is loaded.

        Raises:
            InputError: it holds something else than a model, or what the training starts from; or weights would be
                averaged after it was written.
        """
        folder = self._folder(folder_of_run(trainer))
        if stage != "fit":
            return
        _check_is_no_start(folder, cast(PreferenceModule, pl_module))
        check_replaceable(folder)
        is_filled = self.directory and folder.is_dir() and any(folder.iterdir())
        if is_filled and trainer.is_global_zero and not keeps_nothing(trainer):
            log.warning("%s holds an earlier model, which this run will replace; move it to keep it", folder)
        _check_is_behind_averaging(self, trainer.callbacks)  # type: ignore[attr-defined]

    def _folder(self, run_folder: Path) -> Path:
        return Path(self.directory).expanduser() if self.directory else run_folder / "model"

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save on rank zero."""
        run_folder = folder_of_run(trainer)  # on every rank
        module = cast(PreferenceModule, pl_module)
        merged, state = is_merged(module.policy), None
        if is_sharded(module.model):
            if merged:
                log.warning(
                    "adapters cannot be merged while the policy is sharded, so no model was written; type: "
                    "python -m lit_longpo export --checkpoint PATH --output FOLDER"
                )
                return
            state = gathered_state_dict(module.model, keep=trainer.is_global_zero)  # every rank takes part
        record = run_record(trainer, type(module).__name__)
        if not trainer.is_global_zero:
            return
        assert module.prompt_format is not None
        adapters = module.policy.trained_lora is not None and not merged
        card = model_card(_config(run_folder, module), record, adapters=adapters, single=merged)
        model = merge_adapters(copy.deepcopy(module.model), single=True) if merged else module.model
        with results_folder(self._folder(run_folder), trainer) as folder:
            with replacing(folder) as partial:
                save_policy(model, module.prompt_format, partial, card, state)
            if keeps_nothing(trainer):
                log.info("the model was saved as a test and deleted: `trainer.fast_dev_run` keeps nothing")
            else:
                self.written = folder
                log.info("model written: %s", folder)


def _check_is_no_start(folder: Path, module: PreferenceModule) -> None:
    other = module.reference.config.policy
    models = [module.policy] if other is None else [module.policy, other]
    if folder.resolve() in {source.resolve() for model in models for source in model.files.folders()}:
        raise InputError(
            f"expected `SavePretrained.directory` to be a folder that the run does not start from, got {folder}; "
            "set another directory"
        )


def _check_is_behind_averaging(saver: SavePretrained, callbacks: list[Callback]) -> None:
    behind = callbacks[callbacks.index(saver) :]
    if later := [one for one in behind if isinstance(one, WeightAveraging)]:
        raise InputError(
            f"expected {type(later[0]).__name__} before SavePretrained in `trainer.callbacks`, got it after: it "
            "puts the averaged weights in place when training ends, so the model would be saved without them; list "
            "it first, or leave SavePretrained out and export the last checkpoint, which holds the average"
        )


def _config(run_folder: Path, module: PreferenceModule) -> dict[str, Any]:
    """The run's config.yaml; what the module knows if it was not started from the command line."""
    path = run_folder / "config.yaml"
    if path.is_file():
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    return {"policy": asdict(module.policy), "model": {"class_path": type(module).__name__}}
