"""LongPO (arXiv 2502.13922): pairs from a short and a long view of one document.

Chen et al. 2025, "LongPO: Long Context Self-Evolution of Large Language Models through Short-to-Long
Preference Optimization".

Symbols: x_L long input (document and instruction), x_S short input (one chunk of that document, same
instruction), y_S chosen (answered from x_S), y_L rejected (answered from x_L), pi_theta policy, pi_S the
untouched short-context model, S_L the whole chosen long sequence, document included, m the pair's own margin.

    L_pref = -log sigmoid(beta * [log pi_theta(y_S|x_L) - log pi_S(y_S|x_S)]
                        - beta * [log pi_theta(y_L|x_L) - log pi_S(y_L|x_S)] - m)   Eq. 12, where m = 0
    L      = pref_weight * L_pref - log pi_theta(S_L) / |S_L|                        Eq. 14

The policy reads the LONG input and the reference the SHORT one: a short-to-long constraint instead of
the usual one at equal input. Log-probabilities are summed, not averaged.

Several turns (Eq. 13): the printed equation adds PROBABILITIES of the turns inside each logarithm. The
authors' code adds LOG-probabilities, for policy and reference alike, and so do we: that is what was
trained. The policy sees a document, Q1, A1, Q2, A2, ... with the earlier answers of the same side; the
reference sees each turn's own chunk, question and answer, without history.

The code differs from the paper in beta (0.01 in its command, 0.1 in the paper) and optimizer (RMSprop,
Adam). `pref_weight` is the paper's lambda; it multiplies the preference term, the NLL has weight 1.
"""

from typing import Any, Literal

import torch
from torch import Tensor

from lit_longpo.batch import Context, Scores, View, Views
from lit_longpo.errors import InputError
from lit_longpo.objectives.base import PreferenceModule
from lit_longpo.objectives.dpo import DPOAlgorithm, dpo_loss
from lit_longpo.objectives.pairwise import Scored, pair_metrics
from lit_longpo.objectives.rewards import Metrics
from lit_longpo.ranges import check_scale, check_weight


def longpo_loss(
    policy_chosen: Tensor,
    policy_rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    chosen_sequence_nll: Tensor,
    *,
    beta: float,
    pref_weight: float,
    margin: Tensor | float = 0.0,
) -> Tensor:
    """LongPO, Eq. 14: pref_weight * (-log sigmoid(beta * [(pc - rc) - (pr - rr)])) + nll.

    Args:
        policy_chosen: summed log-probabilities in the long context, all turns. Shape: (B,).
        policy_rejected: likewise of the rejected responses. Shape: (B,).
        reference_chosen: summed log-probabilities in the SHORT contexts, all turns. Shape: (B,).
        reference_rejected: likewise of the rejected responses. Shape: (B,).
        chosen_sequence_nll: mean NLL over the chosen long sequence. Shape: (B,).
        beta: strength of the short-to-long constraint.
        pref_weight: weight of the preference term (the paper's lambda).
        margin: the pairs' own, subtracted from the difference of rewards. Shape: (B,), or () for all.

    Returns:
        Per-example losses. Shape: (B,).
    """
    preference = dpo_loss(  # its equation; what differs is the context that the reference reads
        policy_chosen, policy_rejected, reference_chosen, reference_rejected, beta=beta, margin=margin
    )
    return pref_weight * preference + chosen_sequence_nll


class LongPO(PreferenceModule):
    """Short-to-long preference optimization with an NLL on the long sequence (arXiv 2502.13922, Eq. 14).

    Args:
        beta: strength of the constraint: 0.1 in the paper, 0.01 in the authors' command.
        pref_weight: weight of the preference term (the paper's lambda).
        nll: what the NLL covers: the whole chosen "sequence" (paper), only its "answer", or "none" for no NLL.
        nll_on_format: whether the sequence NLL includes the chat template's own tokens.
        reference_context: what the reference reads: the "short" context (paper); or, as an ablation, the "long" one, as
            in DPO. Then nothing ties the policy to what it could do on short contexts.
        **module: see `PreferenceModule`: policy, optimization, reference; with `policy.rope` the reference keeps the
            original positions.
    """

    def __init__(
        self,
        beta: float = 0.1,
        pref_weight: float = 0.01,
        nll: Literal["sequence", "answer", "none"] = "sequence",
        nll_on_format: bool = True,
        reference_context: Context = "short",
        **module: Any,
    ) -> None:
        super().__init__(**module)
        check_scale("LongPO.beta", beta, "0.1 is the paper's")
        check_weight("LongPO.pref_weight", pref_weight, "0.01 is the paper's")
        self.beta, self.pref_weight = beta, pref_weight
        if nll == "none" and pref_weight == 0:
            raise InputError("expected a loss, got neither NLL nor preference term; set model.pref_weight to 1")
        self.nll, self.nll_on_format = nll, nll_on_format
        self.reference_context: Context = reference_context

    @property
    def views(self) -> Views:
        """Both responses: by the policy in the long context, by the reference in the short one (or the long)."""
        return Views(
            policy=(View("long", "chosen"), View("long", "rejected")),
            reference=(View(self.reference_context, "chosen"), View(self.reference_context, "rejected")),
            sequence=("long",) if self.nll == "sequence" else (),
            sequence_format=self.nll_on_format,
            margins=True,
        )

    def loss(self, policy: Scores, reference: Scores | None) -> tuple[Tensor, Metrics]:
        """Per-example losses and metrics. Shape of each: (B,)."""
        chosen, rejected = (
            Scored.of(View("long", role), policy, reference, self.reference_context) for role in ("chosen", "rejected")
        )
        nll = self._nll(policy, chosen)
        losses = longpo_loss(
            chosen.log_probs,
            rejected.log_probs,
            chosen.reference_log_probs,
            rejected.reference_log_probs,
            nll,
            beta=self.beta,
            pref_weight=self.pref_weight,
            margin=policy.margins,
        )
        metrics = pair_metrics(DPOAlgorithm(self.beta), chosen, rejected)
        return losses, metrics | ({"sequence_nll": nll.detach()} if self.nll == "sequence" else {})

    def _nll(self, policy: Scores, chosen: Scored) -> Tensor:
        """The NLL term of Eq. 14. Shape: (B,)."""
        if self.nll == "sequence":
            return policy.sequence_nll("long")
        return -chosen.log_probs / chosen.num_tokens if self.nll == "answer" else torch.zeros_like(chosen.log_probs)
