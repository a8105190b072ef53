"""Refuses gguf files of which transformers silently ignores a setting or a tensor: another model would be trained.

transformers takes a dozen settings out of a file and gives all others the defaults of its class. Scaled rotary
positions are lost so (YaRN of Qwen, `rope_freqs.weight` of Llama 3.1, factors of Phi-3, the linear scaling of Gemma 3):
short texts are nearly right, long ones are not. Tensors that no weight asks for are passed over, too.
"""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from lit_longpo.engine.decoder import decoder_of
from lit_longpo.engine.rotary import rotary_embedding
from lit_longpo.errors import InputError, first_names
from lit_longpo.policy.rope import RoPE
from lit_longpo.policy.weights.gguf_header import GgufHeader
from lit_longpo.policy.window import global_parameters

_FACTORS = "rope_freqs.weight"
# A number of a file, and what configurations call it; absent on both sides is the same.
_NUMBERS = {
    "attn_logit_softcapping": ("attn_logit_softcapping",),
    "final_logit_softcapping": ("final_logit_softcapping", "logits_soft_cap"),
    "attention.layer_norm_epsilon": ("layer_norm_eps", "norm_eps", "norm_epsilon", "layer_norm_epsilon"),
    "attention.layer_norm_rms_epsilon": ("rms_norm_eps", "norm_eps", "layer_norm_epsilon"),
    "expert_used_count": ("num_experts_per_tok",),
    "expert_weights_norm": ("norm_topk_prob",),
    "expert_weights_scale": ("routed_scaling_factor",),
    "logit_scale": ("logit_scale",),
    "residual_scale": ("residual_multiplier",),
    "embedding_scale": ("embedding_multiplier",),
}
# By class and number of layers: what llama.cpp knows of a size and its file does not say (Gemma 2's and 3's 27B).
_SCALES = {("gemma2", 46): 144, ("gemma3_text", 62): 168}


def refuse_losses(model: PreTrainedModel, source: str, gguf_file: str, rope: RoPE | None) -> None:
    """Refuse a model that is not the one of its file."""
    header = GgufHeader.of_model(source, gguf_file)
    lost = [*_numbers(header, model.config.get_text_config().to_dict()), *_lost_tensors(header, model)]
    positions = [*_positions(header, model, rope or RoPE())]
    if lost or positions:
        typed = f"; or type {_typed(header)}" if positions and not lost and _typed(header) else ""
        raise InputError(
            f"expected a file that transformers reads whole, got {first_names([*positions, *lost], 3)} in {gguf_file}, "
            f"which it leaves out: it would be another model; set `policy.source` to the model in safetensors{typed}"
        )


def _numbers(header: GgufHeader, has: Mapping[str, Any]) -> Iterator[str]:
    for name, called in _NUMBERS.items():
        said, held = header.said(name), next((has[one] for one in called if has.get(one) is not None), None)
        off = said is None or (held is None and said in (0, 1))
        if not off and not _same(said, held or 0):
            yield f"{name} {said:.6g} (for {held})"
    window, held = header.said("attention.sliding_window"), has.get("sliding_window")
    if window and window < (header.said("context_length") or math.inf) and window != held:
        yield f"attention.sliding_window {window} (for {held})"
    scale = _SCALES.get((has["model_type"], has.get("num_hidden_layers", 0)))
    if scale is not None and scale != has["query_pre_attn_scalar"]:
        yield f"the attention scale 1/sqrt({scale}) of its size (for 1/sqrt({has['query_pre_attn_scalar']}))"


def _same(one: float, other: float) -> bool:
    return math.isclose(float(one), float(other), rel_tol=1e-5, abs_tol=1e-9)


def _positions(header: GgufHeader, model: PreTrainedModel, asked: RoPE) -> Iterator[str]:
    """Rotary positions of the file that are not the model's, but for what was asked for."""
    text = model.config.get_text_config()
    rope, frequencies = global_parameters(text), _frequencies(model)
    if asked.type is None:
        yield from _scaling(header, rope, frequencies)
    local = (getattr(text, "rope_parameters", None) or {}).get("sliding_attention") or {}
    for name, held in (("rope.freq_base", {} if asked.theta else rope), ("rope.freq_base_swa", local)):
        base = header.said(name)
        if base and held and not _same(base, held.get("rope_theta", base)):
            yield f"{name} {base:.6g} (for {held['rope_theta']:.6g})"
    turned = header.said("rope.dimension_count")
    if turned and frequencies and turned not in {2 * len(one) for one in frequencies}:
        yield f"rope.dimension_count {turned} (for {2 * len(frequencies[0])})"


