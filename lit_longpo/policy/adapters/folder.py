"""Low-rank adapters that lie in a folder (peft's form), as a starting point.

Such a folder names its base model. It is continued, base and adapters apart, or merged into one model on
which training starts anew. What is more than low-rank matrices on a model's layers (trained embeddings,
heads or biases) lies in places that the engine reads directly; such folders can be merged only.
"""

import logging
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils.peft_utils import find_adapter_config_file

from lit_longpo.errors import InputError, MissingFileError
from lit_longpo.log_once import log_once
from lit_longpo.policy.adapters.config import ADAPTER_CONFIG, LORA_KINDS, OWN_LOSSES, read_adapter_config
from lit_longpo.policy.adapters.fit import PREFIX, check_tensors
from lit_longpo.policy.adapters.lora import LoRA, mark_as_start, unfreeze, with_adapters
from lit_longpo.policy.adapters.merging import merge_adapters
from lit_longpo.policy.adapters.targets import ALL_LINEAR, meant_by, modules_named
from lit_longpo.policy.adapters.weights import refuse_other_experts, set_weights, warn_of_zeros
from lit_longpo.policy.file_errors import read_by_transformers, tensors_alone, whole_files
from lit_longpo.policy.locations import check_hub_name, looks_like_path
from lit_longpo.policy.weights.linear_maps import unadaptable
from lit_longpo.policy.weights.unread import unread_maps

if TYPE_CHECKING:
    from peft import PeftModel

