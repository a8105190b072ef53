"""4-bit weights under adapters (QLoRA, arXiv 2305.14314), quantised by bitsandbytes as transformers does it.

A linear map's weights are quantised in blocks of 64, each with a scale, and made whole for every product; they cannot
be trained. Embeddings, head, norms and biases stay as they are.
"""

import importlib.util
import logging
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
import transformers
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PretrainedConfig, PreTrainedModel
from transformers.utils.quantization_config import Mxfp4Config

from lit_longpo.errors import InputError, MissingPackageError
from lit_longpo.policy.weights.linear_maps import unadaptable

_BLOCK = 64  # weights that share a scale
_NESTED_BLOCK = 256  # scales that share a scale
_METHOD = "bitsandbytes"
_PACKS = "support_avx512bf16_for_cpu"  # of its maps

log = logging.getLogger(__name__)


@dataclass
class Quantization:
    """How weights are quantised to 4 bits.

    Args:
        type: "nf4" (for weights that are normally distributed, as they are) or "fp4".
        double: quantise the scales too: 4.13 bits a weight instead of 4.5.
        compute_dtype: precision of the products; `None` means `policy.dtype`.
    """

    type: Literal["nf4", "fp4"] = "nf4"
    double: bool = True
    compute_dtype: Literal["float32", "bfloat16", "float16"] | None = None

    @property
    def bytes_per_weight(self) -> float:
        """Of a weight and its share of the scales."""
        scale = 1 + 4 / _NESTED_BLOCK if self.double else 4
        return 0.5 + scale / _BLOCK

    def options(self, config: PretrainedConfig, dtype: str, where: str, **how: Any) -> dict[str, Any]:
        """What `from_pretrained` is told beside the configuration.

        Args:
            config: of the model; one that says its files are quantised already is told the precision of the products.
            dtype: `policy.dtype`.
            where: the source, for the error.
            **how: of `from_config`.

        Raises:
            InputError: the files are quantised in another way.
        """
        compute = self.compute_dtype or dtype
        settings = _as_dict(getattr(config, "quantization_config", None))
        if settings is None:
            with torch.device("meta"):
                model = AutoModelForCausalLM.from_config(config, **how)
            return {"quantization_config": self._for_transformers(compute, model)}
        there = (settings.get("bnb_4bit_quant_type", "fp4"), bool(settings.get("bnb_4bit_use_double_quant", False)))
        if not _is_4bit(settings) or there != (self.type, self.double):
            raise InputError(
                f"expected weights of full precision, or quantised as `policy.quantization` says, at {where}, got "
                + (
                    f"{there[0]} with double {str(there[1]).lower()}; type --policy.quantization.type {there[0]} "
                    f"--policy.quantization.double {str(there[1]).lower()}"
                    if _is_4bit(settings)
                    else f"{settings.get('quant_method')}; set the source to the model before quantisation"
                )
            )
        cast(Any, config).quantization_config = settings | {"bnb_4bit_compute_dtype": compute}
        return {}

    def _for_transformers(self, compute: str, model: PreTrainedModel) -> BitsAndBytesConfig:
        return BitsAndBytesConfig(
            load_in_4bit=True,
            llm_int8_skip_modules=_kept(model) if unadaptable(model) else None,  # in spite of its name
            bnb_4bit_quant_type=self.type,
            bnb_4bit_use_double_quant=self.double,
            bnb_4bit_compute_dtype=getattr(torch, compute),
        )


def settle_maps(model: PreTrainedModel) -> None:
    """Have quantised maps compute alike in every forward, and leave their weights as they are.

    bitsandbytes casts a bias to the products' precision in the first forward: it is cast now, as a weight that changed
    there would be taken for a trained one. On CPUs with bf16 instructions it packs weights anew wherever no gradient is
    asked for: products and scales in bf16 whatever the precision, a packing that saving undoes only nearly. Not here.
    """
    for module in model.modules():
        compute, bias = getattr(module, "compute_dtype", None), getattr(module, "bias", None)
        if compute is not None and isinstance(bias, nn.Parameter):
            bias.data = bias.data.to(compute)
        if hasattr(module, _PACKS):
            setattr(module, _PACKS, False)


def require_bitsandbytes() -> None:
    """Say what to install before anything is loaded.

    Raises:
        MissingPackageError: it is not installed.
    """
    if importlib.util.find_spec(_METHOD) is None:
        raise MissingPackageError(
            "`policy.quantization` needs bitsandbytes, which is not installed; type: pip install "
            '"lit_longpo[quantized]", or --policy.quantization null'
        )


