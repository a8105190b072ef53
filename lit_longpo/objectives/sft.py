"""SFT: supervised fine-tuning, the baseline that no preference enters.

    L = -log pi(y_w|x) / |y_w| + sequence_weight * NLL(x, y_w)

Symbols: y_w chosen, pi policy, |y| scored tokens, NLL(x, y_w) the mean over the whole sequence, prompt included.
"""

from typing import Any

from torch import Tensor

from lit_longpo.batch import Context, Scores, View, Views
from lit_longpo.objectives.base import PreferenceModule
from lit_longpo.objectives.rewards import Metrics
from lit_longpo.ranges import check_weight


def sft_loss(chosen: Tensor, chosen_tokens: Tensor) -> Tensor:
    """Length-averaged NLL of the chosen response.

    Args:
        chosen: summed log-probabilities. Shape: (B,).
        chosen_tokens: scored tokens. Shape: (B,).

    Returns:
        Per-example losses. Shape: (B,).
    """
    return -chosen / chosen_tokens


class SFT(PreferenceModule):
    """Supervised fine-tuning on the chosen response: its length-averaged NLL.

    Args:
        context: which context the response is scored in.
        sequence_weight: weight of the NLL over the whole sequence, prompt included; 0 leaves it out.
        **module: see `PreferenceModule`: policy, optimization, reference (unused).
    """

    def __init__(self, context: Context = "long", sequence_weight: float = 0.0, **module: Any) -> None:
        super().__init__(**module)
        self.context: Context = context
        check_weight("SFT.sequence_weight", sequence_weight, "0 leaves the prompt out")
        self.sequence_weight = sequence_weight

    @property
    def views(self) -> Views:
        """Chosen in one context, and its whole sequence if that has a weight."""
        return Views(policy=(View(self.context, "chosen"),), sequence=(self.context,) if self.sequence_weight else ())

    def loss(self, policy: Scores, reference: Scores | None) -> tuple[Tensor, Metrics]:
        """Per-example NLL. Shape: (B,)."""
        chosen = policy.log_probs(self.context, "chosen")
        nll = sft_loss(chosen, policy.num_tokens(self.context, "chosen"))
        metrics = {"nll": nll.detach(), "logps/chosen": chosen.detach()}
        if not self.sequence_weight:
            return nll, metrics
        sequence = policy.sequence_nll(self.context)
        return nll + self.sequence_weight * sequence, {**metrics, "sequence_nll": sequence.detach()}
