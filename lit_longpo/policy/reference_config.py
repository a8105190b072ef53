"""What is configured about the reference, and what of it cannot be."""

from dataclasses import dataclass
from typing import Literal

from lit_longpo.policy.loading import PolicyConfig


@dataclass
class ReferenceConfig:
    """Where reference log-probabilities come from.

    Args:
        mode: "cached" scores every record once before step 1; "online" scores each batch when it is
            trained on (new adapters off, else a frozen copy of what is trained: up to twice the memory, and refused
            where ZeRO-3 or FSDP2 split the policy).
        cache_dir: folder of the cache; `None` means `reference_cache` in the run's root folder.
        policy: another model as reference, of the policy's tokenizer and read as its own `rope` says; `None` means
            the untrained policy.
    """

    mode: Literal["cached", "online"] = "cached"
    cache_dir: str | None = None
    policy: PolicyConfig | None = None

    def holds_a_model(self, policy: PolicyConfig) -> bool:
        """Whether a frozen model stays beside the policy while it is trained, if an objective asks for scores."""
        return self.mode == "online" and (self.policy is not None or not policy.reference_is_inside)


def copy_problem(reference: ReferenceConfig, policy: PolicyConfig) -> str | None:
    """What to type where a strategy splits the parameters and the reference would be a copy of the split policy.

    Args:
        reference: of an objective that asks for reference scores.
        policy: what is trained.
    """
    if not reference.holds_a_model(policy) or reference.policy is not None:
        return None
    trained = "no `policy.lora`" if policy.trained_lora is None else "`policy.lora.also_train`"
    trained = "adapters that are continued" if policy.continues_adapters else trained
    return (
        f"expected `reference.mode: cached` where a strategy splits the parameters, got online with {trained}: "
        "the reference would be a copy of the split policy; type --reference.mode cached"
    )
