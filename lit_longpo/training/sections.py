"""The sections of a configuration that decide what is trained: how they are recorded, which conflicts are refused."""

import dataclasses
from collections.abc import Iterable
from typing import Any

from torch import nn

from lit_longpo.batch import Views
from lit_longpo.checkpoints.record import flatten
from lit_longpo.engine import base_model, check_routers
from lit_longpo.errors import InputError
from lit_longpo.optimization import Optimization
from lit_longpo.policy.fingerprint import files_fingerprint
from lit_longpo.policy.loading import PolicyConfig
from lit_longpo.policy.reference.config import ReferenceConfig, copy_problem
from lit_longpo.policy.trainable import check_training
from lit_longpo.policy.weights.full_precision import FullPrecision, kept_parameters
from lit_longpo.strategies import check_strategy, is_deepspeed, split_by, splits_parameters
from lit_longpo.training.precision import CASTS, precision_problem

# Of the policy: how it is computed, not what is trained.
_HOW = {
    "policy",
    *(f"policy.{name}" for name in ("gradient_checkpointing", "tile_tokens", "layer_kernels", "attention")),
    "policy.trust_remote_code",
}


@dataclasses.dataclass(frozen=True)
class Sections:
    """The parts of a configuration that decide what is trained."""

    policy: PolicyConfig
    optimization: Optimization
    reference: ReferenceConfig
    views: Views

    def settings(self, objective: str, arguments: Iterable[tuple[str, Any]]) -> dict[str, Any]:
        """Every setting that decides what is trained, by its command-line name."""
        settings = {"model": objective} | {f"model.{name}": value for name, value in arguments}
        policy = dataclasses.replace(self.policy, lora=self.policy.trained_lora)
        settings |= {name: value for name, value in flatten("policy", policy) if name not in _HOW}
        settings["policy.files"] = _files(self.policy)
        other = self.reference.policy
        if self.views.reference:
            settings |= flatten("reference.policy", other)
            if other is not None:
                settings["reference.policy.files"] = _files(other)
        return settings | self.optimization.settings

    def check(self, strategy: object, precision: str, *, fits: bool = True) -> None:
        """Refuse settings under which policy or reference would differ from what the configuration says."""
        check_strategy(strategy)
        check_training(self.policy, split_by(strategy))
        lora, deepspeed = self.policy.trained_lora, is_deepspeed(strategy)
        whole = lora is None or bool(lora.also_train)
        if self.optimization.router_loss:
            check_routers(self.policy.original_config())
        dtype = self.policy.dtype
        problem = precision_problem(dtype, precision, deepspeed=deepspeed, trains_weights=whole, trains=fits)
        if problem is None and self.views.reference and splits_parameters(strategy):
            problem = copy_problem(self.reference, self.policy)
        if problem:
            raise InputError(problem)

    def kept_whole(self, model: nn.Module, strategy: object, precision: str) -> FullPrecision:
        """Tensors that a half-precision model keeps in fp32, to be restored once the trainer's precision casts them.

        Raises:
            InputError: the precision casts such a tensor, and it cannot be restored, because it is trained or split.
        """
        kept = [name for name, p in kept_parameters(model) if p.requires_grad or splits_parameters(strategy)]
        if kept and (precision in CASTS or is_deepspeed(strategy)):
            raise InputError(
                f"expected `trainer.precision: 32-true` for {type(base_model(model)).__name__}, which keeps "
                f"{len(kept)} weights in fp32 (for example {kept[0]}), got {precision}, which rounds them; type "
                f"--trainer.precision 32-true, under which the others stay {self.policy.dtype}, or train adapters"
            )
        return FullPrecision(model)


def _files(policy: PolicyConfig) -> str | None:
    """Hash of the files that a model and its adapters are read from; `None` if they are on a hub."""
    adapters = policy.files.adapters()
    folders = [policy.files.folder, None if adapters is None else adapters.path]
    return "-".join(filter(None, (files_fingerprint(folder) for folder in folders if folder is not None))) or None
