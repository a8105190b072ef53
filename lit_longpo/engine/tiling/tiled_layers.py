"""Which modules of a decoder are run in tiles of the row (`tiles.py`), and how long a tile is.

Found by their shape, not by name: between a layer's input and its output, MLPs (linear maps and activations behind a
forward of one tensor), stacked experts (three tensors: tokens, chosen experts, their weights) and norms treat tokens
one by one. Routers are not tiled: their logits are of the whole row, and so is the loss that balances them. A layer
whose MLP is no module of its own (OPT's) stays whole.
"""

import inspect
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from types import MethodType
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from transformers import PretrainedConfig, PreTrainedModel

from lit_longpo.engine.decoder import decoder_of
from lit_longpo.engine.tiling.tiles import autocast_dtype, run_in_tiles, token_dimension
from lit_longpo.engine.tiling.unwritten import Map
from lit_longpo.errors import InputError

TileTokens = Literal["auto"] | int | None

SHORTEST, LONGEST = 1024, 8192  # tokens of a tile that is chosen
FILLED = 8 * 2**20  # numbers that a GPU treats in no less time than its host takes to ask for it
MAPPED, SERVED = 32 * 2**20, 8 * 2**20  # bytes above which glibc maps a tensor anew each time; those of a quick one

log = logging.getLogger(__name__)


def auto_tile(num_tokens: int, hidden: int, intermediate: int, *, on_cpu: bool) -> int | None:
    """How many tokens of a row are a tile where memory comes first; `None` if the row is better run whole.

    In backward an MLP holds about 7 x intermediate size numbers a token, the rest of its layer 14 x hidden size, for
    which the whole row is needed. Tiles that make the first of them a quarter of the second are small enough:

        tile = row x hidden / (2 x intermediate)

    rounded down to a power of two, so that few sizes occur. Tiles below 1,024 tokens would keep processors waiting for
    weights (and their gradients, which are added up once a tile), above 8,192 nothing is gained by larger ones. A GPU
    gets tiles of four to eight million numbers at least: with 17 tiles a layer of 0.5B, a step of 17,408 tokens has
    46,800 kernels where whole layers have 4,100, and took 1.16 s of an H200 where TRL took 0.58. Rows of fewer than two
    tiles stay whole.

    Args:
        num_tokens: of the row, or of a rank's part of it.
        hidden: channels of a token.
        intermediate: channels inside of the MLP.
        on_cpu: whether a CPU computes it.
    """
    wanted = num_tokens * hidden // (2 * max(intermediate, 1))
    least = SHORTEST if on_cpu else FILLED // hidden
    size = min(max(_power_of_two(wanted), _power_of_two(least), SHORTEST), LONGEST)
    return size if num_tokens >= 2 * size else None


def _power_of_two(number: int) -> int:
    """The largest that is no larger; 1 at least."""
    return 1 << max(number, 1).bit_length() - 1


