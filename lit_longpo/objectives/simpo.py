"""SimPO (arXiv 2405.14734): DPO's classifier without a reference, on length-averaged log-probabilities.

Meng et al. 2024, "SimPO: Simple Preference Optimization with a Reference-Free Reward".

    L = -log sigmoid(beta/|y_w| log pi(y_w|x) - beta/|y_l| log pi(y_l|x) - gamma - m)  Eq. 6, where m = 0

Symbols: y_w chosen, y_l rejected, pi policy, |y| scored tokens, gamma the target margin, m the pair's own.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor
from torch.nn.functional import logsigmoid

from lit_longpo.objectives.pairwise import PairwiseAlgorithm, PairwiseModule, Scored
from lit_longpo.ranges import check_scale, check_weight


def simpo_loss(
    chosen: Tensor,
    rejected: Tensor,
    chosen_tokens: Tensor,
    rejected_tokens: Tensor,
    *,
    beta: float,
    gamma: float,
    margin: Tensor | float = 0.0,
) -> Tensor:
    """SimPO, Eq. 6: -log sigmoid(beta/|y_w| log pi(y_w) - beta/|y_l| log pi(y_l) - gamma).

    Args:
        chosen: summed log-probabilities. Shape: (B,).
        rejected: summed log-probabilities. Shape: (B,).
        chosen_tokens: scored tokens. Shape: (B,).
        rejected_tokens: scored tokens. Shape: (B,).
        beta: reward scale.
        gamma: target margin (the paper's gamma, not gamma / beta).
        margin: the pairs' own, added to gamma. Shape: (B,), or () for all.

    Returns:
        Per-example losses. Shape: (B,).
    """
    return -logsigmoid(beta * chosen / chosen_tokens - beta * rejected / rejected_tokens - gamma - margin)


@dataclass(frozen=True)
class SimPOAlgorithm(PairwiseAlgorithm):
    """SimPO: r(x, y) = beta / |y| * log pi_theta(y|x); the margin is in the loss only. SoLoPO's paper: alpha 1."""

    beta: float
    gamma: float
    takes_margins: ClassVar[bool] = True

    def reward(self, response: Scored) -> Tensor:
        """Reward r(x, y). Shape: (B,)."""
        return self.beta * response.log_probs / response.num_tokens

    def loss(self, chosen: Scored, rejected: Scored) -> Tensor:
        """Per-example losses. Shape: (B,)."""
        return simpo_loss(
            chosen.log_probs,
            rejected.log_probs,
            chosen.num_tokens,
            rejected.num_tokens,
            beta=self.beta,
            gamma=self.gamma,
            margin=chosen.margin,
        )


class SimPO(PairwiseModule):
    """Simple Preference Optimization (arXiv 2405.14734, Eq. 6), reference-free.

    Args:
        beta: reward scale.
        gamma: target margin.
        **module: see `PairwiseModule`: context, policy, optimization, reference (unused).
    """

    def __init__(self, beta: float = 2.0, gamma: float = 1.0, **module: Any) -> None:
        check_scale("SimPO.beta", beta, "2.0 is usual")
        check_weight("SimPO.gamma", gamma, "1.0 is usual")
        super().__init__(SimPOAlgorithm(beta, gamma), **module)
