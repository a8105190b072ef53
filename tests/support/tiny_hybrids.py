"""Tiny random models that a packed row would mix up without more: state in the layers, or attention of their own."""

import torch
import transformers
from support.tiny_models import SHAPE
from torch import nn

from lit_longpo.engine.attention import PREFIX_SHARED
from lit_longpo.engine.layers import attention_at_start
from lit_longpo.engine.sequential.sequences import score_sequentially
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
    "FalconH1": {**_MAMBA, "mamba_d_ssm": 64, "head_dim": 8, "lm_head_multiplier": 0.5},
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
    "GPTNeo": {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]]},
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
    "DeepseekV4": {
        "num_key_value_heads": 1,
        "head_dim": 8,
        "q_lora_rank": 16,
        "o_groups": 2,
        "o_lora_rank": 8,
        "moe_intermediate_size": 16,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "layer_types": ["compressed_sparse_attention", "heavily_compressed_attention"],
        "compress_rates": {"compressed_sparse_attention": 4, "heavily_compressed_attention": 8},
        "mlp_layer_types": ["moe", "moe"],
        "sliding_window": 8,
        "index_n_heads": 2,
        "index_head_dim": 8,
        "index_topk": 64,  # fewer would end in ties, which go by the length of a sequence
        "hc_mult": 2,
    },
}
# Models whose heads do more than to multiply: they are asked for their own logits.
OWN = {
    "InklingText": {
        "head_dim": 8,
        "swa_num_attention_heads": 4,
        "swa_num_key_value_heads": 2,
        "swa_head_dim": 8,
        "sliding_window_size": 16,
        "d_rel": 4,
        "rel_extent": 16,
        "layer_types": ["hybrid_sliding", "hybrid"],
        "mlp_layer_types": ["dense", "sparse"],
        "moe_intermediate_size": 16,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "n_shared_experts": 1,
        "vocab_size": 104,  # padded
        "unpadded_vocab_size": 96,
    },
    "ModernBertDecoder": {"sliding_window": 16, "global_attn_every_n_layers": 2, "embedding_dropout": 0.0},
    "Bert": {"is_decoder": True, "attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0},
}


def hybrid_config(name: str, **overrides: object) -> transformers.PretrainedConfig:
    return getattr(transformers, f"{name}Config")(**{**SHAPE, **{**SHARED, **ALONE, **OWN}[name], **overrides})


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
