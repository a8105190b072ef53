"""Hidden states -> token log-probabilities, in tiles, with a backward of its own.

The logits of all scored tokens never exist at once: each tile is projected, reduced to its
log-sum-exp and the target's logit, and thrown away; backward projects it again. Only the last one waits for
backward, which begins with it: a tile has to be there then in any case, and short responses are one tile. Tiles are
written one over the other: glibc gives memory of that size back to the system, which clears it for the next tile page
by page, and that took longer than the product. The weight's gradient is summed in one fp32 buffer, because rounding
every tile's share to bf16 biases training.

Shape legend: N scored tokens, C hidden size, V vocabulary.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lit_longpo.engine.tiling import tiles
from lit_longpo.engine.tiling.tiles import accumulation_dtype


@dataclass(frozen=True)
class LogitTransform:
    """What a model does to `hidden @ weight.T + bias` before the softmax.

    Args:
        scale: factor on the raw logits.
        softcap: logits become `softcap * tanh(logits / softcap)`; `None` leaves them.
    """

    scale: float = 1.0
    softcap: float | None = None

    def __call__(self, logits: Tensor) -> Tensor:
        """Transformed logits, same shape."""
        logits = logits if self.scale == 1.0 else logits * self.scale
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)

    def backward(self, grad: Tensor, logits: Tensor) -> Tensor:
        """Gradient with respect to the raw logits. Shape: as the arguments.

        Args:
            grad: gradient with respect to the transformed logits.
            logits: the transformed logits.
        """
        if self.softcap is not None:
            grad = grad * (1.0 - (logits / self.softcap).square())
        return grad if self.scale == 1.0 else grad * self.scale


TILE_BYTES = 64 * 2**20  # of fp32 logits that exist at a time


def token_log_probs(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    bias: Tensor | None = None,
    transform: LogitTransform | None = None,
    tile_bytes: int = TILE_BYTES,
) -> Tensor:
    """Log-probability of each target.

    Args:
        hidden: last hidden states of the predicting positions. Shape: (N, C).
        weight: head weight. Shape: (V, C).
        targets: token ids. Shape: (N,).
        bias: head bias. Shape: (V,).
        transform: logit scale and soft-cap.
        tile_bytes: memory of one fp32 tile of logits; tiles hold at least one token.

    Returns:
        Natural-log probabilities in fp32 (fp64 for fp64 inputs). Shape: (N,).
    """
    rows = _tile_rows(len(targets), weight.shape[0], tile_bytes)
    return _TokenLogProbs.apply(hidden, weight, bias, targets, transform or LogitTransform(), rows)


def projected_twice(scored: int, vocabulary: int) -> int:
    """The number of tokens whose logits backward recomputes: those of all tiles but the last.

    With a soft-cap it recomputes all of them, which is not counted here.
    """
    rows = _tile_rows(scored, vocabulary, TILE_BYTES)
    return max(scored - 1, 0) // rows * rows


def _tile_rows(scored: int, vocabulary: int, tile_bytes: int) -> int:
    """Rows of a tile, for as few tiles as fit, of about equal length: the last one is kept in the others' memory."""
    most = max(1, tile_bytes // (4 * vocabulary))
    return math.ceil(max(scored, 1) / math.ceil(max(scored, 1) / most))


def _tile_logits(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, transform: LogitTransform, used: Tensor | None
) -> Tensor:
    """Transformed logits of one tile in fp32, over those of a tile that is done with. Shape: (rows, V)."""
    if used is None:
        logits = torch.nn.functional.linear(hidden, weight, bias)
    elif bias is None:
        logits = torch.mm(hidden, weight.T, out=used[: len(hidden)])
    else:
        logits = torch.addmm(bias, hidden, weight.T, out=used[: len(hidden)])
    return transform(logits.to(accumulation_dtype(logits.dtype)))


class _TokenLogProbs(torch.autograd.Function):
    """One autograd node around all tiles."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        transform: LogitTransform,
        rows: int,
    ) -> Tensor:
        scores = hidden.new_empty(2, len(targets), dtype=accumulation_dtype(hidden.dtype))
        used: Tensor | None = None
        reuses = _is_written_over(hidden, weight, transform)
        for part in tiles.slices(len(targets), rows):
            last = None  # the tile before goes first, or is written over
            logits = _tile_logits(hidden[part], weight, bias, transform, used)
            last = _reduced(logits, targets[part], scores[:, part])
            used = logits if reuses and used is None else used  # no later tile is longer
            del logits
        picked, log_sum = scores.unbind()
        ctx.save_for_backward(hidden, weight, bias, targets, log_sum)
        ctx.last = last if transform.softcap is None else None  # the soft-cap's derivative needs logits
        ctx.transform, ctx.rows, ctx.used = transform, rows, used
        device = hidden.device.type
        ctx.autocast = (device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device))
        return picked - log_sum

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets, log_sum = ctx.saved_tensors
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        buffer = accumulation_dtype(weight.dtype)
        grad_hidden = torch.empty_like(hidden) if wants_hidden else None
        grad_weight = torch.empty_like(weight, dtype=buffer) if wants_weight else None
        grad_bias = torch.zeros_like(bias, dtype=buffer) if wants_bias and bias is not None else None
        filled = 0  # factor of what is in the weight's gradient before a tile's share comes
        used, ctx.used = ctx.used, None
        device, dtype, enabled = ctx.autocast
        for part in reversed(list(tiles.slices(len(targets), ctx.rows))):
            with torch.autocast(device, dtype, enabled):  # the same rounding as in forward
                grad = _grad_logits(ctx, hidden[part], weight, bias, targets[part], log_sum[part], grads[0][part], used)
            if grad_bias is not None:
                grad_bias += grad.sum(dim=0)
            if grad_hidden is not None:
                grad_hidden[part] = grad.to(weight.dtype) @ weight
            if grad_weight is not None:
                grad_weight.addmm_(grad.T, hidden[part].to(buffer), beta=filled)
                filled = 1
            del grad  # before the next tile comes
        return (
            grad_hidden,
            None if grad_weight is None else grad_weight.to(weight.dtype),
            None if grad_bias is None else grad_bias.to(bias.dtype),
            None,
            None,
            None,
        )


def _is_written_over(hidden: Tensor, weight: Tensor, transform: LogitTransform) -> bool:
    """Whether a tile's product can take the memory of the tile before: nothing is converted or transformed."""
    exact = hidden.dtype == weight.dtype == accumulation_dtype(weight.dtype)
    return exact and transform == LogitTransform() and not torch.is_autocast_enabled(hidden.device.type)


def _reduced(logits: Tensor, targets: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Write the targets' logits and all logits' log-sum-exp into `scores`, in the tile's own memory.

    Returns:
        What is left there, exp(logits - shift), shape (rows, V), and the shift, shape (rows,).
    """
    scores[0] = logits.gather(1, targets.unsqueeze(1)).squeeze(1)
    largest = logits.amax(dim=-1)
    exponentials = logits.sub_(largest.unsqueeze(1)).exp_()
    scores[1] = exponentials.sum(dim=-1).log_().add_(largest)
    return exponentials, largest


def _grad_logits(
    ctx: Any,
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    log_sum: Tensor,
    grad: Tensor,
    used: Tensor | None,
) -> Tensor:
    """Gradient by one tile's raw logits: g * (onehot(target) - softmax). Shape: (rows, V)."""
    kept, ctx.last = ctx.last, None  # its memory takes the result, so it serves once
    if kept is None:
        logits = _tile_logits(hidden, weight, bias, ctx.transform, used)
        # Only the soft-cap's derivative needs the logits again; without it their memory takes the result.
        softmax = logits.clone() if ctx.transform.softcap is not None else logits
        softmax.sub_(log_sum.unsqueeze(1)).exp_()
        factor = grad
    else:
        logits = softmax = kept[0]
        factor = grad * (kept[1] - log_sum).exp()
    result = softmax.mul_(-factor.unsqueeze(1))
    result.scatter_add_(1, targets.unsqueeze(1), grad.unsqueeze(1))
    return ctx.transform.backward(result, logits)
