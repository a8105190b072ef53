"""Decides how a model is scored: in packed rows, one sequence at a time, or not at all.

1. Packed rows are compared with separate ones (`probe.py`).
2. A model that fails there is scored one sequence at a time, through its own forward. That too is compared with the
   model's own logits.
3. If head weight times hidden states does not give these logits, the logits themselves are used
   (`sequential/own_logits.py`).
4. What still differs is refused: models whose tokens see later ones, and other models that are not causal.

Some models are only right at true positions; rows with synthesised ones are refused for them. At the end rows that
share tokens, and layers that run in tiles, are compared with plain ones (`comparisons.py`).
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

from torch import nn
from transformers import PreTrainedModel

from lit_longpo.engine.attention import MissingKernelError, UnsupportedModelError
from lit_longpo.engine.decoder import base_model, decoder_of
from lit_longpo.engine.head import check_head
from lit_longpo.engine.layers import dropout_problem
from lit_longpo.engine.modes import plain_mode
from lit_longpo.engine.rotary import angles_problem
from lit_longpo.engine.scoring import check_ranks, refuse_leaps
from lit_longpo.engine.sequential.own_logits import use_own_logits
from lit_longpo.engine.sequential.sequences import score_packed, score_sequentially
from lit_longpo.engine.sharing import sharing_problem
from lit_longpo.engine.startup.comparisons import check_sharing, check_tiles
from lit_longpo.engine.startup.plain_forward import (
    counts_from_zero,
    later_tokens_matter,
    reads_positions,
    repeats_itself,
)
from lit_longpo.engine.startup.probe import TOLERANCE, check_model, coarsest_dtype, probe, probe_groups
from lit_longpo.errors import error_text


@dataclass(frozen=True)
class ScoringPlan:
    """How a model's rows are scored.

    Args:
        path: "packed"; "sequential" if a packed row would be wrong; "own_logits", also one sequence at a time, if the
            product with the head's weight would be wrong too.
        error: the probe's largest error on that path, relative to the largest log-probability.
        cause: why not packed; `None` if packed.
        no_leaps: why prompts with synthesised positions are refused; `None` if they are not.
        no_sharing: why rows are taken apart whose groups share tokens; `None` if they are not.
    """

    path: Literal["packed", "sequential", "own_logits"]
    error: float
    cause: str | None = None
    no_leaps: str | None = None
    no_sharing: str | None = None


def plan_scoring(model: nn.Module) -> ScoringPlan:
    """Choose packed rows if they are exact, else one sequence at a time, and set the model up for it.

    Args:
        model: as `PolicyConfig.load` gives it, perhaps PEFT-wrapped.

    Raises:
        UnsupportedModelError: no way gives the model's own log-probabilities; names model class and cause.
        TrainingModeError: in training mode its log-probabilities differ from those in eval mode.
    """
    base = base_model(model)
    problem = dropout_problem(base.config.get_text_config()) or angles_problem(decoder_of(base))
    if problem is not None:
        raise UnsupportedModelError(f"{type(base).__name__} cannot be trained: {problem}")
    check_head(base)
    refuse_leaps(base, None)
    use_own_logits(base, False)
    score_packed(base)
    with _one_precision(base):
        plan = _plan(model)
    plan = replace(plan, no_leaps=plan.no_leaps or _unread_positions(model))
    refuse_leaps(base, plan.no_leaps)
    if plan.path == "packed":
        check_sharing(model)
    check_tiles(model)
    return replace(plan, no_sharing=sharing_problem(base))


def _plan(model: nn.Module) -> ScoringPlan:
    """In packed rows if they are exact, else one sequence at a time."""
    try:
        return ScoringPlan("packed", check_model(model))
    except MissingKernelError:
        raise
    except UnsupportedModelError as refused:
        return _plan_alone(model, str(refused))


@contextmanager
def _one_precision(base: PreTrainedModel) -> Iterator[None]:
    """Inside the block, say in one line that a model's own code computes in one precision (xLSTM, DeepSeek-V4)."""
    try:
        yield
    except RuntimeError as failure:
        if not re.search("same dtype|scalar type", str(failure)):
            raise
        precision = str(coarsest_dtype(base)).removeprefix("torch.")
        raise UnsupportedModelError(
            f"expected a model that computes in {precision}, got {type(base).__name__}, whose code multiplies numbers "
            f"of two precisions then ({error_text(failure)}); set `policy.dtype: float32` and, if it is another, "
            "`trainer.precision: 32-true`"
        ) from failure


def _plan_alone(model: nn.Module, cause: str) -> ScoringPlan:
    """One sequence at a time, by the head's weight or else by whole logits."""
    base = base_model(model)
    check_ranks(base)
    score_sequentially(base)
    try:
        return ScoringPlan("sequential", _error_alone(model), cause, _leap_problem(model))
    except UnsupportedModelError as refused:
        cause = f"{type(base).__name__} is scored by its own logits: {refused}"
    use_own_logits(base)
    try:
        return ScoringPlan("own_logits", _error_alone(model), cause, _leap_problem(model))
    except UnsupportedModelError as refused:
        raise UnsupportedModelError(_not_a_causal_model(model)) from refused


def _error_alone(model: nn.Module) -> float:
    """The probe's error of one sequence at a time, at true positions."""
    base = base_model(model)
    error, where = probe(model, probe_groups(base.config.get_text_config())[:1])
    if error <= TOLERANCE[coarsest_dtype(base)]:
        return error
    raise UnsupportedModelError(
        f"{where} differs from the model's own log-probabilities by {error:.1e}, although it was scored alone; its "
        "head changes logits in a way we do not know"
    )


def _not_a_causal_model(model: nn.Module) -> str:
    """The error message about a model whose own log-probabilities are not those of a causal language model."""
    base = base_model(model)
    tolerance = TOLERANCE[coarsest_dtype(base)]
    plain, _ = probe_groups(base.config.get_text_config())
    with plain_mode(model):
        repeats = repeats_itself(base, plain, tolerance)
        sees = repeats and later_tokens_matter(base, plain, tolerance)
    what = "whose log-probability of a token changes with how many follow it"
    if not repeats:
        what = "which does not give the same log-probability twice"
    elif sees:
        what = "whose tokens see later ones as an encoder's do, so that no answer has a log-probability"
    told = sees and getattr(base.config, "is_decoder", None) is False
    return (
        f"expected a causal language model, got {type(base).__name__}, {what}; choose a decoder as `policy.source`"
        + (", or set `is_decoder: true` in its config.json if it was trained as one" if told else "")
    )


def _leap_problem(model: nn.Module) -> str | None:
    """Why a sequence is not scored right at positions that leap; `None` if it is."""
    base = base_model(model)
    tolerance = TOLERANCE[coarsest_dtype(base)]
    plain, jumping = probe_groups(base.config.get_text_config())
    with plain_mode(model):
        if not counts_from_zero(base, plain):
            return "it counts positions in a way of its own"
        if later_tokens_matter(base, jumping, tolerance):  # by more than its answers are off, which may be within
            return "its layers go by positions to tell what came before, so that behind a leap a token sees later ones"
    error, _ = probe(model, [jumping])
    if error <= tolerance:
        return None
    return f"it gives others of its own log-probabilities there when it is scored alone (off by {error:.1e})"


def _unread_positions(model: nn.Module) -> str | None:
    """Why positions of one's own have no effect; `None` if they have one."""
    base = base_model(model)
    _, jumping = probe_groups(base.config.get_text_config())
    with plain_mode(model):
        return None if reads_positions(base, jumping) else "its layers read no positions, so these would do nothing"
