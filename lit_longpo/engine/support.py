"""Start-up check of whether a packed row is exact for this model: rules from its configuration, then a probe.

The probe scores two tiny groups in one packed row, and as separate rows by the model's own logits, and compares the
two. (Counting attention calls would prove nothing: a Mamba branch beside attention passes the count.) One prompt has
a jump in its positions, which transformers would take for a boundary. In half precision the comparison is too blunt for
a layer whose state leaks a little. So models with recurrent layers must also keep responses apart to the bit, and every
state has to pass through the functions that `states.py` wraps.

`scoring_plan.py` says what happens to a model that fails.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from lit_longpo.batch import Group, PackedBatch, Response
from lit_longpo.engine.attention import (
    MissingKernelError,
    MissingTableError,
    UnsupportedModelError,
    ordinary_attention,
)
from lit_longpo.engine.chance import mode_error, scored_as_trained
from lit_longpo.engine.decoder import base_model, decoder_of, passes_keywords_on
from lit_longpo.engine.generation.numbers import no_numbers
from lit_longpo.engine.layers import dropout_problem, packing_refusal, takes_our_attention
from lit_longpo.engine.modes import eval_mode
from lit_longpo.engine.packing import pack
from lit_longpo.engine.probe_rows import probe_groups, rows_of
from lit_longpo.engine.scoring import row_log_probs
from lit_longpo.engine.sequential.plain_forward import plain_log_probs
from lit_longpo.engine.sharing import refuse_sharing
from lit_longpo.engine.states import mixers, share_states, unreachable_states, watch_states
from lit_longpo.engine.tiling.tiled_layers import tiled_modules, tiles_of, untile
from lit_longpo.engine.ulysses.sequence_parallel import sequence_ranks

log = logging.getLogger(__name__)

TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 5e-2}


def check_model(model: nn.Module) -> float:
    """Refuse a model whose packed log-probabilities would be wrong.

    Args:
        model: loaded with the prefix-shared attention, perhaps PEFT-wrapped.

    Returns:
        The probe's largest error, relative to the largest log-probability.

    Raises:
        UnsupportedModelError: naming model class and cause.
        ChanceError: it gives other log-probabilities in training.
        InputError: its log-probabilities are NaN.
    """
    base = base_model(model)
    share_states(base)
    if (cause := packing_rule(base)) is not None:
        raise _not_packed(base, cause)
    try:
        error, where = probe(model)
        leak = leaked_states(model) if mixers(base) else None
    except MissingKernelError:
        raise
    except UnsupportedModelError as refused:
        raise _not_packed(base, packing_cause(refused)) from refused
    if leak is not None:
        raise _not_packed(base, leak)
    tolerance = TOLERANCE[coarsest_dtype(base)]
    if not error <= tolerance:
        cause = (
            f"{where} differs from separate rows by {error:.1e} (tolerance {tolerance:.0e}). A layer carries state "
            "between responses, the head changes its logits in a way we do not know, or keywords are dropped on the "
            "way to attention"
        )
        raise _not_packed(base, cause)
    return error


def _not_packed(base: PreTrainedModel, cause: str) -> UnsupportedModelError:
    return UnsupportedModelError(f"{type(base).__name__} cannot be trained in packed rows: {cause}")


def packing_rule(base: PreTrainedModel) -> str | None:
    """Why packed rows are ruled out without trying; `None` if they may be exact."""
    text = base.config.get_text_config()
    if not takes_our_attention(base):
        return "it does not call attention through transformers' interface"
    if not passes_keywords_on(decoder_of(base)):
        return "its forward takes no segment table"
    if sequence_ranks().size > 1 and mixers(base):
        return "its layers carry state along the row, which ranks that share it cannot hand on"
    return packing_refusal(text) or dropout_problem(text) or unreachable_states(base, text)


def packing_cause(refused: UnsupportedModelError) -> str:
    """The cause of a refused packed row in the user's words; attention itself cannot tell who has called it."""
    return refused.in_a_packed_row if isinstance(refused, MissingTableError) else str(refused)


def leaked_states(model: nn.Module) -> str | None:
    """How a state leaks from one response into another, however little; `None` if none does."""
    base = base_model(model)
    groups = probe_groups(base.config.get_text_config())
    device = next(base.parameters()).device
    others = [replace(group, responses=(_reversed(group.responses[0]), *group.responses[1:])) for group in groups]
    with eval_mode(model):
        problem = watch_states(base)
        before = row_log_probs(model, pack(groups).to(device))
        if (missed := problem()) is not None:
            return missed
        after = row_log_probs(model, pack(others).to(device))
    sizes = [len(response.token_ids) for _, response in rows_of(groups)]
    kept = [response.index > 0 for _, response in rows_of(groups)]
    pairs = zip(before.split(sizes), after.split(sizes), kept, strict=True)
    same = all(torch.equal(one, other) for one, other, stays in pairs if stays)
    return None if same else "a layer carries state from one response to the next"


def _reversed(response: Response) -> Response:
    return replace(response, token_ids=response.token_ids[::-1])


def coarsest_dtype(model: nn.Module) -> torch.dtype:
    """The dtype with the fewest bits among those of the embeddings and of products with 4-bit weights."""
    said = {getattr(module, "compute_dtype", None) for module in model.modules()}
    dtypes = [next(model.parameters()).dtype, *(dtype for dtype in said if isinstance(dtype, torch.dtype))]
    return min(dtypes, key=lambda dtype: torch.finfo(dtype).bits)


@torch.no_grad()
def probe(model: nn.Module, groups: Sequence[Group] | None = None) -> tuple[float, str]:
    """Largest relative error of the packed row against separate rows, and the response it came from.

    A model in training mode scores the packed row in that mode, as it will in the run; separate rows use eval mode.

    Args:
        model: perhaps PEFT-wrapped.
        groups: the rows; `None` means all of `probe_groups`.

    Raises:
        ChanceError: it gives other log-probabilities in training.
        InputError: the model's own log-probabilities are NaN.
    """
    base = base_model(model)
    groups = groups or probe_groups(base.config.get_text_config())
    row = pack(groups).to(next(base.parameters()).device)
    packed = scored_as_trained(model, partial(row_log_probs, model, row))
    training = model.training
    with eval_mode(model):
        with ordinary_attention(base):
            separate = torch.cat([plain_log_probs(base, group, response) for group, response in rows_of(groups)])
        if bool(separate.isnan().any()):
            raise no_numbers(coarsest_dtype(base))
        worst = _worst(packed, separate, groups)
        if training and not worst[0] <= TOLERANCE[coarsest_dtype(base)]:
            without = _worst(row_log_probs(model, row), separate, groups)
            if without[0] <= TOLERANCE[coarsest_dtype(base)]:
                raise mode_error(model)
    return worst


def _worst(packed: Tensor, separate: Tensor, groups: Sequence[Group]) -> tuple[float, str]:
    """The largest error, relative to the largest log-probability, and the response it belongs to."""
    rows = rows_of(groups)
    errors = ((packed - separate).abs() / separate.abs().max()).split([len(one.token_ids) for _, one in rows])
    group, response = rows[max(range(len(rows)), key=lambda number: _or_infinite(errors[number].max()))]
    return max(_or_infinite(error.max()) for error in errors), f"response {response.index} of {group.example}"


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
    error = _or_infinite((shared - expected).abs().max() / expected.abs().max())
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
    error = _or_infinite((in_tiles - whole).abs().max() / whole.abs().max())
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


def _or_infinite(value: Tensor) -> float:
    return float(value) if torch.isfinite(value) else float("inf")