_MODEL_CONFIG = "config.json"
_MODELS = ("model*.safetensors", "pytorch_model*.bin")
_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
# Weights trained whole that other programs store beside adapters, and peft does not read: LongLoRA, LLaVA, ms-swift,
# axolotl's ReLoRA (a folder: the base with all earlier adapters merged, which these adapters belong to).
_WHOLE = ("trainable_params.bin", "non_lora_trainables.bin", "vit.safetensors", "relora")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AdapterFolder:
    """Adapters that PEFT wrote: their folder, and its adapter_config.json."""

    path: Path
    settings: dict[str, Any]

    @classmethod
    def at(cls, path: Path) -> "AdapterFolder | None":
        """The adapters in a folder; `None` if it holds a model.

        Raises:
            InputError: it holds both, adapters of another kind than LoRA, adapters without weights or beside others,
                several adapters below it, or a damaged adapter_config.json.
        """
        if not (path / ADAPTER_CONFIG).is_file():
            _check_below(path)
            return None
        if models := sorted(file.name for pattern in _MODELS for file in path.glob(pattern)):
            raise InputError(
                f"expected a model or adapters at {path}, got both {models[0]} and {ADAPTER_CONFIG}; move what does "
                "not belong there into a folder of its own"
            )
        settings = read_adapter_config(path)
        if not any((path / name).is_file() for name in _WEIGHTS):
            raise InputError(f"expected {' or '.join(_WEIGHTS)} at {path}, found neither; copy the whole folder")
        if whole := next((name for name in _WHOLE if (path / name).exists()), None):
            raise InputError(
                f"expected all that was trained in the adapters at {path}, got weights beside them ({whole}), which "
                "peft does not read; merge both into their base with what trained them, and set `policy.source` to the "
                "result"
            )
        return cls(path, settings)

    @property
    def base(self) -> str:
        """Folder or hub name of the model under the adapters.

        Raises:
            InputError: there is none, or it consists of adapters itself.
            MissingFileError: it is not where it should be.
        """
        name = self.settings.get("base_model_name_or_path")
        setting = f"`base_model_name_or_path` in {self.path / ADAPTER_CONFIG}"
        if not name:
            raise InputError(
                f"expected the adapters at {self.path} to name their base model, got {name!r}; set {setting}"
            )
        folder = Path(name).expanduser()
        if not folder.is_dir() and looks_like_path(name):
            raise MissingFileError(f"expected the base model of {self.path} at {folder}, found none; set {setting}")
        if (folder / ADAPTER_CONFIG).is_file():
            raise InputError(
                f"expected a whole model under the adapters of {self.path}, got adapters at {name}; set {setting}"
            )
        if folder.is_dir():
            return str(folder)
        check_hub_name(name, revision=self.revision, setting=setting)
        return str(name)

    @property
    def revision(self) -> str | None:
        """Revision of the base model on the hub."""
        return cast("str | None", self.settings.get("revision"))

    @property
    def beyond_lora(self) -> str | None:
        """What belongs to them beside low-rank matrices, in words."""
        kept = {
            "modules_to_save": self.settings.get("modules_to_save"),
            "trainable_token_indices": self.settings.get("trainable_token_indices"),
            "bias": None if self.settings.get("bias", "none") == "none" else self.settings["bias"],
            **{name: self.settings.get(name) for name in OWN_LOSSES},
        }
        return next((f"`{name}: {value}`" for name, value in kept.items() if value), None)

    def lora(self, wanted: LoRA | None = None) -> LoRA:
        """The settings that training goes on with.

        Args:
            wanted: `policy.lora`; its dropout and `also_train` hold, the rest has to agree.

        Raises:
            InputError: the adapters are of parameters that are no layers.
        """
        targets = self.settings.get("target_modules")
        if targets is None:  # parameters that are no layers
            raise self._not_apart("`target_modules: null`")
        return LoRA(
            r=self.settings["r"],
            alpha=self.settings["lora_alpha"],
            dropout=wanted.dropout if wanted else self.settings.get("lora_dropout", 0.0),
            target_modules=targets if isinstance(targets, str) else sorted(targets),
            also_train=wanted.also_train if wanted else [],
            **{name: bool(self.settings.get(name, False)) for name in LORA_KINDS},
        )

    def check(self, wanted: LoRA | None) -> None:
        """Refuse, before the base model is loaded, what cannot be continued.

        Raises:
            InputError: the adapters contradict `policy.lora`, or consist of more than low-rank matrices.
        """
        if wanted and (wanted.r, wanted.alpha) != (self.settings["r"], self.settings["lora_alpha"]):
            mine = f"r {self.settings['r']} and alpha {self.settings['lora_alpha']}"
            raise self._contradiction(f"r {wanted.r} and alpha {wanted.alpha}", mine)
        if wanted:
            for name in LORA_KINDS:
                asked, there = getattr(wanted, name), bool(self.settings.get(name, False))
                if asked != there:
                    raise self._contradiction(f"`{name}: {str(asked).lower()}`", f"`{name}: {str(there).lower()}`")
        if beyond := self.beyond_lora:
            raise self._not_apart(beyond)

    def continued(self, model: PreTrainedModel, wanted: LoRA | None) -> "PeftModel":
        """The base model with these adapters, to be trained further.

        Raises:
            InputError: see `check`; or the folder does not fit the model.
        """
        self.check(wanted)
        weights = self._weights()
        modules = {name.partition(".lora_")[0].removeprefix(PREFIX) for name in weights}
        if wanted and (asked := _targets(model, wanted.target_modules)) != modules:
            odd = sorted(asked ^ modules)
            raise self._contradiction(
                f"`target_modules: {wanted.target_modules}`", f"others ({len(odd)} differ, for example {odd[0]!r})"
            )
        dropout = self.lora(wanted).dropout
        wrapped = self._wrapped(model, weights, dropout)
        if dropout and not wanted:
            where = self.path / ADAPTER_CONFIG
            log.info(
                "they are trained with the dropout that their folder asks for: `lora_dropout: %g` in %s", dropout, where
            )
        unfreeze(wrapped, wanted.also_train if wanted else [])
        return wrapped

    def applied(self, model: PreTrainedModel) -> nn.Module:
        """The base model with these adapters, to be read only: apart if they can be, else merged."""
        weights = self._weights()
        only_lora = self.beyond_lora is None and not self._not_low_rank(model, weights)
        return self._wrapped(model, weights, dropout=0.0) if only_lora else self.merged(model)

    def merged(self, model: PreTrainedModel) -> PreTrainedModel:
        """One plain model, the adapters added to its weights, all of which can be trained."""
        return merge_adapters(self._wrapped(model, self._weights(), dropout=0.0, apart=False)).requires_grad_(True)

    def _weights(self) -> dict[str, Tensor]:
        from peft.utils import load_peft_weights

        where = str(self.path)
        with read_by_transformers("adapters", where, "peft"), whole_files(where), tensors_alone(where):
            return cast("dict[str, Tensor]", load_peft_weights(str(self.path), device="cpu"))

    def _not_low_rank(self, model: PreTrainedModel, weights: dict[str, Tensor]) -> list[str]:
        """Tensors that are no low-rank matrices of the model's layers."""
        head = next((name for name, module in model.named_modules() if module is model.get_output_embeddings()), "")
        on_head = f"{PREFIX}{head}.lora_"
        return sorted(name for name in weights if ".lora_" not in name or name.startswith(on_head))

    def _wrapped(
        self, model: PreTrainedModel, weights: dict[str, Tensor], dropout: float, *, apart: bool = True
    ) -> "PeftModel":
        from peft import LoraConfig

        if apart and (others := self._not_low_rank(model, weights)):
            raise self._not_apart(others[0])
        with read_by_transformers("adapters", str(self.path), "peft"):
            config: LoraConfig = LoraConfig.from_pretrained(str(self.path))
            config.inference_mode, config.lora_dropout = False, dropout
            config.base_model_name_or_path = model.name_or_path
            wrapped = with_adapters(model, config, f"the adapters of {self.path}")
        refuse_other_experts(wrapped, self.settings, str(self.path))
        check_tensors(wrapped, weights, self.path, bias=str(self.settings.get("bias", "none")))
        set_weights(wrapped, weights)
        mark_as_start(wrapped)
        warn_of_zeros(weights, str(self.path))
        log.info("adapters of %s on %s", self.path, model.name_or_path)
        return wrapped

    def _contradiction(self, wanted: str, there: str) -> InputError:
        return InputError(
            f"`policy.lora` says {wanted}, the adapters at {self.path} have {there}; type --policy.lora null to "
            "continue them as they are, or --policy.adapters merge to merge them and start new ones"
        )

    def _not_apart(self, what: str) -> InputError:
        return InputError(
            f"the adapters at {self.path} hold more than low-rank matrices of layers ({what}), so they cannot be "
            "continued apart from their base; type --policy.adapters merge"
        )


