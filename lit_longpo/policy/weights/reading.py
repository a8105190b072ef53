"""A model's weights: all from its files, where transformers would invent what these lack, or all random."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging
from transformers.utils.quantization_config import Mxfp4Config

from lit_longpo.engine.layers import model_class
from lit_longpo.errors import InputError, first_names
from lit_longpo.policy.file_errors import read_by_transformers, tensors_alone, whole_files
from lit_longpo.policy.locations import stored_file
from lit_longpo.policy.weights.dropout import dropouts, turn_off
from lit_longpo.policy.weights.left_out import note_left_out
from lit_longpo.policy.weights.quantization import settle_maps, stored_quantization
from lit_longpo.policy.weights.twice import refuse_shards_of_ranks, refuse_twice
from lit_longpo.policy.weights.whole import hold_experts_as, refuse_packed, refuse_unsaveable, stay_whole

log = logging.getLogger(__name__)


@isolate_rng(include_cuda=False)  # adapters are drawn on the CPU
def load_weights(source: str, config: PretrainedConfig | None = None, **options: Any) -> PreTrainedModel:
    """A causal language model whose every weight comes from its files.

    What its class draws meanwhile (Qwen3-Next's decays, once more under ZeRO-3) changes no later draw: adapters start
    alike under every strategy.

    Raises:
        InputError: the folder holds a tensor twice, or parts of one; or some are missing, left over or of another shape
            (a tied head is no missing one).
        MissingFileError: a file that the folder's index names is missing.
    """
    from transformers.integrations import deepspeed as zero

    if config is not None:
        check_kind(config, source)
        if not options.get("trust_remote_code"):
            _log_own_code(config, source)
        options["config"] = config
    if zero.is_deepspeed_zero3_enabled():  # it reports no more than what is missing, and shapes on one rank only
        with _zero3_off():
            _read(source, **options, device_map="meta")
    model = _read(source, **options)
    if isinstance(options.get("quantization_config"), Mxfp4Config):
        hold_experts_as(model, options["dtype"])
    refuse_unsaveable(model, source)
    if config is not None and stored_quantization(config) is None:
        named = getattr(config, "transformers_weights", None)
        refuse_packed(_folder_of(source, options.get("revision")), named)
    _untie(model)
    settle_maps(model)
    stay_whole(model)
    note_left_out(model, source, options.get("revision"))
    cast(Any, model).hub_commit = cached_commit(source, options.get("revision"))
    return model


def undropped_weights(source: str, config: PretrainedConfig | None, **options: Any) -> PreTrainedModel:
    """Read as `load_weights` does, without GPT-2's default dropout: a gguf file does not say that it is off.

    Args:
        source: folder or hub name.
        config: architecture, with its dropout turned off; `None` to read it from a gguf file.
        **options: of `from_pretrained`.

    Raises:
        InputError, MissingFileError: see `load_weights`.
    """
    model = load_weights(source, config, **options)
    if config is None and dropouts(model.config):
        turn_off(model.config)
        return load_weights(source, model.config, **options)
    return model


def random_weights(config: PretrainedConfig | None, source: str, **options: Any) -> PreTrainedModel:
    """A model of an architecture whose weights are drawn, not read.

    Args:
        config: architecture; it no longer says how the files are quantised.
        source: folder or hub name, for errors.
        **options: of `from_config`.

    Raises:
        InputError: transformers makes no model of the configuration.
    """
    if config is not None:
        check_kind(config, source)
    vars(config).pop("quantization_config", None)
    with read_by_transformers("a language model's configuration", source):
        return AutoModelForCausalLM.from_config(config, **options)


def warn_of_slow_halves(dtype: torch.dtype) -> None:
    """Say where half-precision products have no kernel, on older CPUs: they take many times as long as in fp32."""
    capability = torch.backends.cpu.get_cpu_capability()
    if dtype.itemsize < 4 and not torch.accelerator.is_available() and not capability.startswith("AVX512"):
        log.warning(
            "%s weights on a CPU with %s are many times slower than fp32; set `policy.dtype: float32`",
            dtype,
            capability,
        )


def hub_commit(model: PreTrainedModel) -> str | None:
    """The commit on the hub that the weights were read from; `None` if a folder held them."""
    return getattr(model, "hub_commit", None)


def cached_commit(source: str, revision: str | None) -> str | None:
    """The commit of a hub's model that this machine has kept, by its place in the cache; `None` of a folder."""
    return None if Path(source).is_dir() else getattr(_folder_of(source, revision), "name", None)


def _folder_of(source: str, revision: str | None) -> Path | None:
    """Where the files lie; `None` if this machine has kept none."""
    if Path(source).is_dir():
        return Path(source)
    config = stored_file(source, "config.json", revision)
    return None if config is None else config.parent


def _read(source: str, **options: Any) -> PreTrainedModel:
    with read_by_transformers("weights", source), _quiet(), whole_files(source), tensors_alone(source):
        if options.get("gguf_file") is None:
            refuse_shards_of_ranks(source)
            refuse_twice(source)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source, output_loading_info=True, ignore_mismatched_sizes=True, **options
        )
    model, report = cast("tuple[PreTrainedModel, dict[str, Any]]", loaded)
    _refuse_incomplete(source, report, type(model).__name__)
    return model


