"""The baselines: SFT, DPO, SimPO and ORPO, and their rewards, which SoLoPO aligns.

    DPO    Rafailov et al. 2023, "Direct Preference Optimization", arXiv 2305.18290, Eq. 7
    SimPO  Meng et al. 2024, "SimPO: Simple Preference Optimization with a Reference-Free Reward",
           arXiv 2405.14734, Eq. 6
    ORPO   Hong et al. 2024, "ORPO: Monolithic Preference Optimization without Reference Model",
           arXiv 2403.07691, Eq. 6 and 7

Symbols: y_w chosen, y_l rejected, pi_theta policy, pi_ref reference, |y| scored tokens. ORPO's
probability of a response is the geometric mean over its tokens, exp(log pi(y|x) / |y|), as in its
public implementation; the paper's text defines it by the same mean (Eq. 1).
"""

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from lit_longpo.batch import Context, Scores, View, Views
from lit_longpo.objectives.base import Metrics, PreferenceModule, preference_metrics
from lit_longpo.optimization import Optimization
from lit_longpo.policy import PolicyConfig, ReferenceConfig


def dpo_loss(
    policy_chosen: Tensor,
    policy_rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    *,
    beta: float,
) -> Tensor:
    """DPO, Eq. 7: -log sigmoid(beta * [(log pi/pi_ref)(y_w) - (log pi/pi_ref)(y_l)]).

    Args:
        policy_chosen: summed log-probabilities. Shape: (B,).
        policy_rejected: summed log-probabilities. Shape: (B,).
        reference_chosen: summed log-probabilities. Shape: (B,).
        reference_rejected: summed log-probabilities. Shape: (B,).
        beta: strength of the constraint to the reference.

    Returns:
        Per-example losses. Shape: (B,).
    """
    return -logsigmoid(beta * ((policy_chosen - reference_chosen) - (policy_rejected - reference_rejected)))


def simpo_loss(
    chosen: Tensor,
    rejected: Tensor,
    chosen_tokens: Tensor,
    rejected_tokens: Tensor,
    *,
    beta: float,
    gamma: float,
) -> Tensor:
    """SimPO, Eq. 6: -log sigmoid(beta/|y_w| log pi(y_w) - beta/|y_l| log pi(y_l) - gamma).

    Args:
        chosen: summed log-probabilities. Shape: (B,).
        rejected: summed log-probabilities. Shape: (B,).
        chosen_tokens: scored tokens. Shape: (B,).
        rejected_tokens: scored tokens. Shape: (B,).
        beta: reward scale.
        gamma: target margin (the paper's gamma, not gamma / beta).

    Returns:
        Per-example losses. Shape: (B,).
    """
    return -logsigmoid(beta * chosen / chosen_tokens - beta * rejected / rejected_tokens - gamma)


def log_odds(log_probs: Tensor, tokens: Tensor) -> Tensor:
    """log(p / (1 - p)) of the length-normalised probability p (ORPO, Eq. 3). Shape: as the arguments."""
    mean = log_probs / tokens
    # log(1 - exp(mean)): expm1 keeps its precision when p is close to 1; the clamp keeps p = 1 finite.
    return mean - torch.log(-torch.expm1(mean.clamp(max=-torch.finfo(mean.dtype).tiny)))


def orpo_loss(
    chosen: Tensor, rejected: Tensor, chosen_tokens: Tensor, rejected_tokens: Tensor, *, beta: float
) -> Tensor:
    """ORPO, Eq. 6: NLL(y_w) - beta * log sigmoid(log odds(y_w) - log odds(y_l)).

    Args:
        chosen: summed log-probabilities. Shape: (B,).
        rejected: summed log-probabilities. Shape: (B,).
        chosen_tokens: scored tokens. Shape: (B,).
        rejected_tokens: scored tokens. Shape: (B,).
        beta: weight of the odds-ratio term (the paper's lambda).

    Returns:
        Per-example losses, the length-averaged NLL of chosen included. Shape: (B,).
    """
    ratio = logsigmoid(log_odds(chosen, chosen_tokens) - log_odds(rejected, rejected_tokens))
    return -chosen / chosen_tokens - beta * ratio


