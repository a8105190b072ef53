"""IPO (arXiv 2310.12036): the log-ratio margin is regressed on a target instead of growing without bound.

Azar et al. 2023, "A General Theoretical Paradigm to Understand Learning from Human Preferences".

    L = (h - 1 / (2 beta))^2,   h = log (pi/ref)(y_w|x) - log (pi/ref)(y_l|x)          Eq. 17

Symbols: y_w chosen, y_l rejected, pi policy, ref reference, beta the paper's tau. Log-probabilities are summed over
a response, as the equation has them. With `per_token` each answer's log-ratio is divided by its number of tokens, as
TRL does, whose authors have the paper's authors' word that their results are of that form. SoLoPO's paper has no alpha
for IPO: ours is DPO's, whose reward is the same.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from lit_longpo.objectives.dpo import DPOAlgorithm
from lit_longpo.objectives.pairwise import PairwiseModule, Scored
from lit_longpo.ranges import check_scale


def ipo_loss(
    policy_chosen: Tensor,
    policy_rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    *,
    beta: float,
    chosen_tokens: Tensor | float = 1.0,
    rejected_tokens: Tensor | float = 1.0,
) -> Tensor:
    """IPO, Eq. 17: [(log pi/pi_ref)(y_w) - (log pi/pi_ref)(y_l) - 1 / (2 beta)]^2.

    Args:
        policy_chosen: summed log-probabilities. Shape: (B,).
        policy_rejected: summed log-probabilities. Shape: (B,).
        reference_chosen: summed log-probabilities. Shape: (B,).
        reference_rejected: summed log-probabilities. Shape: (B,).
        beta: strength of the constraint to the reference (the paper's tau); the margin's target is 1 / (2 beta).
        chosen_tokens: that divide the chosen log-ratio, if it is to be one of a token. Shape: (B,), or () for all.
        rejected_tokens: likewise. Shape: (B,), or () for all.

    Returns:
        Per-example losses. Shape: (B,).
    """
    chosen = (policy_chosen - reference_chosen) / chosen_tokens
    margin = chosen - (policy_rejected - reference_rejected) / rejected_tokens
    return (margin - 1 / (2 * beta)).square()


@dataclass(frozen=True)
class IPOAlgorithm(DPOAlgorithm):
    """IPO: r(x, y) = beta * log(pi_theta(y|x) / pi_ref(y|x)), DPO's reward with another loss.

    The target is IPO's margin, the same for all pairs. There is no sigmoid to subtract a pair's own margin in.
    """

    per_token: bool = False
    takes_margins: ClassVar[bool] = False

    def reward(self, response: Scored) -> Tensor:
        """Reward r(x, y), of a token with `per_token`. Shape: (B,)."""
        reward = super().reward(response)
        return reward / response.num_tokens if self.per_token else reward

    def loss(self, chosen: Scored, rejected: Scored) -> Tensor:
        """Per-example losses. Shape: (B,)."""
        return ipo_loss(
            chosen.log_probs,
            rejected.log_probs,
            chosen.reference_log_probs,
            rejected.reference_log_probs,
            beta=self.beta,
            chosen_tokens=chosen.num_tokens if self.per_token else 1.0,
            rejected_tokens=rejected.num_tokens if self.per_token else 1.0,
        )


class IPO(PairwiseModule):
    """Identity Preference Optimization (arXiv 2310.12036, Eq. 17).

    Args:
        beta: strength of the constraint to the reference (the paper's tau).
        per_token: divide each answer's log-ratio by its number of tokens, as TRL does.
        **module: see `PairwiseModule`: context, policy, optimization, reference.
    """

    def __init__(self, beta: float = 0.1, per_token: bool = False, **module: Any) -> None:
        check_scale("IPO.beta", beta, "0.1 is usual")
        super().__init__(IPOAlgorithm(beta, per_token), **module)
