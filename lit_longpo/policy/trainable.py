"""What cannot be trained, known from the settings before a model is loaded.

Every rule is a function from the policy's settings, and from who splits its parameters, to a message; no message means
nothing to say.
"""

from collections.abc import Callable

from lit_longpo.errors import InputError
from lit_longpo.policy.loading import PolicyConfig
from lit_longpo.policy.weights.quantization import require_bitsandbytes
from lit_longpo.strategies.sharding import Split


def check_training(policy: PolicyConfig, split: Split | None = None) -> None:
    """Refuse, before anything is loaded, what cannot be trained."""
    if problem := training_problem(policy, split):
        raise InputError(problem)
    if policy.quantized is not None:
        require_bitsandbytes()


def training_problem(policy: PolicyConfig, split: Split | None) -> str | None:
    """What to type where the policy cannot be trained; `None` if it can."""
    return next((problem for rule in _RULES if (problem := rule(policy, split))), None)


def _quantized(policy: PolicyConfig, split: Split | None) -> str | None:
    return policy.quantization_problem()


def _quantized_alone(policy: PolicyConfig, split: Split | None) -> str | None:
    if policy.quantized is None or policy.trained_lora is not None:
        return None
    return (
        "expected adapters over 4-bit weights, which cannot be trained themselves, got `policy.quantization` without "
        "`policy.lora`; type --policy.lora '{r: 16, alpha: 32}', or --policy.quantization null"
    )


def _quantized_and_split(policy: PolicyConfig, split: Split | None) -> str | None:
    if policy.quantized is None or split is None:
        return None
    return (
        "expected a strategy that leaves parameters whole (one device, DDP, ZeRO-1 or ZeRO-2) with "
        f"`policy.quantization`, got {split}, which splits them: 4-bit weights and their scales belong together; type "
        "--trainer.strategy ddp, or --policy.quantization null"
    )


def _dora_under_zero3(policy: PolicyConfig, split: Split | None) -> str | None:
    lora = policy.trained_lora
    if lora is None or not lora.use_dora or split != "ZeRO-3":
        return None
    return (
        "expected a strategy under which an adapter sees its base weight whole (one device, DDP, FSDP2, ZeRO-1 or "
        "ZeRO-2) with `policy.lora.use_dora`, got ZeRO-3; type --config configs/overlays/fsdp2.yaml instead, or "
        "--policy.lora.use_dora false"
    )


def _compiled_and_split(policy: PolicyConfig, split: Split | None) -> str | None:
    if policy.layer_kernels != "compile" or split is None:
        return None
    return (
        "expected a strategy that leaves parameters whole (one device, DDP, ZeRO-1 or ZeRO-2) with "
        f"`policy.layer_kernels: compile`, got {split}, which gathers them around every layer; type "
        "--policy.layer_kernels null, or liger on GPUs"
    )


def _frozen_beside_adapters(policy: PolicyConfig, split: Split | None) -> str | None:
    if not (policy.train_only or policy.freeze) or policy.trained_lora is None:
        return None
    setting = "policy.train_only" if policy.train_only else "policy.freeze"
    return (
        f"expected `{setting}` without adapters, beside which the base is frozen anyway, got both; name what is "
        "trained beside them in `policy.lora.also_train`, or type --policy.lora null"
    )


def _new_tokens(policy: PolicyConfig, split: Split | None) -> str | None:
    if not (policy.added_tokens or policy.added_special_tokens):
        return None
    untrained = policy.trained_lora is not None and not policy.trained_lora.also_train
    if split != "ZeRO-3" and not untrained:
        return None
    if not policy.new_tokens():  # an earlier run has added and trained them
        return None
    if untrained:
        return (
            "expected the rows of new tokens to be trained beside the adapters, got `policy.added_tokens` without "
            "`policy.lora.also_train`; type --policy.lora.also_train '[embed_tokens, lm_head]' (the names of this "
            "model's embeddings and head)"
        )
    return (
        "expected a strategy that leaves embeddings whole while they grow (one device, DDP, FSDP2, ZeRO-1 or ZeRO-2) "
        "with `policy.added_tokens`, got ZeRO-3; type --config configs/overlays/fsdp2.yaml instead"
    )


_RULES: tuple[Callable[[PolicyConfig, Split | None], str | None], ...] = (
    _quantized,
    _quantized_alone,
    _quantized_and_split,
    _dora_under_zero3,
    _compiled_and_split,
    _frozen_beside_adapters,
    _new_tokens,
)
