"""The reference: the policy before step 1, or another model.

With `mode: cached` one pass at the start of `fit` scores every row, with the very model that is about to be trained.
Under new adapters the base model does it at any time, with the adapters off. With `mode: online` each row is scored
when it is trained on.

If `policy.rope` changes positions, a view that the policy scores too is scored at the policy's positions, so that an
untrained policy equals its reference. A view that only the reference scores (LongPO's short context) is scored at the
original positions, with which the model was trained.
"""

import copy
import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import nn
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from lit_longpo.batch import PackedBatch, Scores, View, Views, tensor_on
from lit_longpo.engine import base_model, eval_mode, plan_scoring, score, sequence_ranks
from lit_longpo.errors import InputError
from lit_longpo.policy.adapters.lora import adapters_are_start
from lit_longpo.policy.fingerprint import model_fingerprint
from lit_longpo.policy.loading import PolicyConfig
from lit_longpo.policy.reference.cache import ReferenceCache, fill_cache
from lit_longpo.policy.reference.config import ReferenceConfig
from lit_longpo.policy.rope import original_rope
from lit_longpo.run_folder import typed_path
from lit_longpo.strategies import any_rank, is_sharded, whole_loading

log = logging.getLogger(__name__)


class Reference:
    """Gives an objective its reference scores; an objective that wants none never calls it."""

    def __init__(self, config: ReferenceConfig, policy: PolicyConfig) -> None:
        self.config, self.policy = config, policy
        # Entered around every pass; a callback may put a clock here.
        self.around: Callable[[], AbstractContextManager[None]] = nullcontext
        self.cache: ReferenceCache | None = None
        self._fingerprint: str | None = None  # of the policy before step 1
        self._rope: PretrainedConfig | None = None  # of views that only the reference scores, if it was changed
        self._layers = 1  # of the policy
        self._shared: frozenset[View] = frozenset()  # scored by the policy, too
        self._other: nn.Module | None = None  # the model that is no policy, while a cache is filled
        self._model: nn.Module | None = None  # beside the policy, so that it is neither saved nor optimized

    def check_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Refuse a reference model to which any of the policy's token ids means something else; reads no weights."""
        if self.config.policy is None:
            return
        try:
            ids = self.config.policy.tokenizer().get_vocab()
        except (OSError, ValueError) as error:
            raise InputError(
                f"expected a tokenizer at `reference.policy.source: {self.config.policy.source}`, to compare it with "
                "the policy's, whose token ids the reference scores; copy the tokenizer's files there"
            ) from error
        odd = sorted((number, token) for token, number in tokenizer.get_vocab().items() if ids.get(token) != number)
        if odd:
            number, token = odd[0]
            raise InputError(
                f"expected `reference.policy` to have the policy's tokenizer, whose ids it scores, but {len(odd):,} "
                f"tokens differ, for example {number}, the policy's {token!r}; type --reference.policy.source with a "
                "model of the policy's family, and give it the policy's `added_tokens`"
            )

    def remember(self, policy: nn.Module, views: Views) -> None:
        """Note what the reference is. Call this right after the policy is loaded, before anything changes it."""
        self._shared = frozenset(views.policy) & frozenset(views.reference)
        changes = bool(views.reference_alone) and self.config.policy is None
        self._rope = self.policy.config_before_rope() if changes else None
        self._layers = base_model(policy).config.get_text_config().num_hidden_layers
        self._fingerprint = self._fingerprint_of(policy)

    def warn_of_other_start(self, path: Path) -> None:
        """Warn that the weights which training starts with are not the reference's."""
        if self.config.policy is None:
            log.warning(
                "the reference stays %s, not these weights: what they have learned counts as the policy's own; to "
                "compare with them, type python -m lit_longpo export --checkpoint %s --output FOLDER, then "
                "--policy.source FOLDER instead of --initial_weights",
                *(self.policy.source, typed_path(path)),
            )

    def row_tokens(self, trained: int) -> int:
        """Tokens of a row in the reference's pass. `trained`: tokens of the longest training row."""
        return self.config.row_tokens(trained, self.policy.gradient_checkpointing, self._layers)

    def prepare(self, policy: nn.Module, trainer: Trainer) -> None:
        """Make every score available: fill the cache, or load the model that is kept beside the policy.

        Raises:
            InputError: the untouched policy is needed and is nowhere to be had.
        """
        if self.cache is not None or self._model is not None:
            return
        if self.config.mode == "cached":
            with self.around(), trainer.precision_plugin.forward_context():
                self.cache = self._filled_cache(policy, trainer)
        elif self.config.holds_a_model(self.policy):
            model = self._ready(policy, trainer)
            self._model = (frozen_copy(model) if model is policy else model).requires_grad_(False)

    def scores(self, policy: nn.Module, batch: PackedBatch) -> Scores:
        """Reference scores of a row, without gradients.

        Raises:
            KeyError: the cache lacks a response.
        """
        if self.cache is not None:
            return self.cache.scores(batch)
        with self.around(), reference_mode(policy if self._model is None else self._model) as model:
            return self._score(model, batch)

    def _score(self, model: nn.Module, batch: PackedBatch) -> Scores:
        """Score every view at its own positions (see the module's docstring), in two passes if a row has both kinds."""
        shared = {str(view) for view in self._shared}
        alone = [f"{slot.context}.{slot.role}" not in shared for slot in batch.slots]
        if self._rope is None or not any(alone):
            return score(model, batch)
        with original_rope(model, self._rope):
            original = score(model, batch)
        if all(alone):
            return original
        at_policys = score(model, batch)
        chosen = tensor_on(original.sums.device, alone, torch.bool)
        return replace(original, sums=torch.where(chosen, original.sums, at_policys.sums))

    def _fingerprint_of(self, model: nn.Module) -> str:
        """Hash of the weights and of all rotary settings that the reference runs with."""
        fingerprint = model_fingerprint(model, self._rope)
        mixed = self._rope is not None and bool(self._shared)
        return f"{fingerprint}-{model_fingerprint(model)}" if mixed else fingerprint

    def _filled_cache(self, policy: nn.Module, trainer: Trainer) -> ReferenceCache:
        device = trainer.lightning_module.device
        cache = ReferenceCache(self._folder(trainer))
        cache.load()
        together = is_sharded(policy) or sequence_ranks().size > 1  # a forward is a collective call
        needed = partial(any_rank, device=device) if together else bool

        def reference() -> AbstractContextManager[nn.Module]:
            return reference_mode(self._ready(policy, trainer))

        rows = _rows(trainer)
        first = list(itertools.islice(rows, 1))
        rows = itertools.chain(first, rows)
        at_hand = self._other is not None or self._fingerprint_of(policy) == self._fingerprint  # no model is loaded
        scored = fill_cache(cache, reference, rows, device, needed, self._score, verify=at_hand)
        self._other = None
        trainer.strategy.barrier("reference")
        if trainer.is_global_zero:
            cache.merge()
        trainer.strategy.barrier("reference, merged")
        cache.load()
        check_shared(cache, first, trainer)
        log.info(
            "reference: the policy is compared with the log-probabilities in %s (of %d responses); %d rows scored now",
            *(cache.directory, len(cache), scored),
        )
        return cache

    def _folder(self, trainer: Trainer) -> Path:
        fingerprint = self._fingerprint
        if self.config.policy is not None:
            fingerprint = self._fingerprint_of(self._load_other(self.config.policy, trainer))
        root = self.config.cache_dir or Path(trainer.default_root_dir) / "reference_cache"
        mixed = f"-{trainer.precision}" if str(trainer.precision).endswith("-mixed") else ""
        return Path(root) / f"{fingerprint}{mixed}"

    def _ready(self, policy: nn.Module, trainer: Trainer) -> nn.Module:
        """The reference model on its device; how to score a model other than the policy is found out first."""
        device = trainer.lightning_module.device
        model = self._load(policy, trainer).to(device)
        if model is not policy:
            with torch.autocast(device.type, enabled=False):  # the probe's tolerance is that of its own precision
                plan = plan_scoring(model)
            if plan.cause is not None and trainer.is_global_zero:
                log.warning("the reference is scored one sequence at a time: %s", plan.cause)
        return model

    def _load(self, policy: nn.Module, trainer: Trainer) -> nn.Module:
        """The policy itself while it is untouched or its adapters can be switched off; else a fresh copy."""
        if self.config.policy is not None:
            return self._load_other(self.config.policy, trainer)
        if self._fingerprint_of(policy) == self._fingerprint:
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

    def _load_other(self, config: PolicyConfig, trainer: Trainer) -> nn.Module:
        if self._other is None:
            with whole_loading(trainer.strategy):
                self._other = config.load_base()
        return self._other