def _own_code(config: PretrainedConfig) -> str | None:
    """The class of language models that lies beside the files, by its name; `None` if there is none."""
    return (getattr(config, "auto_map", None) or {}).get("AutoModelForCausalLM")


def _log_own_code(config: PretrainedConfig, source: str) -> None:
    """Tell of code beside the files that is not run, as transformers has a class for the type: it may be another."""
    own, known = _own_code(config), model_class(config)
    if own is not None and known is not None:
        log.info(
            "the code that %s brings (%s) is not run, but transformers' %s; if it computes something else, type "
            "--policy.trust_remote_code true",
            *(source, own, known.__name__),
        )


def check_kind(config: PretrainedConfig, source: str) -> None:
    """Refuse a configuration of transformers' own that it has no causal language model for, or no window.

    Of the first it would list all that it has.
    """
    _refuse_two_ways(config, source)
    native = type(config).__module__.startswith("transformers.")
    text = config.get_text_config(decoder=True)
    window, layers = getattr(text, "sliding_window", None), getattr(text, "layer_types", None) or ()
    if native and "sliding_attention" in layers and not window:
        raise InputError(
            f"expected a `sliding_window` for the `sliding_attention` among the `layer_types` of config.json at "
            f"{source}, got none (Qwen2 has none with `use_sliding_window: false`); correct that file"
        )
    slides = "sliding_attention" in layers if layers else hasattr(type(text), "sliding_window")
    if native and slides and window is not None and window < 1:
        raise InputError(
            f"expected a `sliding_window` of at least 1 in config.json at {source}, got {window}, with which tokens "
            "see nothing, or all, as each attention kernel has it; write null there if the model has no window"
        )
    if native and model_class(config) is None and _own_code(config) is None:
        raise InputError(
            f"expected a causal language model at {source}, got `model_type: {config.model_type}`, for which "
            "transformers has none (vision and audio models, encoder-decoder models); set `policy.source` to a causal "
            "language model"
        )


def _refuse_two_ways(config: PretrainedConfig, source: str) -> None:
    """Refuse models whose prompts see later tokens: without a mask of its own, one is computed as any other."""
    text = config.get_text_config(decoder=True)
    if any(getattr(part, "prefix_lm", False) for part in (text, getattr(text, "attn_config", None))):
        raise InputError(
            f"expected a model whose tokens see earlier ones alone at {source}, got {type(config).__name__} with "
            "`prefix_lm: true`, whose prompts are to be read in both directions; set another `policy.source`, or write "
            "`prefix_lm: false` into its config.json if it was trained so"
        )


def _refuse_incomplete(source: str, report: dict[str, Any], architecture: str) -> None:
    """Name the tensors; transformers has taken out what an architecture may lack or leave over."""
    kinds = {
        "missing": sorted(report["missing_keys"]),
        "not the model's": sorted(report["unexpected_keys"]),
        "of another shape": sorted(name for name, *_ in report["mismatched_keys"]),
    }
    wrong = [f"{len(names)} {kind} ({first_names(names, 2)})" for kind, names in kinds.items() if names]
    wrong += [" ".join(str(message).split()) for message in report.get("error_msgs", ())]
    if wrong:
        raise InputError(
            f"expected every tensor of {architecture} and no other at {source}, got {'; '.join(wrong)}; set "
            "`policy.source` to a whole model, or correct its config.json (transformers would train random weights)"
        )


def _untie(model: PreTrainedModel) -> None:
    """Say so in the configuration if a file holds a head of its own beside embeddings that should be its weights."""
    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    tied = getattr(model.config.get_text_config(), "tie_word_embeddings", False)  # Inkling's does not say
    if head is None or head.weight is embeddings.weight or not tied:
        return
    log.warning(
        "the head is not tied to the embeddings as the configuration says: the weights hold both and they differ"
    )
    model.config.tie_word_embeddings = model.config.get_text_config().tie_word_embeddings = False


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' own table of the same tensors."""
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)


@contextmanager
def _zero3_off() -> Iterator[None]:
    from transformers.integrations import deepspeed as zero

    weak_reference: Any = zero._hf_deepspeed_config_weak_ref
    kept = weak_reference()
    zero.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        zero.set_hf_deepspeed_config(kept)
