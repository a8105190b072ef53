"""Tiny random models of every architecture class that the engine promises to serve."""

from collections.abc import Mapping

import torch
import transformers
from torch import nn

import lit_longpo.engine  # noqa: F401  registers the prefix-shared attention

SHAPE = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}

ARCHITECTURES = {
    "Qwen2": {},
    "Qwen3": {"head_dim": 8},
    "Llama": {},
    "Mistral": {"sliding_window": 8},
    "Gemma3Text": {"head_dim": 8, "sliding_window": 8, "final_logit_softcapping": 5.0},
    "SmolLM3": {},
    "Granite": {"logits_scaling": 4.0, "embedding_multiplier": 2.0},
    "Cohere": {"logit_scale": 0.5},
    "Gemma2": {"head_dim": 8, "sliding_window": 8, "attn_logit_softcapping": 2.0, "query_pre_attn_scalar": 8},
    "Mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "Qwen3Moe": {"head_dim": 8, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
    "DeepseekV3": {
        "num_key_value_heads": 4,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "n_group": 2,
        "topk_group": 1,
        "moe_intermediate_size": 16,
        "first_k_dense_replace": 1,
        "kv_lora_rank": 16,
        "q_lora_rank": 16,
        "qk_rope_head_dim": 4,
        "qk_nope_head_dim": 4,
        "v_head_dim": 6,
    },
    "GptOss": {"head_dim": 8, "sliding_window": 8, "num_local_experts": 4, "num_experts_per_tok": 2},
}


def tiny_config(name: str, **overrides: object) -> transformers.PretrainedConfig:
    options = {**SHAPE, **ARCHITECTURES.get(name, {}), **overrides}
    return getattr(transformers, f"{name}Config")(**options)


def tiny_model(name: str = "Llama", *, seed: int = 0, **overrides: object) -> nn.Module:
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(
        tiny_config(name, **overrides), attn_implementation="prefix_shared"
    )
    for parameter in model.parameters():
        # Larger than the usual 0.02, so that attention matters and errors cannot hide.
        nn.init.normal_(parameter, std=0.25) if parameter.dim() > 1 else None
    return model.train()


def tiny_vision_model() -> transformers.Gemma3ForConditionalGeneration:
    """A Gemma 3 that sees: its text model has the shape of the others."""
    text = {**SHAPE, "head_dim": 8, "sliding_window": 8}
    vision = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    }
    config = transformers.Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
    return transformers.Gemma3ForConditionalGeneration(config)


def following_model(vocab_size: int, after: Mapping[int, int], *, otherwise: int) -> nn.Module:
    """A model whose likeliest token depends on the last one alone, and whose settings name no end.

    Args:
        vocab_size: tokens.
        after: what follows a token.
        otherwise: what follows all others.
    """
    model = tiny_model(vocab_size=vocab_size, hidden_size=64, eos_token_id=None, bos_token_id=None)
    model.generation_config.eos_token_id = None
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        embeddings = torch.nn.functional.normalize(model.model.embed_tokens.weight)
        model.model.embed_tokens.weight.copy_(embeddings)
        model.lm_head.weight.zero_()
        for token in range(vocab_size):
            model.lm_head.weight[after.get(token, otherwise)] += embeddings[token]
    return model.eval()
