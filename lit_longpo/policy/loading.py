"""The policy: where its weights come from and how they are held."""

import logging
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from lit_longpo.engine import ATTENTION_NAMES, check_heads
from lit_longpo.engine.layer_kernels import LayerKernels, check_layer_kernels, use_layer_kernels
from lit_longpo.engine.layers import attention_at_start
from lit_longpo.engine.sequential.sequences import score_sequentially
from lit_longpo.engine.states import share_states
from lit_longpo.engine.tiling.tile_lengths import check_tile_tokens
from lit_longpo.engine.tiling.tiled_layers import tile_layers
from lit_longpo.errors import InputError
from lit_longpo.log_once import log_once
from lit_longpo.policy.adapters.lora import LoRA, add_adapters
from lit_longpo.policy.checkpointing import Checkpointing, enable_checkpointing, recomputes_all
from lit_longpo.policy.file_errors import read_by_transformers
from lit_longpo.policy.locations import EMBEDDED
from lit_longpo.policy.model_files import AdaptersAtStart, ModelFiles
from lit_longpo.policy.prompts.prompt_template import PromptTemplate
from lit_longpo.policy.prompts.prompting import PromptFormat
from lit_longpo.policy.prompts.trained_prompt import warn_of_other_prompt
from lit_longpo.policy.rope import RoPE, refuse_idle_factor, refuse_idle_theta, refuse_unknown_type
from lit_longpo.policy.weights import Quantization, freeze_weights
from lit_longpo.policy.weights.dropout import dropouts, turn_off
from lit_longpo.policy.weights.gguf_losses import refuse_losses
from lit_longpo.policy.weights.quantization import log_quantization, require_bitsandbytes
from lit_longpo.policy.weights.reading import random_weights, undropped_weights, warn_of_slow_halves
from lit_longpo.policy.weights.unread import freeze_unread
from lit_longpo.policy.weights.vocabulary import add_tokens, check_rows_trained, grow
from lit_longpo.policy.weights.whole import reading_whole, unpacking_gguf

log = logging.getLogger(__name__)


