"""Settings of the reference, and those combinations that cannot work."""

from dataclasses import dataclass
from typing import Literal

from lit_longpo.errors import InputError
from lit_longpo.policy.checkpointing import Checkpointing
from lit_longpo.policy.loading import PolicyConfig

# A training row's activations are those of so many layers' rows without gradients, by what is recomputed: what a
# pass borrows does not grow with depth. Traced for 0.5B and 8B shapes at 8K and 64K tokens (docs/scaling.md).
_LAYERS_PER_ROW: dict[Checkpointing, int | None] = {False: 1, "keep_attention": 3, True: 7, "offload": None}
_LONGEST = 4  # rows' length in one; longer ones gain no time


@dataclass
class ReferenceConfig:
    """Where reference log-probabilities come from.

    Args:
        mode: "cached" scores every record once, before step 1. "online" scores each batch when it is trained on: with
            new adapters turned off, otherwise with a frozen copy of what is trained, which takes up to twice the
            memory and is refused where ZeRO-3 or FSDP2 split the policy.
        cache_dir: folder of the cache; `None` means `reference_cache` in the run's root folder.
        policy: another model as reference. It must have the policy's tokenizer, and uses its own `rope`. `None` means
            the untrained policy.
        max_tokens: tokens of one row of the pass before step 1, regardless of `data.init_args.max_examples`. "auto"
            takes up to four times the longest training row, as far as the memory of training's activations allows. For
            another model, or if activations are offloaded, it takes that row's length.
    """

    mode: Literal["cached", "online"] = "cached"
    cache_dir: str | None = None
    policy: PolicyConfig | None = None
    max_tokens: Literal["auto"] | int = "auto"

    def __post_init__(self) -> None:
        if isinstance(self.max_tokens, int) and self.max_tokens < 1:
            raise InputError(
                f"expected `reference.max_tokens` above 0, got {self.max_tokens}; type --reference.max_tokens auto"
            )

    def row_tokens(self, trained: int, checkpointing: Checkpointing, layers: int) -> int:
        """Tokens of a row of the cached reference's pass.

        Args:
            trained: of the longest row that is trained on.
            checkpointing: what training recomputes of it.
            layers: of the policy.
        """
        if self.max_tokens != "auto":
            return self.max_tokens
        per_row = _LAYERS_PER_ROW[checkpointing]
        if per_row is None or self.policy is not None:
            return trained
        return trained * max(1, min(_LONGEST, layers // per_row))

    def holds_a_model(self, policy: PolicyConfig) -> bool:
        """Whether a frozen model stays beside the policy while it is trained, if an objective asks for scores."""
        return self.mode == "online" and (self.policy is not None or not policy.reference_is_inside)


def copy_problem(reference: ReferenceConfig, policy: PolicyConfig) -> str | None:
    """What to type where a strategy splits the parameters and the reference would be a copy of the split policy."""
    if not reference.holds_a_model(policy) or reference.policy is not None:
        return None
    trained = "no `policy.lora`" if policy.trained_lora is None else "`policy.lora.also_train`"
    trained = "adapters that are continued" if policy.continues_adapters else trained
    return (
        f"expected `reference.mode: cached` where a strategy splits the parameters, got online with {trained}: "
        "the reference would be a copy of the split policy; type --reference.mode cached"
    )
