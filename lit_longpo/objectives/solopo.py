"""SoLoPO: short-to-long preference optimization.

    Sun et al. 2025, "SoLoPO: Unlocking Long-Context Capabilities in LLMs via Short-to-Long
    Preference Optimization", arXiv 2505.11166.

    L = L_PO(x_short, y_w, y_l) + alpha * s(| r(x_short, y_w) - r(x_long, y_w) |)

Symbols: x_short compressed context, x_long the same facts among distractors, y_w chosen, y_l
rejected, L_PO an unmodified pairwise algorithm (`base`), r its reward, alpha the weight of the
short-to-long reward alignment (SoLo-RA). The long rejected response is never scored in the
recommended form (`align: chosen`), which is where the saving comes from.

The paper's s(.) for each algorithm is in an appendix that was not available to us. s(z) = z is the
linear surrogate of the bound's s(z) = log(1 + e^z) for logistic losses; both and a square are offered.
Nor is it known whether the authors stop the gradient of the short reward: `detach_short`. Without it
the penalty may be met by lowering the short reward.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from lit_longpo.batch import Role, Scores, View, Views
from lit_longpo.errors import InputError
from lit_longpo.objectives.base import PreferenceModule
from lit_longpo.objectives.orpo import ORPO
from lit_longpo.objectives.pairwise import PairwiseModule, Scored, pair_metrics
from lit_longpo.objectives.rewards import Metrics
from lit_longpo.ranges import check_weight

Penalty = Literal["l1", "softplus", "squared"]

_BOTH: tuple[Role, ...] = ("chosen", "rejected")
_PENALTIES = {"l1": Tensor.abs, "softplus": lambda gap: softplus(gap.abs()), "squared": Tensor.square}


def solo_ra_penalty(
    reward_short: Tensor, reward_long: Tensor, *, penalty: Penalty = "l1", detach_short: bool = False
) -> Tensor:
    """Short-to-long reward alignment s(|r(x_short, y) - r(x_long, y)|).

    Args:
        reward_short: reward of one response in the short context. Shape: (B,).
        reward_long: reward of the same response in the long context. Shape: (B,).
        penalty: s(z): "l1" is z, "softplus" is log(1 + e^z), which is log 2 at 0, "squared" is z^2.
        detach_short: let gradients flow through the long reward only.

    Returns:
        Per-example penalties. Shape: (B,).

    Raises:
        InputError: unknown penalty.
    """
    if penalty not in _PENALTIES:
        raise InputError(f"expected `penalty` to be one of {sorted(_PENALTIES)}, got {penalty!r}")
    target = reward_short.detach() if detach_short else reward_short
    return _PENALTIES[penalty](target - reward_long)


def solopo_loss(
    base_loss: Tensor,
    reward_short: Tensor,
    reward_long: Tensor,
    *,
    alpha: float,
    penalty: Penalty = "l1",
    detach_short: bool = False,
) -> Tensor:
    """The base loss on the short views plus alpha times the alignment.

    Args:
        base_loss: per-example loss of the pairwise algorithm on the short context. Shape: (B,).
        reward_short: rewards in the short context. Shape: (B,) or (B, R) for R aligned responses.
        reward_long: rewards in the long context, same shape.
        alpha: weight of the alignment; 0 leaves the base loss.
        penalty: see `solo_ra_penalty`.
        detach_short: see `solo_ra_penalty`.

    Returns:
        Per-example losses; several aligned responses are added. Shape: (B,).
    """
    aligned = solo_ra_penalty(reward_short, reward_long, penalty=penalty, detach_short=detach_short)
    return base_loss + alpha * aligned.reshape(len(base_loss), -1).sum(dim=1)


class SoLoPO(PreferenceModule):
    """Short-to-long preference optimization (arXiv 2505.11166).

    Args:
        base: the pairwise objective on the short context; it brings the loss, and the reward to align. `None` means
            ORPO with its defaults.
        align: which response's reward is aligned between the contexts: "chosen" (recommended) or "both".
        penalty: s(.) of the alignment.
        detach_short: stop the gradient of the short reward inside the alignment.
        alpha: weight of the alignment; `None` takes the base's (`PairwiseAlgorithm.solopo_alpha`), which is the
            paper's: DPO 3, SimPO 1, ORPO 1.
        **module: see `PreferenceModule`: policy, optimization, reference (used by bases that need one).
    """

    def __init__(
        self,
        base: PairwiseModule | None = None,
        align: Literal["chosen", "both"] = "chosen",
        penalty: Penalty = "l1",
        detach_short: bool = True,
        alpha: float | None = None,
        **module: Any,
    ) -> None:
        super().__init__(**module)
        self.algorithm = (base or ORPO()).bare_algorithm()
        self.align = align
        self._roles: tuple[Role, ...] = ("chosen",) if align == "chosen" else _BOTH
        self.penalty: Penalty = penalty
        self.detach_short = detach_short
        self.alpha = self.algorithm.solopo_alpha if alpha is None else alpha
        check_weight("SoLoPO.alpha", self.alpha, "null takes what the base's paper tuned")

    def arguments(self) -> Iterator[tuple[str, Any]]:
        """The objective's own arguments; those of the base algorithm are called `base` and `base.<name>`."""
        for name, value in super().arguments():
            if name == "algorithm":
                yield "base", value.removesuffix("Algorithm")
            else:
                yield name.replace("algorithm.", "base."), value

    @property
    def views(self) -> Views:
        """Both responses in the short context, the aligned ones in the long context."""
        short = (View("short", "chosen"), View("short", "rejected"))
        views = short + tuple(View("long", role) for role in self._roles)
        reference = views if self.algorithm.needs_reference else ()
        return Views(policy=views, reference=reference, margins=self.algorithm.takes_margins)

    def loss(self, policy: Scores, reference: Scores | None) -> tuple[Tensor, Metrics]:
        """Per-example losses and metrics of the short pair and the alignment. Shape of each: (B,)."""
        short = {role: Scored.of(View("short", role), policy, reference) for role in _BOTH}
        long = {role: Scored.of(View("long", role), policy, reference) for role in self._roles}
        reward_short, reward_long = self._aligned_rewards(short), self._aligned_rewards(long)
        base_loss = self.algorithm.loss(short["chosen"], short["rejected"])
        losses = solopo_loss(
            base_loss,
            reward_short,
            reward_long,
            alpha=self.alpha,
            penalty=self.penalty,
            detach_short=self.detach_short,
        )
        return losses, {
            **pair_metrics(self.algorithm, short["chosen"], short["rejected"]),
            "solo_ra": solo_ra_penalty(reward_short, reward_long, penalty=self.penalty).sum(dim=1).detach(),
            "logps/long_chosen": long["chosen"].log_probs.detach(),
            "rewards/long_chosen": reward_long[:, 0].detach(),
        }

    def _aligned_rewards(self, scored: Mapping[Role, Scored]) -> Tensor:
        """Rewards of the R responses that are aligned, in one context. Shape: (B, R)."""
        return torch.stack([self.algorithm.reward(scored[role]) for role in self._roles], dim=1)