@dataclass
class PolicyConfig:
    """The language model, how its weights are held, and which of them are trained.

    Args:
        source: "embedded" for the tiny model in this package; a folder; a hub name; or "package:NAME" for files that
            an installed Python package ships. LoRA adapters find their base model through their adapter_config.json.
        gguf_file: name of the file in `source`, for gguf weights (extra `gguf`).
        weights: "pretrained", or "random" to keep only architecture and tokenizer.
        dtype: precision in which the weights are stored.
        quantization: store the weights of linear maps in 4 bits, under `lora` (extra `quantized`). "4bit" means nf4
            with quantised scales; its settings may be given instead.
        gradient_checkpointing: recompute activations in the backward pass: less memory, about a third more time.
            "keep_attention" recomputes all but attention. It is faster, above all at long contexts, and needs one more
            hidden state of memory per layer. "offload" recomputes all and keeps the inputs of layers in host memory,
            copied while the GPU computes, for contexts that fit no other way.
        tile_tokens: how many tokens of a row MLPs, experts and norms process at a time, in both passes. A layer's
            working set then grows with its hidden size, not with its intermediate size; values and gradients stay the
            same. "auto" picks 1,024 to 8,192 by row and sizes if `gradient_checkpointing` is true or "offload", or
            without gradients, and leaves short rows whole; with "keep_attention" it tiles MLPs of long rows on CPUs,
            which is faster. A number always tiles; where activations are kept, MLPs are then computed twice. null
            never tiles.
        layer_kernels: whose code computes norms and MLPs, with the same values: "liger" (GPU, extra `liger`), "compile"
            (torch's compiler, half a minute at the start), or null for the model's own. Which is faster is not
            measured yet.
        attention: "flash" (GPU, bf16 or fp16), "sdpa", or "auto": flash where it runs.
        rope: other rotary positions, for longer contexts. The reference keeps the original ones for views that only it
            scores (LongPO's short context).
        lora: train adapters instead of all weights.
        adapters: what happens to adapters at `source`: "continue" trains them further; "merge" first adds them to their
            base, and trains the result. The reference starts where the policy starts.
        template: how context and question become a prompt.
        train_only: without `lora`, train only weights whose names contain one of these parts, for example
            `[self_attn]`; an empty list means all. `*` stands for anything.
        freeze: freeze weights whose names contain one of these parts, for example `[embed_tokens, "layers.1."]`.
        added_tokens: new tokens that data may write, for example `["<fact>"]`. Embeddings and head get rows for them,
            which start as the mean of all others and must be trained.
        added_special_tokens: new control tokens. In data they stay text under `template.markup: text`.
        trust_remote_code: run the modelling code that the source ships.
    """

    source: str = EMBEDDED
    gguf_file: str | None = None
    weights: Literal["pretrained", "random"] = "pretrained"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    quantization: Literal["4bit"] | Quantization | None = None
    gradient_checkpointing: Checkpointing = False
    tile_tokens: Literal["auto"] | int | None = "auto"
    layer_kernels: LayerKernels | None = None
    attention: Literal["auto", "sdpa", "flash"] = "auto"
    rope: RoPE | None = None
    lora: LoRA | None = None
    adapters: AdaptersAtStart = "continue"
    template: PromptTemplate = field(default_factory=PromptTemplate)
    train_only: list[str] = field(default_factory=list)
    freeze: list[str] = field(default_factory=list)
    added_tokens: list[str] = field(default_factory=list)
    added_special_tokens: list[str] = field(default_factory=list)
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        check_tile_tokens(self.tile_tokens)
        if self.quantization == "4bit":
            self.quantization = Quantization()

    def load(self) -> nn.Module:
        """The model in train mode, with prefix-shared attention, and adapters if there are or shall be some.

        Raises:
            MissingFileError, MissingPackageError, InputError: as `load_base`; adapters at `source` contradict `lora`.
        """
        folder = self.files.start_adapters(self.adapters, random=self.weights == "random")
        if folder and self.adapters == "continue":
            folder.check(self.lora)
        own = None if self.gguf_file else self.files.config()
        model = self.load_plain()
        if own is not None and (dropping := dropouts(own)):
            log.info("the model's own dropout is off, as the reference's is: %s", dropping)
        if folder and self.adapters == "merge":
            model = folder.merged(model)
        freeze_weights(model, self.train_only, self.freeze)
        if self.gradient_checkpointing:
            enable_checkpointing(model, self.gradient_checkpointing)
        wrapped: nn.Module = model
        if folder and self.adapters == "continue":
            wrapped = folder.continued(model, self.lora)
        elif self.lora is not None:
            wrapped = add_adapters(model, self.lora)
        freeze_unread(wrapped)
        check_rows_trained(wrapped, self.new_tokens())
        return wrapped.train()

    def load_base(self) -> nn.Module:
        """What training starts from, to be read only: the model at `source` without `lora`.

        Adapters that lie at `source` are on; they are kept apart where that is possible.

        Raises:
            MissingFileError: `source` names a folder or package that is not there.
            MissingPackageError: gguf weights without the `gguf` extra.
            InputError: its heads cannot be dealt to the ranks that share a row, or its weights are not the model's.
        """
        folder = self.files.start_adapters(self.adapters, random=self.weights == "random")
        model = self.load_plain()
        if folder is None:
            return model
        return folder.merged(model) if self.adapters == "merge" else folder.applied(model)

    def load_plain(self) -> PreTrainedModel:
        """The model without any adapters: of those at `source` their base, in the version that they name."""
        # Reading a configuration out of a gguf file takes seconds: only where it is changed.
        as_it_lies = self.gguf_file and self.rope is None and self.weights != "random"
        config = None if as_it_lies else self.original_config()
        check_heads(self.original_config)
        check_layer_kernels(self.layer_kernels)
        warn_of_slow_halves(self.torch_dtype)
        log.info("loading the policy from %s (%s weights, %s)", self.source, self.weights, self.dtype)
        options = self.files.options() | self._quantization_options(config)
        if config is not None:
            self._set_positions(config)
        attention = attention_at_start(config, ATTENTION_NAMES[self.attention])
        model = self._read(config, options, dtype=self.torch_dtype, attn_implementation=attention)
        if self.quantized is not None:
            log_quantization(model)
        if new := self.new_tokens():
            grow(model, sorted(self.files.tokenizer().get_vocab().values()), new)
        if attention != ATTENTION_NAMES[self.attention]:  # until `plan_scoring` has found that packed rows are exact
            score_sequentially(model, ATTENTION_NAMES[self.attention])
        share_states(model)
        use_layer_kernels(model, self.layer_kernels)
        recomputed = recomputes_all(self.gradient_checkpointing)
        attention_kept = self.gradient_checkpointing == "keep_attention"
        tile_layers(model, self.tile_tokens, recomputed=recomputed, attention_kept=attention_kept)
        return model

    def _set_positions(self, config: PretrainedConfig) -> None:
        """Change the rotary positions of a model that is about to be built; refuse such as it would leave out."""
        if self.rope is not None:
            self.rope.apply(config)
        refuse_unknown_type(config, self.files.where())
        refuse_idle_factor(config, self.files.where())
        if self.rope is None or self.rope.theta is None:
            refuse_idle_theta(config, self.files.where())

    def _read(self, config: PretrainedConfig | None, options: dict[str, Any], **how: Any) -> PreTrainedModel:
        """The weights that lie at `source`, or random ones."""
        if self.weights == "random":
            return random_weights(config, self.files.where(), **how)
        model = undropped_weights(self.files.where(), config, **(options | how))
        if self.gguf_file is not None:
            refuse_losses(model, self.files.where(), self.gguf_file, self.rope)
        return model

    def config_before_rope(self) -> PretrainedConfig | None:
        """The model's own configuration if `rope` changes it, else `None`."""
        return None if self.rope is None else self.original_config()

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer at `source`, with `added_tokens`; adapters without one have their base's.

        Raises:
            InputError: a token that shall be new means something already.
        """
        tokenizer = self.files.tokenizer()
        add_tokens(tokenizer, self.added_tokens, self.added_special_tokens)
        return tokenizer

    def new_tokens(self) -> dict[str, int]:
        """The tokens that `added_tokens` and `added_special_tokens` add to the source's tokenizer, with their ids."""
        if not self.added_tokens and not self.added_special_tokens:
            return {}
        return add_tokens(self.files.tokenizer(), self.added_tokens, self.added_special_tokens)

    def prompt_format(self, template: PromptTemplate | None = None) -> PromptFormat:
        """The tokenizer with this configuration's template.

        Args:
            template: used instead of the configuration's; then no warning compares it with the training's.
        """
        tokenizer = self.tokenizer()
        with read_by_transformers("a tokenizer", self.files.where()):  # whose first text may show what is wrong with it
            made = PromptFormat(tokenizer, template or self.template)
        if template is not None:
            return made
        has_chat_template = made.tokenizer.chat_template is not None
        if has_chat_template and not made.uses_chat:
            log_once(  # it may be left over from another fragment
                log.warning,
                "%s has a chat template, and `policy.template.chat: false` leaves it out; type --policy.template.chat "
                "true to use it",
                self.source,
            )
        warn_of_other_prompt(self.source, self.template, has_chat_template=has_chat_template)
        return made

    @property
    def torch_dtype(self) -> torch.dtype:
        """`dtype` as torch knows it."""
        return getattr(torch, self.dtype)

    @property
    def quantized(self) -> Quantization | None:
        """How weights are quantised, `quantization` spelled out."""
        return self.quantization if isinstance(self.quantization, Quantization) else None

    @property
    def continues_adapters(self) -> bool:
        """Whether adapters at `source` are trained further."""
        return self.files.continued_adapters(self.adapters) is not None

    @property
    def trained_lora(self) -> LoRA | None:
        """Settings of the adapters that are trained: those of `lora`, or of the folder that is continued."""
        folder = self.files.continued_adapters(self.adapters)
        return self.lora if folder is None else folder.lora(self.lora)

    @property
    def trains_everything(self) -> bool:
        """Whether every weight is trained: neither adapters nor a part of the weights."""
        return self.trained_lora is None and not self.train_only and not self.freeze

    @property
    def reference_is_inside(self) -> bool:
        """Whether the untouched policy is the trained one with its adapters off."""
        return self.lora is not None and not self.lora.also_train and not self.continues_adapters

    @property
    def files(self) -> ModelFiles:
        """What lies at `source`."""
        return ModelFiles(self.source, self.gguf_file, self.trust_remote_code)

    def original_config(self) -> PretrainedConfig:
        """The model's configuration at `source`, or of the base of adapters there, without `rope` and dropout."""
        config = self.files.config()
        turn_off(config)
        return config

    def config(self) -> PretrainedConfig:
        """The model's configuration as it is used, `rope` applied."""
        config = self.original_config()
        self._set_positions(config)
        return config

    def quantization_problem(self) -> str | None:
        """Why weights cannot be quantised as they are read, and what to type; `None` if they can."""
        others = {
            "policy.weights random": self.weights == "random",
            "policy.gguf_file": self.gguf_file is not None,
            "policy.adapters merge": self.adapters == "merge",
        }
        conflict = next((name for name, is_made in others.items() if is_made), None)
        if self.quantized is None or conflict is None:
            return None
        return (
            f"expected weights that are quantised as they are read, got `policy.quantization` with `{conflict}`; type "
            "--policy.quantization null, or set `policy.source` to a folder of whole, merged weights"
        )

    def _quantization_options(self, config: PretrainedConfig | None) -> dict[str, Any]:
        """The options of `from_pretrained` that quantise the weights, or read quantised files whole."""
        if self.quantized is not None:
            if problem := self.quantization_problem():
                raise InputError(problem)
            require_bitsandbytes()
            assert config is not None  # but for gguf files
            code = {"trust_remote_code": self.trust_remote_code}
            return self.quantized.options(config, self.dtype, self.files.where(), **code)
        if self.gguf_file is not None:
            return unpacking_gguf()
        return reading_whole(config, self.files.where()) if config is not None else {}