def refuse_quantized_source(config: PretrainedConfig, where: str) -> None:
    """Refuse files that hold quantised weights where none were asked for.

    Raises:
        InputError: saying what to type.
    """
    settings = _as_dict(getattr(config, "quantization_config", None))
    if settings is not None:
        way_out = "type --policy.quantization 4bit with `policy.lora`, or " if _is_4bit(settings) else ""
        raise InputError(
            f"expected weights of full precision at {where}, got quantised ones (`quantization_config`: "
            f"{settings.get('quant_method')}); {way_out}set the source to the model before quantisation (for adapters: "
            "`base_model_name_or_path`)"
        )


def reading_whole(config: PretrainedConfig, where: str) -> dict[str, Any]:
    """What `from_pretrained` is told so that it reads weights of full precision: nothing, but for MXFP4 files.

    gpt-oss is published with experts in MXFP4, 4 bits that stand for exact numbers of any precision.

    Args:
        config: of the files.
        where: they lie, for the error.

    Raises:
        InputError: they are quantised in a way that cannot be undone while reading.
    """
    files = _as_dict(getattr(config, "quantization_config", None))
    if files is not None and files.get("quant_method") == "mxfp4":
        log.info("the experts at %s are in MXFP4: they are held as the whole numbers that these stand for", where)
        return {"quantization_config": Mxfp4Config(dequantize=True)}
    refuse_quantized_source(config, where)
    return {}


def hold_experts_as(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Experts that were read from MXFP4 as all other weights are; transformers 5.17 leaves them in bf16.

    Args:
        model: just read with `reading_whole`; bf16 holds every number of MXFP4 exactly.
        dtype: of its other weights.
    """
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

    Args:
        model: just read.
        where: its files lie.

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


def stay_whole(model: PreTrainedModel) -> None:
    """Have weights that were read whole out of quantised files saved as they are.

    transformers saves under the names of the files that it has read, and cannot quantise again.
    """
    kept = [step for step in getattr(model, "_weight_conversions", None) or () if not _dequantises(step)]
    if hasattr(model, "_weight_conversions"):
        cast(Any, model)._weight_conversions = kept


def _dequantises(step: Any) -> bool:
    return any(type(operation).__name__.endswith("Dequantize") for operation in getattr(step, "operations", ()))


def is_quantized(model: PreTrainedModel) -> bool:
    """Whether linear maps of the model are held in 4 bits."""
    return any(quantization_state(parameter) for parameter in model.parameters())


def quantization_state(parameter: Tensor) -> dict[str, Tensor]:
    """What makes a weight whole: its scales, the 16 values, and the settings as bytes; empty if it is not quantised."""
    state = getattr(parameter, "quant_state", None)
    parts = {} if state is None else state.as_dict(packed=True)
    return {name: part for name, part in sorted(parts.items()) if isinstance(part, Tensor)}


def dequantized(model: PreTrainedModel) -> PreTrainedModel:
    """The model with plain linear maps whose weights are what the 4-bit ones stand for; it is changed in place."""
    return cast(PreTrainedModel, cast(Any, model).dequantize())


def quantizable(model: PreTrainedModel) -> list[nn.Linear]:
    """The linear maps that are quantised when such a model is read: all but those that `_kept` names."""
    from transformers.quantizers.quantizers_utils import should_convert_module

    kept = _kept(model)
    linear = [(name, module) for name, module in model.named_modules() if type(module) is nn.Linear]
    return [module for name, module in linear if should_convert_module(name, kept)]


def _kept(model: PreTrainedModel) -> list[str]:
    """What stays whole: the head, what is tied, and maps that are more than their call."""
    from transformers.quantizers.base import get_keys_to_not_convert

    return [*get_keys_to_not_convert(model), *sorted(unadaptable(model))]


def report_quantization(model: PreTrainedModel) -> None:
    """Say how much of a model that was to be quantised is.

    Raises:
        InputError: nothing is.
    """
    states = [getattr(parameter, "quant_state", None) for parameter in model.parameters()]
    in_4_bits = sum(state.shape.numel() for state in states if state is not None)
    total = in_4_bits + sum(
        parameter.numel() for parameter, state in zip(model.parameters(), states, strict=True) if state is None
    )
    if not in_4_bits:
        raise InputError(
            f"expected linear maps that `policy.quantization` can hold in 4 bits, got none in {type(model).__name__}, "
            "whose maps are of a class of its own; type --policy.quantization null"
        )
    log.log(
        logging.INFO if in_4_bits > total / 2 else logging.WARNING,
        "%.0f%% of %s weights are in 4 bits; embeddings, head, norms and experts that lie in one tensor are not",
        *(100 * in_4_bits / total, f"{total:,}"),
    )


def _as_dict(settings: Any) -> dict[str, Any] | None:
    return settings.to_dict() if hasattr(settings, "to_dict") else settings


def _is_4bit(settings: dict[str, Any]) -> bool:
    return settings.get("quant_method") == _METHOD and bool(settings.get("load_in_4bit"))
