"""Negative log-likelihoods of windows, from the engine's packed rows and tiled log-probabilities."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

import torch
from torch import Tensor, nn

from evaluation.perplexity.windows import Windows
from lit_longpo.batch import Group, Response
from lit_longpo.engine import base_model, nan_error, pack, plan_scoring
from lit_longpo.engine.scoring import row_log_probs
from lit_longpo.errors import InputError
from lit_longpo.policy.window import readable_positions

_BINS = 32


@dataclass(frozen=True)
class LengthResult:
    """What was measured at one length.

    Args:
        length: tokens of a window.
        losses: mean negative log-likelihood of the counted tokens of each window, nats.
        curve: mean negative log-likelihood by position, of all windows: first position and mean of each stretch.
    """

    length: int
    losses: tuple[float, ...]
    curve: tuple[tuple[int, float], ...]

    @property
    def nll(self) -> float:
        """Plain mean over windows, nats a token."""
        return fmean(self.losses)

    @property
    def perplexity(self) -> float:
        """The exponential of that mean."""
        return math.exp(self.nll)


def measure(
    model: nn.Module,
    tokens: Sequence[int],
    windows: Windows,
    *,
    front: Sequence[int] = (),
    advance: Callable[[int], None] = lambda num_tokens: None,
) -> Iterator[LengthResult]:
    """Perplexity at every length, one after another.

    Args:
        model: as `PolicyConfig.load_base` gives it.
        tokens: of all texts.
        windows: which parts of them are read.
        front: tokens put before every window, within its length; they count for nothing.
        advance: told how many tokens have been read.

    Raises:
        InputError: a length is more than the model can read, or than there are tokens; its logits are no numbers.
        UnsupportedModelError: the model cannot be scored exactly.
    """
    check_window_lengths(model, windows, len(tokens) + len(front), len(front))
    plan_scoring(model)
    model.eval()
    for length in windows.lengths:
        yield _of_length(model, tokens, windows, tuple(front), length, advance)


def check_window_lengths(model: nn.Module, windows: Windows, num_tokens: int, num_front: int) -> None:
    """Refuse lengths that model or texts have no room for."""
    window = readable_positions(base_model(model).config)
    if window is not None and windows.lengths[-1] > window:
        raise InputError(
            f"expected lengths of at most {window:,} tokens, the model's window, got {windows.lengths[-1]:,}; lower "
            "--lengths, or stretch the window with --policy.rope"
        )
    if windows.first_counted(windows.lengths[0]) < num_front:
        raise InputError(
            f"expected lengths with room for {num_front} tokens in front, got {windows.lengths[0]}; raise --lengths"
        )
    windows.starts(windows.lengths[-1], num_tokens)


def window_nll(model: nn.Module, ids: Sequence[int]) -> Tensor:
    """Negative log-likelihood of every token of a window but its first, fp32. Shape: (num_ids - 1,)."""
    rest = tuple(ids[1:])
    group = Group("window", "long", (ids[0],), (Response("chosen", rest, (True,) * len(rest)),))
    with torch.no_grad():
        return -row_log_probs(model, pack([group]).to(next(model.parameters()).device))


def _of_length(
    model: nn.Module,
    tokens: Sequence[int],
    windows: Windows,
    front: tuple[int, ...],
    length: int,
    advance: Callable[[int], None],
) -> LengthResult:
    own = length - len(front)
    starts, losses = windows.starts(own, len(tokens)), list[float]()
    sums = torch.zeros(length - 1, dtype=torch.float64)
    first = max(windows.first_counted(length), len(front), 1)
    for start in starts:
        nll = window_nll(model, (*front, *tokens[start : start + own])).double().cpu()
        if nll.isnan().any():
            raise nan_error(base_model(model).dtype)
        sums += nll
        losses.append(float(nll[first - 1 :].mean()))
        advance(length)
    return LengthResult(length, tuple(losses), _curve(sums / len(starts), max(len(front), 1)))


def _curve(means: Tensor, first: int) -> tuple[tuple[int, float], ...]:
    """Stretches that grow in proportion to their position, as context matters in proportion. Shape: (length - 1,)."""
    last = len(means)  # the token at position p is the one that means[p - 1] predicts
    steps = (round(first * (last / first) ** (step / _BINS)) for step in range(_BINS))
    edges = [*dict.fromkeys(steps), last + 1]
    return tuple((begin, float(means[begin - 1 : end - 1].mean())) for begin, end in pairwise(edges))
