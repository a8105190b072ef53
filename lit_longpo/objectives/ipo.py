"""IPO (arXiv 2310.12036): the log-ratio margin is regressed on a target instead of growing without bound.

Azar et al. 2023, "A General Theoretical Paradigm to Understand Learning from Human Preferences".

    L = (h - 1 / (2 beta))^2,   h = log (pi/ref)(y_w|x) - log (pi/ref)(y_l|x)          Eq. 17

Symbols: y_w chosen, y_l rejected, pi policy, ref reference, beta the paper's tau. Log-probabilities are summed over
a response, as in the paper; some public code averages them over its tokens. SoLoPO's paper has no alpha for IPO:
ours is DPO's, whose reward is the same.
"""

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
) -> Tensor:
    """IPO, Eq. 17: [(log pi/pi_ref)(y_w) - (log pi/pi_ref)(y_l) - 1 / (2 beta)]^2.

    Args:
        policy_chosen: summed log-probabilities. Shape: (B,).
        policy_rejected: summed log-probabilities. Shape: (B,).
        reference_chosen: summed log-probabilities. Shape: (B,).
        reference_rejected: summed log-probabilities. Shape: (B,).
        beta: strength of the constraint to the reference (the paper's tau); the margin's target is 1 / (2 beta).

    Returns:
        Per-example losses. Shape: (B,).
    """
    margin = (policy_chosen - reference_chosen) - (policy_rejected - reference_rejected)
    return (margin - 1 / (2 * beta)).square()


class IPOAlgorithm(DPOAlgorithm):
    """IPO: r(x, y) = beta * log(pi_theta(y|x) / pi_ref(y|x)), DPO's reward with another loss.

    The target is IPO's margin, the same for all pairs. There is no sigmoid to subtract a pair's own margin in.
    """

    takes_margins: ClassVar[bool] = False

    def loss(self, chosen: Scored, rejected: Scored) -> Tensor:
        """Per-example losses. Shape: (B,)."""
        return ipo_loss(
            chosen.log_probs,
            rejected.log_probs,
            chosen.reference_log_probs,
            rejected.reference_log_probs,
            beta=self.beta,
        )


class IPO(PairwiseModule):
    """Identity Preference Optimization (arXiv 2310.12036, Eq. 17).

    Args:
        beta: strength of the constraint to the reference (the paper's tau).
        **module: see `PairwiseModule`: context, policy, optimization, reference.
    """

    def __init__(self, beta: float = 0.1, **module: Any) -> None:
        check_scale("IPO.beta", beta, "0.1 is usual")
        super().__init__(IPOAlgorithm(beta), **module)