def quick_tile(num_tokens: int, inside: int, itemsize: int) -> int | None:
    """How many tokens of a row are a tile where time comes first, on a CPU; `None` if it is quickest whole.

    glibc keeps freed memory for the next tensor, but not that of tensors above 32 MiB: their pages are handed back, and
    new ones are cleared and mapped one by one. An MLP makes a dozen of them a layer.

    Args:
        num_tokens: of the row, or of a rank's part of it.
        inside: channels inside of the MLP.
        itemsize: bytes of a number.
    """
    return max(SERVED // (inside * itemsize), 1) if num_tokens * inside * itemsize > MAPPED else None


def chosen_tile(
    num_tokens: int, sizes: tuple[int, int], *, recomputed: bool, quick: int | None, on_cpu: bool
) -> int | None:
    """What `policy.tile_tokens: auto` makes of a row: tokens of a tile; `None` if it is run whole.

    Args:
        num_tokens: of the row, or of a rank's part of it.
        sizes: channels of a token, and inside of an MLP.
        recomputed: whether memory comes first: layers are recomputed for its sake, or there is no backward.
        quick: bytes of a number where layers are recomputed and time comes first, on a CPU; `None` elsewhere.
        on_cpu: whether a CPU computes the row.
    """
    if recomputed:
        return auto_tile(num_tokens, *sizes, on_cpu=on_cpu)
    return None if quick is None else quick_tile(num_tokens, sizes[1], quick)


def mlp_sizes(config: PretrainedConfig) -> tuple[int, int]:
    """Channels of a token, and inside of an MLP: of all experts that a token meets, and four times where nothing says.

    Args:
        config: the model's.
    """
    text = config.get_text_config()
    names = ("moe_intermediate_size", "intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size")
    said = next((size for name in names if (size := getattr(text, name, None))), 4 * text.hidden_size)
    inside = max(said) if isinstance(said, list | tuple) else int(said)
    return int(text.hidden_size), inside * int(getattr(text, "num_experts_per_tok", None) or 1)


def check_tile_tokens(tokens: TileTokens) -> None:
    """Refuse tiles without tokens.

    Raises:
        InputError: naming the setting.
    """
    if isinstance(tokens, int) and tokens < 1:
        raise InputError(f"expected `policy.tile_tokens` of at least 1, auto or null, got {tokens}; 1024 is usual")


def tile_layers(model: PreTrainedModel, tokens: TileTokens, *, recomputed: bool, attention_kept: bool = False) -> None:
    """Let the model's layers run in tiles from now on.

    Args:
        model: without adapters, which may be added later.
        tokens: of a tile; "auto" asks `auto_tile` for every row, and leaves a row whole that is to be fast: a tile is
            run again in backward, which whoever keeps activations does not want.
        recomputed: whether whole layers are recomputed in backward to save memory; then tiles cost no product more
            where the MLP comes last in its layer.
        attention_kept: whether all but attention is recomputed, for speed: "auto" asks `quick_tile` on CPUs then.

    Raises:
        InputError: a number is asked for, and no MLP is found.
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
    _say_once(f"layers are run whole (`policy.tile_tokens`): {what}")


def untile(model: nn.Module) -> None:
    """Run whole rows again."""
    for module in tiled_modules(model):
        del module.forward, module.tiles  # type: ignore[attr-defined]
        if "layer_kernel" in vars(module):
            cast(Any, module).forward = MethodType(own_forward(module), module)


def tiled_modules(model: nn.Module) -> list[nn.Module]:
    """Those that `tile_layers` has found."""
    return [module for module in model.modules() if "tiles" in vars(module)]


@contextmanager
def tiles_of(model: nn.Module, tokens: int) -> Iterator[None]:
    """Inside the block, tiles have so many tokens, whatever was asked for."""
    before = [(module, cast(Any, module).tiles) for module in tiled_modules(model)]
    try:
        for module, tiles in before:
            cast(Any, module).tiles = Tiles(tokens, tiles.sizes, tiles.recomputed)
        yield
    finally:
        for module, tiles in before:
            cast(Any, module).tiles = tiles


class Tiles:
    """How long a module's tiles are.

    Args:
        tokens: a number, or "auto".
        sizes: channels of a token, and inside of an MLP.
        recomputed: whether layers are recomputed in backward to save memory.
        quick: whether they are recomputed and time comes first.
    """

    def __init__(
        self, tokens: int | Literal["auto"], sizes: tuple[int, int], recomputed: bool, quick: bool = False
    ) -> None:
        self.tokens, self.sizes, self.recomputed, self.quick = tokens, sizes, recomputed, quick

    def of(self, num_tokens: int, like: Tensor) -> int:
        """Tokens of a tile of a row; all of them if it is run whole.

        Args:
            num_tokens: of the row.
            like: a tensor of the row, for its device and dtype.
        """
        if self.tokens != "auto":
            return self.tokens
        on_cpu = like.device.type == "cpu"
        itemsize = (autocast_dtype("cpu") or like.dtype).itemsize if self.quick and on_cpu else None
        recomputed = self.recomputed or not torch.is_grad_enabled()
        size = chosen_tile(num_tokens, self.sizes, recomputed=recomputed, quick=itemsize, on_cpu=on_cpu)
        return size or num_tokens


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
    """The last tensors by name; holds none of the whole row's, which would outlive their layer."""
    count = len(tensors) - len(names)
    output: Tensor = function(*tensors[:count], **dict(zip(names, tensors[count:], strict=True)))
    return output


def own_forward(module: nn.Module) -> Callable[..., Tensor]:
    """What computes a module's output: its class, or what `layer_kernels.py` has put in its place."""
    forward: Callable[..., Tensor] = vars(module).get("layer_kernel", type(module).forward)
    return forward


def token_wise(model: PreTrainedModel) -> Iterator[nn.Module]:
    """MLPs, stacked experts and norms of the model's decoder."""
    yield from _inside(decoder_of(model))


def norms_and_mlps(model: PreTrainedModel) -> list[nn.Module]:
    """Those of them that are no stacked experts."""
    return [module for module in token_wise(model) if not _are_experts(module)]


def _inside(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        if _is_norm(child) or _is_mlp(child) or _are_experts(child):
            yield child
        else:
            yield from _inside(child)


def _is_norm(module: nn.Module) -> bool:
    """One of a token's channels: RMSNorm and LayerNorm, whatever a family calls its own."""
    name = type(module).__name__
    by_token = name.endswith(("RMSNorm", "LayerNorm")) and not any(True for _ in module.children())
    return by_token and all(p.ndim == 1 for p in module.parameters()) and _num_arguments(type(module)) == 1


def _is_mlp(module: nn.Module) -> bool:
    """At least two linear maps, activations, norms and dropout around them, and one tensor that goes through."""
    parts = [part for part in module.modules() if not any(True for _ in part.children())]
    linear = [part for part in parts if isinstance(part, Map)]
    known = all(part in linear or _is_activation(part) for part in parts)
    return known and len(linear) > 1 and not _chooses(module) and _num_arguments(type(module)) == 1


def _is_activation(module: nn.Module) -> bool:
    """Of one number each, or of a token's channels."""
    place = type(module).__module__
    elementwise = place in {"transformers.activations", "torch.nn.modules.activation", "torch.nn.modules.dropout"}
    return (elementwise and not isinstance(module, nn.MultiheadAttention)) or _is_norm(module)


def _chooses(module: nn.Module) -> bool:
    """Whether it routes tokens to experts (Llama-4's routers are linear maps)."""
    stacked = any(parameter.ndim > 2 for parameter in module.parameters())
    return stacked or any("router" in type(part).__name__.lower() for part in module.modules())


def _are_experts(module: nn.Module) -> bool:
    """All of a layer in one tensor, for tokens whose experts are chosen."""
    stacked = any(parameter.ndim == 3 for parameter in module.parameters(recurse=False))
    return stacked and _num_arguments(type(module)) == 3


def _num_arguments(kind: type[nn.Module]) -> int:
    """Of its forward, beside itself; 0 if it takes any."""
    parameters = list(inspect.signature(kind.forward).parameters.values())[1:]
    return 0 if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters) else len(parameters)


@cache
def _say_once(message: str) -> None:
    log.info(message)
