"""ORPO (arXiv 2403.07691): supervised fine-tuning and an odds ratio against the rejected response.

Hong et al. 2024, "ORPO: Monolithic Preference Optimization without Reference Model".

    L = NLL(y_w|x) - beta * log sigmoid(log odds(y_w|x) - log odds(y_l|x) - m)         Eq. 6 and 7, where m = 0
    odds(y|x) = p(y|x) / (1 - p(y|x))                                                  Eq. 4

Symbols: y_w chosen, y_l rejected, pi policy, |y| scored tokens, beta the paper's lambda, m the pair's own
margin in log odds. A response's probability p is the geometric mean over its tokens,
exp(log pi(y|x) / |y|), as in the public implementation; the paper's text defines it by the same mean (Eq. 3).
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from lit_longpo.objectives.pairwise import PairwiseAlgorithm, PairwiseModule, Scored
from lit_longpo.ranges import check_scale


def log_odds(log_probs: Tensor, tokens: Tensor) -> Tensor:
    """log(p / (1 - p)) of the length-normalised probability p (ORPO, Eq. 4). Shape: as the arguments."""
    mean = log_probs / tokens
    # log(1 - exp(mean)): expm1 keeps its precision when p is close to 1; the clamp keeps p = 1 finite.
    return mean - torch.log(-torch.expm1(mean.clamp(max=-torch.finfo(mean.dtype).tiny)))


def orpo_loss(
    chosen: Tensor,
    rejected: Tensor,
    chosen_tokens: Tensor,
    rejected_tokens: Tensor,
    *,
    beta: float,
    margin: Tensor | float = 0.0,
) -> Tensor:
    """ORPO, Eq. 6: NLL(y_w) - beta * log sigmoid(log odds(y_w) - log odds(y_l)).

    Args:
        chosen: summed log-probabilities. Shape: (B,).
        rejected: summed log-probabilities. Shape: (B,).
        chosen_tokens: scored tokens. Shape: (B,).
        rejected_tokens: scored tokens. Shape: (B,).
        beta: weight of the odds-ratio term (the paper's lambda).
        margin: the pairs' own, subtracted from the log odds ratio. Shape: (B,), or () for all.

    Returns:
        Per-example losses, the length-averaged NLL of chosen included. Shape: (B,).
    """
    ratio = logsigmoid(log_odds(chosen, chosen_tokens) - log_odds(rejected, rejected_tokens) - margin)
    return -chosen / chosen_tokens - beta * ratio


@dataclass(frozen=True)
class ORPOAlgorithm(PairwiseAlgorithm):
    """ORPO: r(x, y) = log odds of the length-normalised probability; its NLL stays in the loss.

    SoLoPO's paper: alpha 1 for Qwen2.5-7B, 4 for Llama-3.1-8B.
    """

    beta: float
    takes_margins: ClassVar[bool] = True

    def reward(self, response: Scored) -> Tensor:
        """Reward r(x, y). Shape: (B,)."""
        return log_odds(response.log_probs, response.num_tokens)

    def loss(self, chosen: Scored, rejected: Scored) -> Tensor:
        """Per-example losses. Shape: (B,)."""
        return orpo_loss(
            chosen.log_probs,
            rejected.log_probs,
            chosen.num_tokens,
            rejected.num_tokens,
            beta=self.beta,
            margin=chosen.margin,
        )


class ORPO(PairwiseModule):
    """Odds Ratio Preference Optimization (arXiv 2403.07691, Eq. 6), reference-free.

    Args:
        beta: weight of the odds-ratio term.
        **module: see `PairwiseModule`: context, policy, optimization, reference (unused).
    """

    def __init__(self, beta: float = 0.1, **module: Any) -> None:
        check_scale("ORPO.beta", beta, "0.1 is usual")
        super().__init__(ORPOAlgorithm(beta), **module)
