"""Hashes of everything that a model's log-probabilities depend on: weights, and how texts become tokens."""

import hashlib
import json
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

from lit_longpo.engine import base_model
from lit_longpo.engine.decoder import whole_shape
from lit_longpo.policy.adapters.lora import adapters_are_start
from lit_longpo.policy.adapters.weights import adapted_layers
from lit_longpo.policy.prompts.prompting import PromptFormat
from lit_longpo.policy.tokenizer.stored_rules import TEXTS
from lit_longpo.policy.weights.quantization import quantization_state
from lit_longpo.strategies.sharding import full_value

_CHUNK = 2**20  # 32-bit words of one checksum
_WEIGHTS = {".safetensors", ".gguf", ".bin"}
_PIECES, _PIECE = 16, 1 << 16  # pieces of a file, and bytes of each
# Configuration entries that change how weights are run, not what they are.
_IGNORED = ("_name_or_path", "transformers_version", "_attn_implementation", "use_cache", "architectures")


@torch.no_grad()
def model_fingerprint(
    model: nn.Module, config: PretrainedConfig | None = None, *, with_adapters: bool | None = None
) -> str:
    """Hash of configuration (RoPE included), dtype and every weight (32 hex digits).

    Weights enter by checksums that are computed where they lie and are the same on every device, so that no
    weight but the checksums is copied; a single changed bit changes the hash.

    Args:
        model: the model, perhaps PEFT-wrapped.
        config: the configuration it is run with, if that is not its own.
        with_adapters: hash the adapters too; without, it is the same before and after training them. `None` hashes
            those that the model's training started from.
    """
    with_adapters = adapters_are_start(model) if with_adapters is None else with_adapters
    base = base_model(model)
    settings = {name: value for name, value in (config or base.config).to_dict().items() if name not in _IGNORED}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    adapters = getattr(model, "peft_config", {}) if with_adapters else {}
    for name, adapter in sorted(adapters.items()):  # the scale of adapters is in no tensor
        digest.update(f"{name}:{_scales(base)}:{adapter.peft_type}".encode())
    parameters = base.named_parameters() if with_adapters else _base_parameters(base)
    for name, parameter in sorted([*parameters, *_stored_buffers(base)]):
        digest.update(f"{name}:{tuple(whole_shape(parameter))}:{parameter.dtype}".encode())
        digest.update(repr(checksums(full_value(parameter))).encode())
        for part, value in quantization_state(parameter).items():  # 4 bits mean nothing without their scales
            digest.update(f"{part}:{checksums(value)}".encode())
    return digest.hexdigest()[:32]


def checksums(tensor: Tensor) -> list[int]:
    """Sums of a tensor's bits as 32-bit words, each times an odd number of its place; one sum for 4 MiB.

    An odd factor loses no difference, so one changed word always changes its sum; the factors differ, so words
    that change places do, too. Integers add up to the same whatever the order.
    """
    data = tensor.detach().reshape(-1).view(torch.uint8)
    whole = len(data) // 4 * 4
    aligned = data[:whole] if data.storage_offset() % 4 == 0 else data[:whole].clone()
    words = [aligned.view(torch.int32)]
    if whole < len(data):
        words.append(torch.cat([data[whole:], data.new_zeros(4 - len(data) + whole)]).view(torch.int32))
    factors = _factors(tensor.device)
    sums = [(part * factors[: len(part)]).sum() for piece in words for part in piece.split(_CHUNK)]
    return [int(value) for value in torch.stack(sums).tolist()] if sums else []


@cache
def _factors(device: torch.device) -> Tensor:
    """Odd numbers without a pattern, the same everywhere."""
    places = torch.arange(_CHUNK, dtype=torch.int64)
    mixed = (places * 0x9E3779B1) & 0xFFFFFFFF
    mixed = ((mixed ^ (mixed >> 15)) * 0x85EBCA6B) & 0xFFFFFFFF
    odd = (mixed ^ (mixed >> 13)) | 1
    return torch.where(odd >= 2**31, odd - 2**32, odd).to(torch.int32).to(device)


def _scales(model: nn.Module) -> list[tuple[str, float]]:
    return [(name, float(scale)) for name, layer in adapted_layers(model).items() for scale in layer.scaling.values()]


def files_fingerprint(folder: Path) -> str | None:
    """Hash of a model folder's weights, wherever it lies (32 hex digits); `None` if it has none.

    Sizes and a few pieces of every file: reading all of a large model would take minutes.
    """
    files = sorted(path for path in folder.iterdir() if path.suffix in _WEIGHTS and path.is_file())
    digest = hashlib.sha256()
    for path in files:
        size = path.stat().st_size
        digest.update(f"{path.name}:{size}".encode())
        with path.open("rb") as file:
            for piece in range(_PIECES):
                file.seek(size * piece // _PIECES)
                digest.update(file.read(_PIECE))
    return digest.hexdigest()[:32] if files else None


def tokens_hash(prompt_format: PromptFormat) -> str:
    """Hash of the tokens that a tokenizer makes of words, numbers, signs and scripts, and of what ends answers.

    It is the same as long as these are, in any version of the libraries; the chat template is not in it.
    """
    ids = [list(prompt_format.tokenizer(text)["input_ids"]) for text in TEXTS]
    ids.append(list(prompt_format.stop_ids))
    return hashlib.sha256(json.dumps(ids).encode()).hexdigest()[:16]


def _stored_buffers(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Buffers that are saved as weights are (biases that choose experts); others follow from the configuration."""
    found = dict(model.named_buffers())
    for place, module in model.named_modules():  # not `state_dict`: FSDP2 frees there what it has gathered
        for name in module._non_persistent_buffers_set:
            found.pop(f"{place}.{name}" if place else name, None)
    return [(name.replace(".base_layer", ""), buffer) for name, buffer in found.items()]


def _base_parameters(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Parameters under the names they have without adapters."""
    named = [(name.replace(".base_layer", ""), parameter) for name, parameter in model.named_parameters()]
    return [(name, parameter) for name, parameter in named if "lora_" not in name]
