"""Linear maps that are more than their call: what would sit on the call would be lost.

An adapter, and 4 bits, change what a map's call does. Where a layer reads the map's weight itself, as fused kernels of
Mamba do, it passes over the call: the adapter would be left out without a word, and bytes of two weights each be taken
for weights.
"""

import inspect
import re
from functools import cache

import torch
from torch import Tensor, nn


def read_directly(model: nn.Module) -> set[str]:
    """Names of the linear maps whose weights their layers read."""
    return {
        f"{name}.{child}" if name else child
        for name, layer in model.named_modules()
        for child, module in layer.named_children()
        if isinstance(module, nn.Linear) and _reads(type(layer), child)
    }


def unadaptable(model: nn.Module) -> set[str]:
    """Names of the linear maps that no adapter can be put on: those, and maps that do not take a row to a row."""
    special = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    odd = {name for name, module in special if "forward" in vars(type(module)) and not _maps_rows(module)}
    return read_directly(model) | (odd - {""})


def _reads(kind: type, child: str) -> bool:
    return re.search(rf"\bself\.{re.escape(child)}\.weight\b(?!\.(dtype|device))", _source(kind)) is not None


def _maps_rows(module: nn.Linear) -> bool:
    """Tried on the meta device, where a weight that a strategy has split is whole again."""
    if type(module) is nn.Linear or hasattr(module.weight, "quant_state"):  # bitsandbytes' own
        return True
    shapes = {"weight": (module.out_features, module.in_features), "bias": (module.out_features,)}
    made = {name: torch.empty(shapes[name], device="meta") for name, _ in module.named_parameters(recurse=False)}
    try:
        with torch.no_grad():
            output = torch.func.functional_call(module, made, torch.empty(1, module.in_features, device="meta"))
    except RuntimeError:  # DeepSeek-V4's maps in groups take one row for each
        return False
    return isinstance(output, Tensor) and output.shape == (1, module.out_features)


@cache
def _source(kind: type) -> str:
    """Of a layer's class and of the model classes above it."""
    own = [part for part in kind.__mro__ if not part.__module__.startswith(("torch.", "builtins"))]
    return "\n".join(map(_text, own))


def _text(kind: type) -> str:
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):  # made while the program runs
        return ""
