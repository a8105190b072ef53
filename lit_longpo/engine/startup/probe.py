"""Checks whether a packed row is exact for a model: by rules from its configuration, then by a probe.

The probe scores two tiny groups in one packed row, and as separate rows by the model's own logits, and compares the
two. (Counting attention calls would prove nothing: a Mamba branch beside attention passes the count.) One prompt has
a jump in its positions, which transformers would take for a boundary. In half precision the comparison is too blunt for
a layer whose state leaks a little. So models with recurrent layers must also keep responses apart to the bit, and every
state has to pass through the functions that `engine/states.py` wraps.

`scoring_plan.py` says what happens to a model that fails.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from lit_longpo.batch import Group, Response
from lit_longpo.engine.attention import (
    MissingKernelError,
    MissingTableError,
    UnsupportedModelError,
    ordinary_attention,
)
from lit_longpo.engine.decoder import base_model, decoder_of, passes_keywords_on
from lit_longpo.engine.generation.nan_logits import nan_error
from lit_longpo.engine.layers import dropout_problem, packing_refusal, takes_our_attention
from lit_longpo.engine.modes import eval_mode
from lit_longpo.engine.packing import pack
from lit_longpo.engine.scoring import row_log_probs
from lit_longpo.engine.startup.plain_forward import plain_log_probs
from lit_longpo.engine.startup.training_mode import mode_error, scored_as_trained
from lit_longpo.engine.states import mixers, share_states, unreachable_states, watch_states
from lit_longpo.engine.ulysses.sequence_parallel import sequence_ranks

TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 5e-2}


def check_model(model: nn.Module) -> float:
    """Refuse a model whose packed log-probabilities would be wrong.

    Args:
        model: loaded with the prefix-shared attention, perhaps PEFT-wrapped.

    Returns:
        The probe's largest error, relative to the largest log-probability.

    Raises:
        UnsupportedModelError: naming model class and cause.
        TrainingModeError: it gives other log-probabilities in training.
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
        TrainingModeError: it gives other log-probabilities in training.
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
            raise nan_error(coarsest_dtype(base))
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
    group, response = rows[max(range(len(rows)), key=lambda number: or_infinite(errors[number].max()))]
    return max(or_infinite(error.max()) for error in errors), f"response {response.index} of {group.example}"


def or_infinite(value: Tensor) -> float:
    """The number; infinity for NaN."""
    return float(value) if torch.isfinite(value) else float("inf")


def probe_groups(config: PretrainedConfig) -> list[Group]:
    """Two prompts, three responses each; the second prompt jumps in its positions."""
    generator = torch.Generator().manual_seed(0)
    vocabulary = min(config.vocab_size, getattr(config, "unpadded_vocab_size", None) or config.vocab_size)
    window = getattr(config, "sliding_window", None) or 0
    length = 24 + (window if window <= 256 else 0)

    def draw(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(5, vocabulary, (count,), generator=generator).tolist())

    jump = tuple(number if number < length // 2 else number + 100 for number in range(length))
    return [
        _probe_group("the plain prompt", draw, length, None),
        _probe_group("the jumping prompt", draw, length, jump),
    ]


def _probe_group(
    name: str, draw: Callable[[int], tuple[int, ...]], length: int, positions: tuple[int, ...] | None
) -> Group:
    responses = tuple(Response("rejected", draw(size), (True,) * size, index) for index, size in enumerate((5, 7, 3)))
    return Group(name, "long", draw(length), responses, positions)


def rows_of(groups: Sequence[Group]) -> list[tuple[Group, Response]]:
    """Each response with its group, in the order of a packed row."""
    return [(group, response) for group in groups for response in group.responses]
