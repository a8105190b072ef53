"""LOGO (arXiv 2410.18533): one chosen against M rejected responses, at synthesised positions.

Tang et al. 2024, "LOGO: Long cOntext aliGnment via efficient preference Optimization", ICML 2025.

Symbols: x the training context (critical and some irrelevant chunks, with synthesised position ids),
y_w chosen, y_l^1 ... y_l^M rejected, |y| scored tokens.

    L = -log sigmoid(beta/|y_w| log pi(y_w|x) - beta/M sum_j log pi(y_l^j|x) / |y_l^j| - gamma - m)
        + nll_weight * NLL(y_w|x)                                                      Eq. 2 and 3, where m = 0

Reference-free; m is the pair's own margin. The M length-normalised log-probabilities are averaged INSIDE
one sigmoid. Where paper and code disagree: Eq. 3 is printed with the opposite sign and without length
normalisation (we take the mean NLL of the chosen tokens); the public trainer's slice of the second rejected
response also holds the first one and its labels are not shifted (neither is copied).

Positions are the data module's business: `data.init_args.positions`.
"""

from typing import Any, ClassVar

from torch import Tensor
from torch.nn.functional import logsigmoid

from lit_longpo.batch import Scores, View, Views
from lit_longpo.objectives.base import PreferenceModule
from lit_longpo.objectives.rewards import Metrics, preference_metrics
from lit_longpo.ranges import check_range, check_scale, check_weight


def logo_loss(
    chosen: Tensor,
    rejected: Tensor,
    chosen_tokens: Tensor,
    rejected_tokens: Tensor,
    *,
    beta: float,
    gamma: float,
    nll_weight: float,
    margin: Tensor | float = 0.0,
) -> Tensor:
    """LOGO, Eq. 2 plus the regulariser of Eq. 3 (with its sign corrected, per token).

    Args:
        chosen: summed log-probabilities. Shape: (B,).
        rejected: summed log-probabilities. Shape: (B, M).
        chosen_tokens: scored tokens. Shape: (B,).
        rejected_tokens: scored tokens. Shape: (B, M).
        beta: reward scale.
        gamma: target margin.
        nll_weight: weight of the chosen response's mean NLL (the paper's lambda).
        margin: the pairs' own, added to gamma. Shape: (B,), or () for all.

    Returns:
        Per-example losses. Shape: (B,).
    """
    mean = chosen / chosen_tokens
    difference = beta * mean - beta * (rejected / rejected_tokens).mean(dim=1) - gamma - margin
    return -logsigmoid(difference) - nll_weight * mean


class LOGO(PreferenceModule):
    """SimPO against M rejected responses at once, with an NLL on the chosen one (arXiv 2410.18533).

    Args:
        beta: reward scale. The paper's (beta, gamma): Llama-3-8B (10, 3), Mistral-7B (2.5, 0.25),
            Llama-2-7B (3, 0.6).
        gamma: target margin.
        nll_weight: weight of the chosen response's mean NLL (the paper's lambda).
        num_rejected: M; every record needs that many rejected responses.
        **module: see `PreferenceModule`: policy, optimization, reference (unused).
    """

    synthesises_positions: ClassVar[bool] = True

    def __init__(
        self,
        beta: float = 10.0,
        gamma: float = 3.0,
        nll_weight: float = 0.1,
        num_rejected: int = 2,
        **module: Any,
    ) -> None:
        super().__init__(**module)
        check_range("LOGO.num_rejected", num_rejected, "2 is usual", at_least=1)
        check_scale("LOGO.beta", beta, "10 is the paper's for Llama-3-8B")
        check_weight("LOGO.gamma", gamma, "3 is the paper's for Llama-3-8B")
        check_weight("LOGO.nll_weight", nll_weight, "0.1 is the paper's")
        self.beta, self.gamma, self.nll_weight, self.num_rejected = beta, gamma, nll_weight, num_rejected

    @property
    def views(self) -> Views:
        """One chosen and M rejected responses of one long prompt."""
        views = (View("long", "chosen"), View("long", "rejected"))
        return Views(policy=views, num_rejected=self.num_rejected, margins=True)

    def loss(self, policy: Scores, reference: Scores | None) -> tuple[Tensor, Metrics]:
        """Per-example losses and metrics. Shape of each: (B,)."""
        chosen, chosen_tokens = policy.log_probs("long", "chosen"), policy.num_tokens("long", "chosen")
        rejected, rejected_tokens = policy.log_probs("long", "rejected"), policy.num_tokens("long", "rejected")
        losses = logo_loss(
            chosen,
            rejected,
            chosen_tokens,
            rejected_tokens,
            beta=self.beta,
            gamma=self.gamma,
            nll_weight=self.nll_weight,
            margin=policy.margins,
        )
        rewards = self.beta * chosen / chosen_tokens, self.beta * (rejected / rejected_tokens).mean(dim=1)
        return losses, preference_metrics(*rewards, chosen, rejected.mean(dim=1), -chosen / chosen_tokens)
