"""Tiny random models that a packed row would mix up without more: state in the layers, or attention of their own."""

import torch
import transformers
from support.tiny_models import SHAPE
from torch import nn

from lit_longpo.engine.attention import PREFIX_SHARED
from lit_longpo.engine.layers import attention_at_start
from lit_longpo.engine.sequential import score_sequentially
from lit_longpo.engine.states import share_states

_LINEAR = ["linear_attention", "full_attention"]
_DELTA = {
    "layer_types": _LINEAR,
    "head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
_MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_chunk_size": 16}
_PLAIN_MAMBA2 = {"num_heads": 8, "head_dim": 8, "state_size": 8, "n_groups": 1, "chunk_size": 16}

# Layers with state that responses take over from their prompt.
SHARED = {
    "Qwen3_5Text": _DELTA,
    "Qwen3Next": {**_DELTA, **_EXPERTS, "shared_expert_intermediate_size": 16, "decoder_sparse_step": 1},
    "OlmoHybrid": _DELTA,
    "Bamba": {**_MAMBA, "attn_layer_indices": [1]},
    "GraniteMoeHybrid": {
        **_MAMBA,
        "layer_types": ["mamba", "attention"],
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "shared_intermediate_size": 16,
    },
    "FalconH1": {**_MAMBA, "mamba_d_ssm": 64, "head_dim": 8},
    "Lfm2": {"layer_types": ["conv", "full_attention"], "block_auto_adjust_ff_dim": False},
    "NemotronH": {
        "layers_block_type": ["mamba", "attention"],
        "head_dim": 8,
        "mamba_num_heads": 8,
        "mamba_head_dim": 8,
        "ssm_state_size": 8,
        "n_groups": 1,
        "chunk_size": 16,
    },
    "Mamba2": _PLAIN_MAMBA2,
}
# Models that are scored one sequence at a time.
ALONE = {
    "GPTJ": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_inner": 48, "rotary_dim": 4, "n_positions": 512},
    "Falcon": {"new_decoder_architecture": True, "num_kv_heads": 2, "ffn_hidden_size": 48},
    "StableLm": {},
    "Mamba": {"state_size": 8},
    "Jamba": {
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "num_experts": 2,
        "num_experts_per_tok": 1,
        "mamba_d_state": 8,
        "mamba_dt_rank": 4,
    },
    "MiniMax": {"layer_types": _LINEAR, "head_dim": 8, "block_size": 16, "num_local_experts": 2},
    "RecurrentGemma": {
        "block_types": ["recurrent", "attention"],
        "lru_width": 32,
        "attention_window_size": 16,
        "head_dim": 8,
        "logits_soft_cap": 5.0,
    },
    "Llama4Text": {
        "head_dim": 8,
        "attention_chunk_size": 16,
        "intermediate_size_mlp": 48,
        "num_local_experts": 2,
        "attn_temperature_tuning": True,
        "floor_scale": 16,
        "layer_types": ["chunked_attention", "full_attention"],
    },
}


def hybrid_config(name: str, **overrides: object) -> transformers.PretrainedConfig:
    return getattr(transformers, f"{name}Config")(**{**SHAPE, **{**SHARED, **ALONE}[name], **overrides})


def tiny_hybrid(name: str, *, seed: int = 0, **overrides: object) -> nn.Module:
    """Loaded as a policy is: packed rows only where nothing speaks against them."""
    torch.manual_seed(seed)
    config = hybrid_config(name, **overrides)
    attention = attention_at_start(config, PREFIX_SHARED)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    if attention != PREFIX_SHARED:
        score_sequentially(model, PREFIX_SHARED)
    share_states(model)
    for parameter in model.parameters():
        # Larger than the usual 0.02, so that attention matters and errors cannot hide.
        nn.init.normal_(parameter, std=0.25) if parameter.dim() == 2 else None
    return model.train()
