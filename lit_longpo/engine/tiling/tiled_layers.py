"""Which modules of a decoder are run in tiles of the row (`tiles.py`), of the lengths in `tile_lengths.py`.

They are found by their shape, not by name: between a layer's input and its output, MLPs (linear maps and activations
behind a forward of one tensor), stacked experts (three tensors: tokens, chosen experts, their weights) and norms treat
tokens one by one. Routers are not tiled: their logits are of the whole row, and so is the loss that balances them. A
layer whose MLP is no module of its own (OPT's) stays whole.
"""

import inspect
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import MethodType
from typing import Any, cast

from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from transformers import PreTrainedModel

from lit_longpo.engine.decoder import decoder_of, whole_shape
from lit_longpo.engine.tiling.tile_lengths import Tiles, TileTokens, mlp_sizes
from lit_longpo.engine.tiling.tiles import run_in_tiles, token_dimension
from lit_longpo.engine.tiling.unwritten import Map
from lit_longpo.errors import InputError
from lit_longpo.log_once import log_once

log = logging.getLogger(__name__)


def tile_layers(model: PreTrainedModel, tokens: TileTokens, *, recomputed: bool, attention_kept: bool = False) -> None:
    """Let the model's layers run in tiles from now on.

    Args:
        model: without adapters, which may be added later.
        tokens: of a tile. "auto" asks `auto_tile` for every row if activations are recomputed; else rows stay whole,
            because a tile is computed twice.
        recomputed: whether whole layers are recomputed in backward to save memory. Tiles then cost no further matrix
            product if the MLP comes last in its layer.
        attention_kept: whether all but attention is recomputed, for speed; then "auto" asks `quick_tile` on CPUs.

    Raises:
        InputError: `tokens` is a number, and no MLP is found.
    """
    if tokens is None:
        return
    modules = list(token_wise(model))
    if not any(not _is_norm(module) for module in modules):
        _without_mlps(model, tokens)
        return
    sizes = mlp_sizes(model.config)
    for module in modules:
        tiled = cast(Any, module)
        tiled.tiles = Tiles(tokens, sizes, recomputed, attention_kept and not _is_norm(module))
        tiled.forward = MethodType(_forward, module)


def _without_mlps(model: PreTrainedModel, tokens: TileTokens) -> None:
    what = f"no MLP of {type(model).__name__} is a module of its own that treats tokens one by one"
    if tokens != "auto":
        raise InputError(
            f"expected a model whose MLPs can be tiled for `policy.tile_tokens: {tokens}`, but {what}; type "
            "--policy.tile_tokens null"
        )
    log_once(log.info, f"layers are run whole (`policy.tile_tokens`): {what}")


def untile(model: nn.Module) -> None:
    """Run whole rows again."""
    for module in tiled_modules(model):
        del module.forward, module.tiles  # type: ignore[attr-defined]
        if "layer_kernel" in vars(module):
            cast(Any, module).forward = MethodType(own_forward(module), module)


def tiled_modules(model: nn.Module) -> list[nn.Module]:
    """The modules that run in tiles."""
    return [module for module in model.modules() if "tiles" in vars(module)]


@contextmanager
def tiles_of(model: nn.Module, tokens: int) -> Iterator[None]:
    """Inside the block, tiles have `tokens` tokens, whatever was set."""
    before = [(module, cast(Any, module).tiles) for module in tiled_modules(model)]
    try:
        for module, tiles in before:
            cast(Any, module).tiles = Tiles(tokens, tiles.sizes, tiles.recomputed)
        yield
    finally:
        for module, tiles in before:
            cast(Any, module).tiles = tiles


def _forward(self: Any, *args: Any, **kwargs: Any) -> Any:
    """A module's own forward, in tiles where the row is longer than one."""
    own = MethodType(own_forward(self), self)
    given = [*args, *kwargs.values()]
    if not all(isinstance(value, Tensor) for value in given) or is_parametrized(self):  # adapters of one call
        return own(*args, **kwargs)
    lengths = {tensor.shape[token_dimension(tensor)] for tensor in given if tensor.ndim > 1}
    if len(lengths) != 1 or min(tensor.ndim for tensor in given) < 2:
        return own(*args, **kwargs)
    (num_tokens,) = lengths
    if (size := self.tiles.of(num_tokens, given[0])) >= num_tokens:
        return own(*args, **kwargs)
    return run_in_tiles(partial(_named, own, tuple(kwargs)), self, given, size)


def _named(function: Any, names: tuple[str, ...], *tensors: Tensor) -> Tensor:
    """Call a function with its last tensors by name; a closure over the row's tensors would keep them alive."""
    count = len(tensors) - len(names)
    output: Tensor = function(*tensors[:count], **dict(zip(names, tensors[count:], strict=True)))
    return output


def own_forward(module: nn.Module) -> Callable[..., Tensor]:
    """The untiled forward of a module: that of its class, or of the kernel that `layer_kernels.py` has set."""
    forward: Callable[..., Tensor] = vars(module).get("layer_kernel", type(module).forward)
    return forward


def token_wise(model: PreTrainedModel) -> Iterator[nn.Module]:
    """MLPs, stacked experts and norms of the model's decoder."""
    yield from _inside(decoder_of(model))


def norms_and_mlps(model: PreTrainedModel) -> list[nn.Module]:
    """The norms and MLPs of the model's decoder, without stacked experts."""
    return [module for module in token_wise(model) if not _are_experts(module)]


def _inside(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        if _is_norm(child) or _is_mlp(child) or _are_experts(child):
            yield child
        else:
            yield from _inside(child)


def _is_norm(module: nn.Module) -> bool:
    """Whether it is an RMSNorm or LayerNorm over a token's channels, by whatever name a model family uses."""
    name = type(module).__name__
    by_token = name.endswith(("RMSNorm", "LayerNorm")) and not any(True for _ in module.children())
    return by_token and all(p.ndim == 1 for p in module.parameters()) and _num_arguments(type(module)) == 1


def _is_mlp(module: nn.Module) -> bool:
    """Whether it takes one tensor and consists of at least two linear maps with activations, norms and dropout."""
    parts = [part for part in module.modules() if not any(True for _ in part.children())]
    linear = [part for part in parts if isinstance(part, Map)]
    known = all(part in linear or _is_activation(part) for part in parts)
    return known and len(linear) > 1 and not _chooses(module) and _num_arguments(type(module)) == 1


def _is_activation(module: nn.Module) -> bool:
    """Whether it is elementwise (an activation, dropout), or a norm."""
    place = type(module).__module__
    elementwise = place in {"transformers.activations", "torch.nn.modules.activation", "torch.nn.modules.dropout"}
    return (elementwise and not isinstance(module, nn.MultiheadAttention)) or _is_norm(module)


def _chooses(module: nn.Module) -> bool:
    """Whether it routes tokens to experts (Llama-4's routers are linear maps)."""
    stacked = any(len(whole_shape(parameter)) > 2 for parameter in module.parameters())
    return stacked or any("router" in type(part).__name__.lower() for part in module.modules())


def _are_experts(module: nn.Module) -> bool:
    """Whether it holds all experts of a layer in stacked tensors, and is called with the chosen experts."""
    stacked = any(len(whole_shape(parameter)) == 3 for parameter in module.parameters(recurse=False))
    return stacked and _num_arguments(type(module)) == 3


def _num_arguments(kind: type[nn.Module]) -> int:
    """The number of arguments of its forward without `self`; 0 if it takes any number."""
    parameters = list(inspect.signature(kind.forward).parameters.values())[1:]
    return 0 if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters) else len(parameters)
