"""DPO (arXiv 2305.18290): a classifier between two responses, whose reward is the log-ratio to the reference.

Rafailov et al. 2023, "Direct Preference Optimization: Your Language Model is Secretly a Reward Model".

    L = -log sigmoid(beta * [log (pi/ref)(y_w|x) - log (pi/ref)(y_l|x)] - m)           Eq. 7, where m = 0

Symbols: y_w chosen, y_l rejected, pi policy, ref reference, m the pair's own margin, an offset between the rewards as
in Amini et al. 2024 (ODPO, arXiv 2402.10571); log-probabilities are summed over a response.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor
from torch.nn.functional import logsigmoid

from lit_longpo.objectives.pairwise import PairwiseAlgorithm, PairwiseModule, Scored
from lit_longpo.ranges import check_scale


def dpo_loss(
    policy_chosen: Tensor,
    policy_rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    *,
    beta: float,
    margin: Tensor | float = 0.0,
) -> Tensor:
    """DPO, Eq. 7: -log sigmoid(beta * [(log pi/pi_ref)(y_w) - (log pi/pi_ref)(y_l)]).

    Args:
        policy_chosen: summed log-probabilities. Shape: (B,).
        policy_rejected: summed log-probabilities. Shape: (B,).
        reference_chosen: summed log-probabilities. Shape: (B,).
        reference_rejected: summed log-probabilities. Shape: (B,).
        beta: strength of the constraint to the reference.
        margin: the pairs' own, subtracted from the difference of rewards. Shape: (B,), or () for all.

    Returns:
        Per-example losses. Shape: (B,).
    """
    ratio = (policy_chosen - reference_chosen) - (policy_rejected - reference_rejected)
    return -logsigmoid(beta * ratio - margin)


@dataclass(frozen=True)
class DPOAlgorithm(PairwiseAlgorithm):
    """DPO: r(x, y) = beta * log(pi_theta(y|x) / pi_ref(y|x))."""

    beta: float
    needs_reference: ClassVar[bool] = True
    takes_margins: ClassVar[bool] = True
    solopo_alpha: ClassVar[float] = 3.0

    def reward(self, response: Scored) -> Tensor:
        """Reward r(x, y). Shape: (B,)."""
        return self.beta * (response.log_probs - response.reference_log_probs)

    def loss(self, chosen: Scored, rejected: Scored) -> Tensor:
        """Per-example losses. Shape: (B,)."""
        return dpo_loss(
            chosen.log_probs,
            rejected.log_probs,
            chosen.reference_log_probs,
            rejected.reference_log_probs,
            beta=self.beta,
            margin=chosen.margin,
        )


class DPO(PairwiseModule):
    """Direct Preference Optimization (arXiv 2305.18290, Eq. 7).

    Args:
        beta: strength of the constraint to the reference.
        **module: see `PairwiseModule`: context, policy, optimization, reference.
    """

    def __init__(self, beta: float = 0.1, **module: Any) -> None:
        check_scale("DPO.beta", beta, "0.1 is usual")
        super().__init__(DPOAlgorithm(beta), **module)
