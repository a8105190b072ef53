"""`python -m lit_longpo export`: a checkpoint becomes a folder for transformers."""

import dataclasses
import logging
from pathlib import Path
from typing import Literal

from lit_longpo.checkpoints.reading import fill_policy, read_record, read_weights
from lit_longpo.checkpoints.whole import refuse_broken, replacing
from lit_longpo.command_line.parser import SuggestingParser
from lit_longpo.errors import InputError
from lit_longpo.export.card import model_card
from lit_longpo.export.folder import check_replaceable, is_merged, save_policy
from lit_longpo.export.run import TrainedRun, read_run
from lit_longpo.files.storing import check_writable, storing
from lit_longpo.policy.adapters.merging import merge_adapters as merged_model
from lit_longpo.policy.weights.vocabulary import check_vocabulary

log = logging.getLogger(__name__)

Dtype = Literal["float32"]

_ELSEWHERE = "--output FOLDER"


def export_checkpoint(
    checkpoint: str,
    output: str,
    run_config: str | None = None,
    merge_adapters: bool | None = None,
    overwrite: bool = False,
    trust_checkpoint: bool = False,
    trust_remote_code: bool = False,
    dtype: Dtype | None = None,
) -> None:
    """Write a checkpoint's policy as a folder that transformers alone loads, in one process.

    Args:
        checkpoint: file or folder that any strategy saved.
        output: folder to write: safetensors, tokenizer, generation settings, model card.
        run_config: the run's config.yaml; by default the one in the checkpoint's folder or above it.
        merge_adapters: write LoRA adapters into the weights. By default they are kept apart, unless base weights
            were trained beside them, or their base is none that they can name: a gguf file, one with changed
            rotary positions, or one that earlier adapters were merged into. Such a model is written in fp32.
        overwrite: replace the model that is in the folder.
        trust_checkpoint: load it whatever it holds, which may run code.
        trust_remote_code: run the modelling code that the policy's source ships; a config.yaml cannot ask for it.
        dtype: "float32" for a whole model in single precision, into which adapters are merged without rounding; by
            default `policy.dtype`, unless adapters had to be merged.

    Raises:
        InputError: the checkpoint is broken or belongs to another policy, the folder is in use, or a `dtype` is asked
            of adapters.
    """
    path, folder = Path(checkpoint).expanduser(), Path(output).expanduser().resolve()
    refuse_broken(path, "--checkpoint")
    _check_output(folder, overwrite)
    check_writable(folder.parent, _ELSEWHERE)
    config = Path(run_config).expanduser() if run_config else None
    run = read_run(path, config, trust_remote_code=trust_remote_code)
    _check_not_start(folder, run)
    merged = is_merged(run.policy, merge_adapters)
    adapters = run.policy.trained_lora is not None and not merged
    _check_dtype(dtype, adapters=adapters)
    weights = read_weights(path, trusted=trust_checkpoint)
    prompt_format = run.policy.prompt_format()
    model = dataclasses.replace(run.policy, gradient_checkpointing=False).load().eval()
    check_vocabulary(model, prompt_format.tokenizer)
    advice = "set --config to the config.yaml of the run that wrote it"
    fill_policy(model, weights, path, advice, everything=run.policy.weights == "random")
    single = dtype is not None or (merged and merge_adapters is None)
    if merged:
        model = merged_model(model, single=single)
    elif dtype:
        model = model.float()
    card = model_card(run.config, read_record(path), adapters=adapters, single=single)
    with storing(folder.parent, _ELSEWHERE), replacing(folder) as partial:
        save_policy(model, prompt_format, partial, card)
    log.info("%s written to %s", "adapters" if adapters else "model", folder)


def export(arguments: list[str]) -> None:
    """Export as the arguments say."""
    parser = SuggestingParser(
        prog="python -m lit_longpo export",
        description="A checkpoint as a folder that transformers and peft load.",
    )
    parser.add_argument("--checkpoint", type=str, required=True, help="file or folder that any strategy saved")
    parser.add_argument("--output", type=str, required=True, help="folder to write")
    parser.add_argument("--config", type=str | None, default=None, help="the run's config.yaml, if it is elsewhere")
    parser.add_argument("--merge_adapters", type=bool | None, default=None, help="merge LoRA adapters into the weights")
    parser.add_argument(
        "--dtype", type=Dtype | None, default=None, help="float32 writes the whole model in single precision"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the model in the folder")
    parser.add_argument(
        "--trust_checkpoint", action="store_true", help="load a checkpoint that may run code: only your own"
    )
    parser.add_argument("--trust_remote_code", action="store_true", help="run the code that the policy's source ships")
    values = parser.parse_args(arguments)
    others = {name: values[name] for name in ("trust_checkpoint", "trust_remote_code", "dtype")}
    export_checkpoint(
        values.checkpoint, values.output, values.config, values.merge_adapters, values.overwrite, **others
    )


def _check_dtype(dtype: Dtype | None, *, adapters: bool) -> None:
    if dtype and adapters:
        raise InputError(
            f"expected a whole model with --dtype {dtype}, got adapters, which stay in the precision that they were "
            "trained in; type --merge_adapters true beside it, or leave it out"
        )


def _check_output(folder: Path, overwrite: bool) -> None:
    check_replaceable(folder)
    if not overwrite and folder.exists() and any(folder.iterdir()):
        raise InputError(f"expected an empty folder at {folder}, got a model; set another --output, or --overwrite")


def _check_not_start(folder: Path, run: TrainedRun) -> None:
    if folder in {source.resolve() for model in run.models for source in model.files.folders()}:
        raise InputError(f"expected --output to be a folder that the run did not start from, got {folder}; set another")