@cache
def hub_adapters(name: str) -> Path | None:
    """Where adapters on the hub are kept on this machine; `None` if a model has that name, or nothing."""
    from huggingface_hub import snapshot_download

    try:
        return None if find_adapter_config_file(name) is None else Path(snapshot_download(name))
    except OSError:  # no such name; what reads the model says so
        return None


def _targets(model: PreTrainedModel, wanted: str | list[str]) -> set[str]:
    """Names of the modules that `target_modules` means, as PEFT reads it."""
    if wanted == ALL_LINEAR:
        return set(meant_by(model, wanted)) - unadaptable(model) - unread_maps(model)
    return set(modules_named(wanted, [name for name, _ in model.named_modules()]))


def _check_below(path: Path) -> None:
    """Refuse several adapters without a model above them; tell of those below a model that may belong to it.

    verl merges a training with LoRA into its base with the adapters below it, unmerged; PiSSA and LoftQ are published
    as what is left of a base, and the adapters that make it whole. A trainer's earlier checkpoints are no part of it.
    """
    files = sorted(path.glob(f"*/{ADAPTER_CONFIG}"), key=lambda file: file.stat().st_mtime_ns)
    below = [file.parent.name for file in files]
    if below and not (path / _MODEL_CONFIG).is_file():
        raise InputError(
            f"expected a model or adapters at {path}, got adapters in {', '.join(below)} below it; type "
            f"--policy.source {path / below[-1]}, the newest"
        )
    if parts := [name for name in below if not name.startswith("checkpoint-")]:
        log_once(
            log.warning,
            "the model at %s is read without the adapters in %s below it; if they are part of what was trained, type "
            "--policy.source %s",
            *(path, ", ".join(parts), path / parts[-1]),
        )