def _scaling(header: GgufHeader, rope: Mapping[str, Any], frequencies: list[Tensor]) -> Iterator[str]:
    kind, factor = header.said("rope.scaling.type"), header.said("rope.scaling.factor")
    factor = header.said("rope.scale_linear") if factor is None else factor  # of files from 2023
    if kind != "none" and factor not in (None, 0, 1) and (rope.get("rope_type"), rope.get("factor")) != (kind, factor):
        yield f"rope.scaling.type {kind or 'linear'} by {factor:.6g} (for {rope.get('rope_type')})"
    factors = header.floats(_FACTORS)
    if factors is not None and not any(_scaled_by(one, factors, rope) for one in frequencies):
        yield _FACTORS


def _frequencies(model: PreTrainedModel) -> list[Tensor]:
    rotary = rotary_embedding(decoder_of(model))
    named = [] if rotary is None else rotary.named_buffers()
    return [one for name, one in named if name.endswith("inv_freq") and "original" not in name]


def _scaled_by(frequencies: Tensor, factors: tuple[float, ...], rope: Mapping[str, Any]) -> bool:
    """Whether frequencies are those of the base over the factors that llama.cpp divides them by."""
    if len(frequencies) != len(factors):
        return False
    steps = torch.arange(len(factors), dtype=torch.float64) / len(factors)
    expected = rope["rope_theta"] ** -steps / torch.tensor(factors, dtype=torch.float64)
    return torch.allclose(frequencies.double().cpu(), expected, rtol=1e-3, atol=1e-9)


def _typed(header: GgufHeader) -> str | None:
    """Settings of `policy.rope` that say what the file does; `None` if none do."""
    kind, factor = header.said("rope.scaling.type"), header.said("rope.scaling.factor")
    if kind not in ("linear", "yarn") or not factor or _FACTORS in header.tensors:
        return None
    length = header.said("rope.scaling.original_context_length") if kind == "yarn" else None
    original = f" --policy.rope.original_length {length}" if length else ""
    return f"--policy.rope.type {kind} --policy.rope.factor {factor:.6g}{original}"


def _lost_tensors(header: GgufHeader, model: PreTrainedModel) -> list[str]:
    """Tensors that no weight was made of: the file holds more numbers than the model.

    Names and layouts differ, but every number of a file is one of the model's. Layers behind the last one are drafts of
    several tokens at once.
    """
    layers = model.config.get_text_config().num_hidden_layers
    sizes = {name: math.prod(t.shape) for name, t in header.tensors.items() if name != _FACTORS}
    sizes = {name: size for name, size in sizes.items() if _block(name) < layers}
    if _tied(model):  # Falcon's and Bloom's files hold the head once more
        sizes.pop("output.weight", None)
    held = {id(tensor): tensor.numel() for tensor in model.state_dict(keep_vars=True).values()}
    return _unknown(header, model, sizes) if sum(sizes.values()) > sum(held.values()) else []


def _tied(model: PreTrainedModel) -> bool:
    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    return head is not None and head.weight is embeddings.weight


def _block(name: str) -> int:
    found = re.match(r"blk\.(\d+)\.", name)
    return int(found.group(1)) if found else -1


def _unknown(header: GgufHeader, model: PreTrainedModel, sizes: Mapping[str, int]) -> list[str]:
    """Those that gguf knows no weight of the model for; all there are if that tells nothing."""
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    kinds = {name: kind for kind, name in MODEL_ARCH_NAMES.items()}
    known = get_tensor_name_map(kinds[header.settings["general.architecture"]], header.said("block_count"))
    ends = (".weight", ".bias")
    taken = {known.get_name(name, try_suffixes=ends) for name in model.state_dict()}
    return sorted(sizes.keys() - taken) or sorted(sizes)
