"""How many tokens of a row a tile has.

A tile is short to save memory, or long enough to keep the device busy: see `auto_tile` and `quick_tile`.
"""

from typing import Literal

import torch
from torch import Tensor
from transformers import PretrainedConfig

from lit_longpo.engine.layers import experts_per_token
from lit_longpo.engine.tiling.tiles import autocast_dtype
from lit_longpo.errors import InputError

TileTokens = Literal["auto"] | int | None

SHORTEST, LONGEST = 256, 8192  # tokens of a tile that is chosen
SHORTEST_ON_GPU = 1024
FILLED = 8 * 2**20  # numbers that a GPU treats in no less time than its host takes to ask for it
MAPPED, SERVED = 32 * 2**20, 8 * 2**20  # bytes above which glibc maps a tensor anew each time; those of a quick one


def auto_tile(num_tokens: int, hidden: int, intermediate: int, *, on_cpu: bool) -> int | None:
    """Tokens of a tile that saves memory; `None` if the row is better run whole.

    In backward an MLP holds about 7 x intermediate size numbers per token. The rest of its layer holds 14 x hidden size
    and needs the whole row. Tiles that make the first a quarter of the second are small enough:

        tile = row x hidden / (2 x intermediate)

    rounded down to a power of two, so that few sizes occur. Below 256 tokens a CPU would wait for weights and their
    gradients, which are added up once per tile (tiles of 256 cost a step of 4,096 tokens 4 % with all weights trained,
    and save it 18 % under LoRA); above 8,192 tokens larger tiles gain nothing. A GPU gets tiles of at least four to
    eight million numbers: with 17 tiles per layer of a 0.5B model, a step of 17,408 tokens launched 46,800 kernels in
    place of 4,100, and took 1.16 s on an H200 (TRL: 0.58 s). Rows of fewer than two tiles stay whole.

    Args:
        num_tokens: of the row, or of a rank's part of it.
        hidden: channels of a token.
        intermediate: channels inside of the MLP.
        on_cpu: whether a CPU computes it.
    """
    wanted = num_tokens * hidden // (2 * max(intermediate, 1))
    least = SHORTEST if on_cpu else max(_power_of_two(FILLED // hidden), SHORTEST_ON_GPU)
    size = min(max(_power_of_two(wanted), least), LONGEST)
    return size if num_tokens >= 2 * size else None


def _power_of_two(number: int) -> int:
    """The largest power of two that is not above `number`; at least 1."""
    return 1 << max(number, 1).bit_length() - 1


def quick_tile(num_tokens: int, inside: int, itemsize: int) -> int | None:
    """Tokens of a tile that saves time on a CPU; `None` if the row is fastest whole.

    glibc reuses freed memory, but not that of tensors above 32 MiB: their pages go back to the system, and new ones are
    cleared and mapped one by one. An MLP makes a dozen such tensors per layer.

    Args:
        num_tokens: of the row, or of a rank's part of it.
        inside: channels inside of the MLP.
        itemsize: bytes of a number.
    """
    return max(SERVED // (inside * itemsize), 1) if num_tokens * inside * itemsize > MAPPED else None


def chosen_tile(
    num_tokens: int, sizes: tuple[int, int], *, recomputed: bool, quick: int | None, on_cpu: bool
) -> int | None:
    """Tokens of a tile under `policy.tile_tokens: auto`; `None` if the row is run whole.

    Args:
        num_tokens: of the row, or of a rank's part of it.
        sizes: channels of a token, and inside of an MLP.
        recomputed: whether to save memory: layers are recomputed for that, or there is no backward pass.
        quick: bytes of a number if tiles are to save time on a CPU; else `None`.
        on_cpu: whether a CPU computes the row.
    """
    if recomputed:
        return auto_tile(num_tokens, *sizes, on_cpu=on_cpu)
    return None if quick is None else quick_tile(num_tokens, sizes[1], quick)


def mlp_sizes(config: PretrainedConfig) -> tuple[int, int]:
    """Channels of a token, and channels inside of an MLP, summed over the experts that a token is sent to.

    Args:
        config: the model's; without an intermediate size, four times the hidden size is assumed.
    """
    text = config.get_text_config()
    names = ("moe_intermediate_size", "intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size")
    said = next((size for name in names if (size := getattr(text, name, None))), 4 * text.hidden_size)
    inside = max(said) if isinstance(said, list | tuple) else int(said)
    return int(text.hidden_size), inside * experts_per_token(text)


def check_tile_tokens(tokens: TileTokens) -> None:
    """Refuse tiles without tokens."""
    if isinstance(tokens, int) and tokens < 1:
        raise InputError(f"expected `policy.tile_tokens` of at least 1, auto or null, got {tokens}; 1024 is usual")


class Tiles:
    """How long a module's tiles are.

    Args:
        tokens: a number, or "auto".
        sizes: channels of a token, and inside of an MLP.
        recomputed: whether layers are recomputed in backward to save memory.
        quick: whether "auto" may save time on a CPU: all but attention is recomputed, and this is no norm.
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
