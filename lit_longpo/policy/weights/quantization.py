"""4-bit weights under adapters (QLoRA, arXiv 2305.14314), quantised by bitsandbytes as transformers does it.

A linear map's weights are quantised in blocks of 64, each with a scale, and made whole for every product; they cannot
be trained. Embeddings, head, norms and biases stay as they are.
"""

import logging
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PretrainedConfig, PreTrainedModel

from lit_longpo.errors import InputError, require_package
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
        type: "nf4" (for normally distributed weights, as most are) or "fp4".
        double: quantise the scales too: 4.13 bits per weight instead of 4.5.
        compute_dtype: precision of the products; `None` means `policy.dtype`.
    """

    type: Literal["nf4", "fp4"] = "nf4"
    double: bool = True
    compute_dtype: Literal["float32", "bfloat16", "float16"] | None = None

    @property
    def bytes_per_weight(self) -> float:
        """Bytes of a weight and its share of the scales."""
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
        settings = stored_quantization(config)
        if settings is None:
            with torch.device("meta"):
                model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype), **how)
            return {"quantization_config": self._for_transformers(compute, model)}
        there = (settings.get("bnb_4bit_quant_type", "fp4"), bool(settings.get("bnb_4bit_use_double_quant", False)))
        if not is_4bit(settings) or there != (self.type, self.double):
            raise InputError(
                f"expected weights of full precision, or quantised as `policy.quantization` says, at {where}, got "
                + (
                    f"{there[0]} with double {str(there[1]).lower()}; type --policy.quantization.type {there[0]} "
                    f"--policy.quantization.double {str(there[1]).lower()}"
                    if is_4bit(settings)
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
    Files for FSDP call the bytes numbers of half or single precision (`bnb_4bit_quant_storage`): bytes again, which
    nothing casts or trains.
    """
    for module in model.modules():
        compute, bias = getattr(module, "compute_dtype", None), getattr(module, "bias", None)
        if compute is not None and isinstance(bias, nn.Parameter):
            bias.data = bias.data.to(compute)
        if hasattr(module, _PACKS):
            setattr(module, _PACKS, False)
    for parameter in model.parameters():
        if getattr(parameter, "quant_state", None) is not None and parameter.is_floating_point():
            parameter.data = parameter.data.view(torch.uint8).reshape(-1, 1)


def require_bitsandbytes() -> None:
    """Say what to install before anything is loaded.

    Raises:
        MissingPackageError: it is not installed.
    """
    told = 'type: pip install "lit_longpo[quantized]", or --policy.quantization null'
    require_package(_METHOD, "`policy.quantization`", told)


def is_quantized(model: PreTrainedModel) -> bool:
    """Whether linear maps of the model are held in 4 bits."""
    return any(quantization_state(parameter) for parameter in model.parameters())


def quantization_state(parameter: Tensor) -> dict[str, Tensor]:
    """What makes a weight whole: its scales, the 16 values, and the settings as bytes; empty if it is not quantised."""
    state = getattr(parameter, "quant_state", None)
    parts = {} if state is None else state.as_dict(packed=True)
    return {name: part for name, part in sorted(parts.items()) if isinstance(part, Tensor)}


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


def log_quantization(model: PreTrainedModel) -> None:
    """Log how much of a model that was to be quantised is.

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
            f"expected linear layers that `policy.quantization` can hold in 4 bits, got none in "
            f"{type(model).__name__}, which has a class of its own for them; type --policy.quantization null"
        )
    log.log(
        logging.INFO if in_4_bits > total / 2 else logging.WARNING,
        "%.0f%% of %s weights are in 4 bits; embeddings, head, norms and experts that lie in one tensor are not",
        *(100 * in_4_bits / total, f"{total:,}"),
    )


def stored_quantization(config: PretrainedConfig) -> dict[str, Any] | None:
    """How a configuration, or its part for text, says that its files are quantised; `None` if they are not."""
    said = [getattr(part, "quantization_config", None) for part in (config, config.get_text_config(decoder=True))]
    settings: Any = next((each for each in said if each is not None), None)
    return settings.to_dict() if hasattr(settings, "to_dict") else settings


def is_4bit(settings: dict[str, Any]) -> bool:
    """Whether bitsandbytes has quantised such files to 4 bits."""
    return settings.get("quant_method") == _METHOD and bool(settings.get("load_in_4bit"))