@dataclass(frozen=True)
class Scored:
    """One response's numbers in one context.

    Args:
        log_probs: summed policy log-probabilities. Shape: (B,).
        tokens: scored tokens. Shape: (B,).
        reference: summed reference log-probabilities, if there is a reference. Shape: (B,).
    """

    log_probs: Tensor
    tokens: Tensor
    reference: Tensor | None

    @classmethod
    def of(cls, view: View, policy: Scores, reference: Scores | None) -> "Scored":
        """The numbers of one view; of several rejected responses the first."""

        def first(values: Tensor) -> Tensor:
            return values if view.role == "chosen" else values[:, 0]

        where = (view.context, view.role)
        frozen = None if reference is None else first(reference.log_probs(*where))
        return cls(first(policy.log_probs(*where)), first(policy.num_tokens(*where)), frozen)


class Pairwise(Protocol):
    """A pairwise algorithm: a reward per response and a loss per pair."""

    needs_reference: ClassVar[bool]

    def reward(self, response: Scored) -> Tensor:
        """Reward r(x, y). Shape: (B,)."""

    def loss(self, chosen: Scored, rejected: Scored) -> Tensor:
        """Per-example losses. Shape: (B,)."""


@dataclass(frozen=True)
class DPOAlgorithm:
    """DPO: r(x, y) = beta * log(pi_theta(y|x) / pi_ref(y|x))."""

    beta: float
    needs_reference: ClassVar[bool] = True

    def reward(self, response: Scored) -> Tensor:
        """Reward r(x, y). Shape: (B,)."""
        return self.beta * (response.log_probs - _reference(response))

    def loss(self, chosen: Scored, rejected: Scored) -> Tensor:
        """Per-example losses. Shape: (B,)."""
        return dpo_loss(chosen.log_probs, rejected.log_probs, _reference(chosen), _reference(rejected), beta=self.beta)


@dataclass(frozen=True)
class SimPOAlgorithm:
    """SimPO: r(x, y) = beta / |y| * log pi_theta(y|x); the margin is in the loss only."""

    beta: float
    gamma: float
    needs_reference: ClassVar[bool] = False

    def reward(self, response: Scored) -> Tensor:
        """Reward r(x, y). Shape: (B,)."""
        return self.beta * response.log_probs / response.tokens

    def loss(self, chosen: Scored, rejected: Scored) -> Tensor:
        """Per-example losses. Shape: (B,)."""
        return simpo_loss(
            chosen.log_probs,
            rejected.log_probs,
            chosen.tokens,
            rejected.tokens,
            beta=self.beta,
            gamma=self.gamma,
        )


@dataclass(frozen=True)
class ORPOAlgorithm:
    """ORPO: r(x, y) = log odds of the length-normalised probability; its NLL stays in the loss."""

    beta: float
    needs_reference: ClassVar[bool] = False

    def reward(self, response: Scored) -> Tensor:
        """Reward r(x, y). Shape: (B,)."""
        return log_odds(response.log_probs, response.tokens)

    def loss(self, chosen: Scored, rejected: Scored) -> Tensor:
        """Per-example losses. Shape: (B,)."""
        return orpo_loss(chosen.log_probs, rejected.log_probs, chosen.tokens, rejected.tokens, beta=self.beta)


class _PairwiseModule(PreferenceModule):
    """Scores chosen and rejected in one context and applies one pairwise algorithm."""

    algorithm: Pairwise
    context: Context

    @property
    def views(self) -> Views:
        """Chosen and rejected in one context, for the reference too if the algorithm needs it."""
        views = (View(self.context, "chosen"), View(self.context, "rejected"))
        return Views(policy=views, reference=views if self.algorithm.needs_reference else ())

    def loss(self, policy: Scores, reference: Scores | None) -> tuple[Tensor, Metrics]:
        """Per-example losses and reward metrics. Shape of each: (B,)."""
        chosen = Scored.of(View(self.context, "chosen"), policy, reference)
        rejected = Scored.of(View(self.context, "rejected"), policy, reference)
        return self.algorithm.loss(chosen, rejected), pair_metrics(self.algorithm, chosen, rejected)


