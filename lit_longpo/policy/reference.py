"""The reference: the policy before step 1, or another model.

With a cache, one pass at the start of `fit` by the very model that is about to be trained; with LoRA the adapters
are off, so base weights do it at any time. Online, each row is scored when it is trained on.
"""

import copy
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path

import torch
from lightning.pytorch import Trainer
from torch import nn
from transformers import PretrainedConfig

from lit_longpo.batch import PackedBatch, Scores
from lit_longpo.engine import score, sequence_ranks
from lit_longpo.errors import InputError
from lit_longpo.policy.adapters import adapters_are_start
from lit_longpo.policy.fingerprint import model_fingerprint
from lit_longpo.policy.loading import PolicyConfig
from lit_longpo.policy.reference_cache import ReferenceCache, ReferenceConfig, fill
from lit_longpo.policy.rope import original_rope
from lit_longpo.strategies import any_rank, is_sharded, whole_loading

log = logging.getLogger(__name__)


class Reference:
    """Gives an objective its reference scores; an objective that wants none never calls it.

    Args:
        config: where the scores come from.
        policy: the model that is trained.
    """

    def __init__(self, config: ReferenceConfig, policy: PolicyConfig) -> None:
        self.config, self.policy = config, policy
        # Entered around every pass; a callback may put a clock here.
        self.around: Callable[[], AbstractContextManager[None]] = nullcontext
        self.cache: ReferenceCache | None = None
        self._fingerprint: str | None = None  # of the policy before step 1
        self._rope: PretrainedConfig | None = None  # what the reference runs with, if the policy's was changed
        self._model: nn.Module | None = None  # beside the policy, so that it is neither saved nor optimized

    def remember(self, policy: nn.Module) -> None:
        """Note what the reference is; call it when the policy was loaded and before anything has changed it."""
        self._rope = None if self.config.policy else self.policy.config_before_rope()
        self._fingerprint = model_fingerprint(policy, self._rope)

    def prepare(self, policy: nn.Module, trainer: Trainer) -> None:
        """Make sure that every score can be given: fill the cache, or load the model that is held beside the policy.

        Raises:
            ValueError: the untouched policy is needed and is nowhere to be had.
        """
        if self.cache is not None or self._model is not None:
            return
        if self.config.mode == "cached":
            with self.around(), trainer.precision_plugin.forward_context():
                self.cache = self._filled_cache(policy, trainer)
        elif self.config.holds_a_model(self.policy):
            model = self._load(policy, trainer)
            model = copy.deepcopy(model) if model is policy else model
            self._model = model.to(trainer.lightning_module.device).requires_grad_(False)

    def scores(self, policy: nn.Module, batch: PackedBatch) -> Scores:
        """Scores of a row that the data module made for the reference, without gradients.

        Raises:
            KeyError: the cache lacks a response.
        """
        if self.cache is not None:
            return self.cache.scores(batch)
        with self.around(), reference_mode(policy if self._model is None else self._model, self._rope) as model:
            return score(model, batch)

    def _filled_cache(self, policy: nn.Module, trainer: Trainer) -> ReferenceCache:
        device = trainer.lightning_module.device
        cache = ReferenceCache(self._folder(trainer))
        cache.load()
        together = is_sharded(policy) or sequence_ranks().size > 1  # a forward is a collective call
        needed = partial(any_rank, device=device) if together else bool

        def reference() -> AbstractContextManager[nn.Module]:
            return reference_mode(self._load(policy, trainer).to(device), self._rope)

        scored = fill(cache, reference, _rows(trainer), device, needed)
        trainer.strategy.barrier("reference")
        cache.load()
        log.info("reference: %d log-probabilities, %d rows scored now", len(cache), scored)
        return cache

    def _folder(self, trainer: Trainer) -> Path:
        fingerprint = self._fingerprint
        if self.config.policy is not None:
            fingerprint = model_fingerprint(self._load_other(self.config.policy, trainer))
        root = self.config.cache_dir or Path(trainer.default_root_dir) / "reference_cache"
        mixed = f"-{trainer.precision}" if str(trainer.precision).endswith("-mixed") else ""
        return Path(root) / f"{fingerprint}{mixed}"

    def _load(self, policy: nn.Module, trainer: Trainer) -> nn.Module:
        """The policy itself while it is untouched or its adapters can be switched off; else a fresh copy."""
        if self.config.policy is not None:
            return self._load_other(self.config.policy, trainer)
        if model_fingerprint(policy, self._rope) == self._fingerprint:
            return policy
        if is_sharded(policy):
            raise InputError(
                "reference values are missing after a resume, and the untouched policy cannot be loaded beside a "
                "sharded one; keep the folder `reference_cache` of the first run, or set `reference.policy`"
            )
        if self.policy.weights == "random":
            raise InputError(
                "the reference is the policy before step 1, whose random weights are gone after a resume; keep "
                "`reference.mode: cached` and the folder `reference_cache` of the first run"
            )
        return self.policy.load_base()

    @staticmethod
    def _load_other(config: PolicyConfig, trainer: Trainer) -> nn.Module:
        with whole_loading(trainer.strategy):
            return config.load()


@contextmanager
def reference_mode(model: nn.Module, config: PretrainedConfig | None = None) -> Iterator[nn.Module]:
    """The model as reference: adapters off, original positions, eval mode, no gradients; restored after.

    Args:
        model: the policy or another model.
        config: the model's configuration before `policy.rope` changed it; `None` if nothing did.
    """
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), _adapters_off(model), original_rope(model, config):
            yield model
    finally:
        model.train(training)


def _adapters_off(model: nn.Module) -> AbstractContextManager[None]:
    from peft import PeftModel

    if not isinstance(model, PeftModel) or adapters_are_start(model):
        return nullcontext()
    return model.disable_adapter()


def _rows(trainer: Trainer) -> Iterator[PackedBatch]:
    """Every row that the reference has to score."""
    datamodule = getattr(trainer, "datamodule", None)
    if datamodule is None or not hasattr(datamodule, "reference_dataloader"):
        raise InputError(
            "cached reference log-probabilities need a data module with `reference_dataloader`; pass one of "
            "ours, or set `reference.mode: online`"
        )
    return iter(datamodule.reference_dataloader())