def check_shared(cache: ReferenceCache, first: Sequence[PackedBatch], trainer: Trainer) -> None:
    """Refuse a cache folder that the machines do not share: a rank later needs values that other ranks have scored.

    Raises:
        InputError: the first value of another rank is missing.
    """
    own = bytes.fromhex(first[0].fingerprints[0]) if first else bytes(16)
    everyones = trainer.strategy.all_gather(
        torch.tensor(list(own), dtype=torch.uint8, device=trainer.strategy.root_device)
    )
    asked = {bytes(key).hex() for key in everyones.reshape(-1, len(own)).tolist()} - {bytes(16).hex()}
    if missing := sum(not cache.has([fingerprint]) for fingerprint in asked):
        raise InputError(
            f"expected the reference values of all ranks in {cache.directory}, got none of {missing} of them: their "
            "machines do not share that folder; type --reference.cache_dir FOLDER with one that all of them see"
        )


@contextmanager
def reference_mode(model: nn.Module) -> Iterator[nn.Module]:
    """The model as reference: adapters off, eval mode, no gradients; restored after."""
    with eval_mode(model), _adapters_off(model):
        yield model


def frozen_copy(model: nn.Module) -> nn.Module:
    """A frozen copy that shares the untrained weights, so that with adapters it takes little memory."""
    shared = {id(parameter): parameter for parameter in model.parameters() if not parameter.requires_grad}
    return copy.deepcopy(model, dict[int, Any](shared)).requires_grad_(False)


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
