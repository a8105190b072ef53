"""What a model's log-probabilities depend on, as a short hash."""

import hashlib
import json

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

from lit_longpo.engine import base_model
from lit_longpo.strategies.sharding import full_value

_SAMPLES = 4096
# Configuration entries that change how weights are run, not what they are.
_IGNORED = ("_name_or_path", "transformers_version", "_attn_implementation", "use_cache", "architectures")


@torch.no_grad()
def model_fingerprint(model: nn.Module, config: PretrainedConfig | None = None, *, with_adapters: bool = False) -> str:
    """Hash of configuration (RoPE included), dtype and weights (32 hex digits).

    Weights enter by up to 4,096 evenly spaced elements of each tensor, so that billions of
    parameters take seconds; an optimizer step changes nearly every element and thus the hash.

    Args:
        model: the model, perhaps PEFT-wrapped.
        config: the configuration it is run with, if that is not its own.
        with_adapters: hash the adapters too; without, it is the same before and after training them.
    """
    base = base_model(model)
    settings = {name: value for name, value in (config or base.config).to_dict().items() if name not in _IGNORED}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for name, parameter in sorted(base.named_parameters() if with_adapters else _base_parameters(base)):
        shape = getattr(parameter, "ds_shape", parameter.shape)
        digest.update(f"{name}:{tuple(shape)}:{parameter.dtype}".encode())
        digest.update(_sample(parameter).numpy().tobytes())
    return digest.hexdigest()[:32]


def _base_parameters(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Parameters under the names they have without adapters."""
    named = [(name.replace(".base_layer", ""), parameter) for name, parameter in model.named_parameters()]
    return [(name, parameter) for name, parameter in named if "lora_" not in name]


def _sample(parameter: Tensor) -> Tensor:
    flat = full_value(parameter).reshape(-1)
    step = max(1, flat.numel() // _SAMPLES)
    return flat[::step].to("cpu", torch.float32, copy=True)  # a view turned into NumPy would pin FSDP's storage