class DPO(_PairwiseModule):
    """Direct Preference Optimization (arXiv 2305.18290, Eq. 7).

    Args:
        beta: strength of the constraint to the reference.
        context: which context the pair is scored in.
        policy: which model is trained; filled from the top-level key `policy`.
        optimization: filled from the top-level key `optimization`.
        reference: filled from the top-level key `reference`.
    """

    def __init__(
        self,
        beta: float = 0.1,
        context: Context = "long",
        policy: PolicyConfig | None = None,
        optimization: Optimization | None = None,
        reference: ReferenceConfig | None = None,
    ) -> None:
        super().__init__(policy, optimization, reference)
        self.context, self.algorithm = context, DPOAlgorithm(beta)


class SimPO(_PairwiseModule):
    """Simple Preference Optimization (arXiv 2405.14734, Eq. 6), reference-free.

    Args:
        beta: reward scale.
        gamma: target margin.
        context: which context the pair is scored in.
        policy: which model is trained; filled from the top-level key `policy`.
        optimization: filled from the top-level key `optimization`.
        reference: filled from the top-level key `reference`; unused.
    """

    def __init__(
        self,
        beta: float = 2.0,
        gamma: float = 1.0,
        context: Context = "long",
        policy: PolicyConfig | None = None,
        optimization: Optimization | None = None,
        reference: ReferenceConfig | None = None,
    ) -> None:
        super().__init__(policy, optimization, reference)
        self.context, self.algorithm = context, SimPOAlgorithm(beta, gamma)


class ORPO(_PairwiseModule):
    """Odds Ratio Preference Optimization (arXiv 2403.07691, Eq. 6), reference-free.

    Args:
        beta: weight of the odds-ratio term.
        context: which context the pair is scored in.
        policy: which model is trained; filled from the top-level key `policy`.
        optimization: filled from the top-level key `optimization`.
        reference: filled from the top-level key `reference`; unused.
    """

    def __init__(
        self,
        beta: float = 0.1,
        context: Context = "long",
        policy: PolicyConfig | None = None,
        optimization: Optimization | None = None,
        reference: ReferenceConfig | None = None,
    ) -> None:
        super().__init__(policy, optimization, reference)
        self.context, self.algorithm = context, ORPOAlgorithm(beta)


class SFT(PreferenceModule):
    """Supervised fine-tuning on the chosen response: its length-averaged NLL.

    Args:
        context: which context the response is scored in.
        sequence_weight: weight of the NLL over the whole sequence, prompt included; 0 leaves it out.
        policy: which model is trained; filled from the top-level key `policy`.
        optimization: filled from the top-level key `optimization`.
        reference: filled from the top-level key `reference`; unused.
    """

    def __init__(
        self,
        context: Context = "long",
        sequence_weight: float = 0.0,
        policy: PolicyConfig | None = None,
        optimization: Optimization | None = None,
        reference: ReferenceConfig | None = None,
    ) -> None:
        super().__init__(policy, optimization, reference)
        self.context: Context = context
        self.sequence_weight = sequence_weight

    @property
    def views(self) -> Views:
        """Chosen in one context, and its whole sequence if that has a weight."""
        return Views(policy=(View(self.context, "chosen"),), sequence=(self.context,) if self.sequence_weight else ())

    def loss(self, policy: Scores, reference: Scores | None) -> tuple[Tensor, Metrics]:
        """Per-example NLL. Shape: (B,)."""
        chosen = Scored.of(View(self.context, "chosen"), policy, reference)
        nll = -chosen.log_probs / chosen.tokens
        metrics = {"nll": nll.detach(), "logps/chosen": chosen.log_probs.detach()}
        if not self.sequence_weight:
            return nll, metrics
        sequence = policy.sequence_nll(self.context)
        return nll + self.sequence_weight * sequence, {**metrics, "sequence_nll": sequence.detach()}


def pair_metrics(algorithm: Pairwise, chosen: Scored, rejected: Scored) -> Metrics:
    """What every pairwise objective logs. Shape of each: (B,)."""
    rewards = preference_metrics(algorithm.reward(chosen), algorithm.reward(rejected))
    log_probs = {"logps/chosen": chosen.log_probs.detach(), "logps/rejected": rejected.log_probs.detach()}
    return {**rewards, **log_probs, "nll": (-chosen.log_probs / chosen.tokens).detach()}


def _reference(response: Scored) -> Tensor:
    if response.reference is None:
        raise ValueError("DPO needs reference log-probabilities, the batch has none; check the objective's `views`")
    return response.reference
