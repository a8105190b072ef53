"""Compares, at the start, what a model's rows may do beside plain ones: share tokens of prompts, and run in tiles.

Where log-probabilities differ, the model does without from then on.
"""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from lit_longpo.batch import Group, PackedBatch
from lit_longpo.engine.attention import UnsupportedModelError
from lit_longpo.engine.decoder import base_model
from lit_longpo.engine.modes import eval_mode
from lit_longpo.engine.packing import pack
from lit_longpo.engine.scoring import row_log_probs
from lit_longpo.engine.sharing import refuse_sharing
from lit_longpo.engine.startup.probe import TOLERANCE, coarsest_dtype, or_infinite, probe_groups
from lit_longpo.engine.tiling.tiled_layers import tiled_modules, tiles_of, untile

log = logging.getLogger(__name__)


def check_sharing(model: nn.Module) -> None:
    """Compare a row whose groups share tokens with one where they share none; take such rows apart if it differs."""
    base = base_model(model)
    plain, device = probe_groups(base.config.get_text_config())[0], next(base.parameters()).device
    refuse_sharing(base, None)
    with eval_mode(model):
        alone = row_log_probs(model, pack([plain]).to(device))
        shared = row_log_probs(model, pack(_sharing(plain), shared_from=2).to(device))
    first, second, _ = alone.split([len(response.token_ids) for response in plain.responses])
    expected = torch.cat([second, first[2:], first[4:]])
    error = or_infinite((shared - expected).abs().max() / expected.abs().max())
    if not error <= TOLERANCE[coarsest_dtype(base)]:
        refuse_sharing(base, f"its rows give other log-probabilities where groups share tokens (off by {error:.1e})")


def _sharing(group: Group) -> list[Group]:
    """Three groups whose prompts begin alike, with one response each.

    The first has the given prompt and its second response. The prompts of the others go on with 2 and 4 tokens of its
    first response; what follows these tokens is the response.
    """
    first, second, _ = group.responses
    groups = [replace(group, responses=(second,))]
    for number in (2, 4):
        rest = replace(first, token_ids=first.token_ids[number:], mask=first.mask[number:])
        prompt = group.prompt_ids + first.token_ids[:number]
        groups.append(replace(group, example=f"after {number}", prompt_ids=prompt, responses=(rest,)))
    return groups


def check_tiles(model: nn.Module) -> None:
    """Compare layers in tiles (`tiled_layers.py`) with whole ones on a short row; stop tiling if they differ.

    Args:
        model: perhaps PEFT-wrapped; how it is scored is settled.

    Raises:
        UnsupportedModelError: they differ, and the user has set a number of tokens for a tile.
    """
    if not tiled_modules(model):
        return
    base = base_model(model)
    row = pack(probe_groups(base.config.get_text_config())[:1]).to(next(base.parameters()).device)
    with eval_mode(model):
        with _without_several_outputs(model):
            whole = _log_probs_in_tiles(model, row, row.num_tokens)
        in_tiles = _log_probs_in_tiles(model, row, 5)
    error = or_infinite((in_tiles - whole).abs().max() / whole.abs().max())
    if error <= TOLERANCE[coarsest_dtype(base)]:
        return
    problem = f"{type(base).__name__} gives other log-probabilities in tiles (by {error:.1e})"
    if cast(Any, tiled_modules(model)[0]).tiles.tokens != "auto":
        raise UnsupportedModelError(f"{problem}: a part of its layers mixes tokens; type --policy.tile_tokens null")
    log.warning("layers are run whole: %s", problem)
    untile(model)


@contextmanager
def _without_several_outputs(model: nn.Module) -> Iterator[None]:
    """After a forward inside the block, modules that returned more than one tensor (Qwen4's residuals) are untiled."""
    several = list[nn.Module]()
    with ExitStack() as hooks:
        for module in tiled_modules(model):
            note = module.register_forward_hook(
                lambda module, _, output: None if isinstance(output, Tensor) else several.append(module)
            )
            hooks.callback(note.remove)
        yield
    for module in set(several):
        untile(module)


def _log_probs_in_tiles(model: nn.Module, row: PackedBatch, tokens: int) -> Tensor:
    with tiles_of(model, tokens):
        return row_log_probs(model, row)
