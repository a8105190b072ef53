"""The metrics that every preference objective logs, under TRL's names."""

from torch import Tensor

Metrics = dict[str, Tensor]


def preference_metrics(
    chosen_rewards: Tensor, rejected_rewards: Tensor, chosen: Tensor, rejected: Tensor, chosen_nll: Tensor
) -> Metrics:
    """Rewards, their margin, and whether it is above 0; log-probabilities and NLL; detached and per example.

    Args:
        chosen_rewards: of the chosen responses. Shape: (B,).
        rejected_rewards: of the rejected responses. Shape: (B,).
        chosen: summed log-probabilities of the chosen responses. Shape: (B,).
        rejected: summed log-probabilities of the rejected responses; of several their mean. Shape: (B,).
        chosen_nll: the chosen responses' mean over tokens. Shape: (B,).
    """
    margins = (chosen_rewards - rejected_rewards).detach()
    return {
        "rewards/chosen": chosen_rewards.detach(),
        "rewards/rejected": rejected_rewards.detach(),
        "rewards/margins": margins,
        "rewards/accuracies": (margins > 0).to(margins.dtype),
        "logps/chosen": chosen.detach(),
        "logps/rejected": rejected.detach(),
        "nll": chosen_nll.detach(),
    }
