"""Reads quantised files (MXFP4, gguf) as weights of full precision, and keeps the models ordinary ones.

Files in MXFP4 and gguf can be read whole. All others are refused, and so is what transformers could not save.
"""

import logging
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_utils import load_state_dict
from transformers.utils.quantization_config import Mxfp4Config

from lit_longpo.errors import InputError
from lit_longpo.policy.weights.quantization import is_4bit, stored_quantization
from lit_longpo.policy.weights.twice import files_read

log = logging.getLogger(__name__)


def refuse_quantized_source(config: PretrainedConfig, where: str) -> None:
    """Refuse files that hold quantised weights where none were asked for."""
    settings = stored_quantization(config)
    if settings is not None:
        way_out = "type --policy.quantization 4bit with `policy.lora`, or " if is_4bit(settings) else ""
        raise InputError(
            f"expected weights of full precision at {where}, got quantised ones (`quantization_config`: "
            f"{settings.get('quant_method')}); {way_out}set the source to the model before quantisation (for adapters: "
            "`base_model_name_or_path`), or take the setting out of config.json if the weights are whole"
        )


def reading_whole(config: PretrainedConfig, where: str) -> dict[str, Any]:
    """What `from_pretrained` is told so that it reads weights of full precision: nothing, but for MXFP4 files.

    gpt-oss is published with experts in MXFP4, 4 bits that stand for exact numbers of any precision.

    Raises:
        InputError: they are quantised in a way that cannot be undone while reading.
    """
    files = stored_quantization(config)
    if files is not None and files.get("quant_method") == "mxfp4":
        log.info("the experts at %s are in MXFP4; they are unpacked as they are read", where)
        return {"quantization_config": Mxfp4Config(dequantize=True)}
    refuse_quantized_source(config, where)
    return {}


def hold_experts_as(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Experts read from MXFP4 as other weights are; transformers 5.17 leaves them in bf16, which holds them exactly."""
    for parameter in model.parameters():
        if parameter.dtype == torch.bfloat16:
            parameter.data = parameter.data.to(dtype)


def unpacking_gguf() -> dict[str, Any]:
    """What `from_pretrained` is told so that it holds a gguf file's weights whole, and the model as an ordinary one.

    Of itself it keeps them packed where it has a kernel for that; elsewhere it makes them whole, and yet calls the
    model one that can be neither trained nor saved. Before transformers knew of either, they were whole.
    """
    settings = getattr(transformers, "GgufConfig", None)
    return {} if settings is None else {"quantization_config": settings(dequantize=True)}


def refuse_unsaveable(model: PreTrainedModel, where: str) -> None:
    """Refuse, before it is trained, a model that transformers would not write.

    Raises:
        InputError: its weights are quantised in a way that has no form on disk.
    """
    quantizer = getattr(model, "hf_quantizer", None)
    if quantizer is not None and not quantizer.is_serializable():
        method = getattr(quantizer.quantization_config, "quant_method", "an unknown way")
        raise InputError(
            f"expected weights that can be saved after training at {where}, got quantised ones "
            f"({getattr(method, 'value', method)}), which transformers cannot write; set the source to the model "
            "before quantisation"
        )


def refuse_packed(folder: Path | None, named: str | None) -> None:
    """Refuse integers and 8-bit floats in the place of weights, which transformers takes for the numbers themselves.

    Args:
        folder: of a model that was read and says nothing of a quantisation; `None` if it is not at hand.
        named: see `files_read`.

    Raises:
        InputError: naming one of them.
    """
    if folder is None:
        return
    for file in files_read(folder, named):
        held = load_state_dict(str(file), map_location="meta")
        if found := [name for name, tensor in held.items() if _is_packed(name, tensor.dtype)]:
            kind = "8-bit floats" if held[found[0]].dtype.is_floating_point else "integers"
            raise InputError(
                f"expected weights of full precision in {file}, got {kind} ({held[found[0]].dtype}) in {len(found)}, "
                f"for example {found[0]}, and no `quantization_config` in config.json that says what they stand for; "
                "set the source to the model before quantisation"
            )


def _is_packed(name: str, dtype: torch.dtype) -> bool:
    """Whether it stands for a weight in less than 16 bits; masks and numbers of positions are integers by right."""
    return dtype.itemsize == 1 if dtype.is_floating_point else name.endswith(("weight", "_proj"))


def stay_whole(model: PreTrainedModel) -> None:
    """Have weights that were read whole out of quantised files saved as they are.

    transformers saves under the names of the files that it has read, and cannot quantise again.
    """
    kept = [step for step in getattr(model, "_weight_conversions", None) or () if not _dequantises(step)]
    if hasattr(model, "_weight_conversions"):
        cast(Any, model)._weight_conversions = kept


def _dequantises(step: Any) -> bool:
    return any(type(operation).__name__.endswith("Dequantize") for operation in getattr(step, "operations", ()))
