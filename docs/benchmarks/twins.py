"""Tiny twins of model families on a device, in half precision: is the flash path as near to fp32 as others are?

Compared are token log-probabilities and all gradients, relative to those of separate rows in fp32 from the model's
own forward and with the same (rounded) weights. Names of twins are those of `tests/support`.
"""

import copy
import logging
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from lit_longpo.batch import Group
from lit_longpo.engine import ATTENTION_NAMES, attention, base_model, pack, plan_scoring
from lit_longpo.engine.attention import ordinary_attention
from lit_longpo.engine.backends import gradient_check
from lit_longpo.engine.scoring import row_log_probs

_SIZE = {"hidden_size": 256, "intermediate_size": 512, "max_position_embeddings": 4096}
_LATENT = {"kv_lora_rank": 64, "q_lora_rank": 64, "qk_rope_head_dim": 16, "qk_nope_head_dim": 48, "v_head_dim": 32}
_ALL_EXPERTS = {"num_local_experts": 2, "num_experts_per_tok": 2}  # rounding cannot choose others
_DELTA = {"linear_key_head_dim": 64, "linear_value_head_dim": 64, "head_dim": 64}
_MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 64, "mamba_d_state": 16}

# Family -> sizes beyond those of the smallest twin; a window is shorter than the prompts.
TWINS: dict[str, dict[str, Any]] = {
    "Llama": {},
    "Qwen2": {},
    "Mistral": {"sliding_window": 100},
    "Gemma3Text": {"head_dim": 64, "sliding_window": 100},
    "GptOss": {"head_dim": 64, "sliding_window": 100, **_ALL_EXPERTS},
    "Gemma2": {"head_dim": 64, "sliding_window": 100, "query_pre_attn_scalar": 64},
    "DeepseekV3": {**_LATENT, "first_k_dense_replace": 2},
    "Qwen3_5Text": _DELTA,
    "Bamba": _MAMBA,
    "FalconH1": {**_MAMBA, "mamba_d_ssm": 512, "head_dim": 64},
    "Lfm2": {},
}
_SIZES = [(600, [96, 64, 33]), (37, [20, 5]), (1, [3, 9])]


def measure(name: str, device: str, without: Sequence[str] = ()) -> dict[str, Any]:
    """Errors of every way to score, and what the start-up checks decide.

    Args:
        name: of the twin.
        device: "cuda" or "cpu".
        without: packages that are hidden from transformers.
    """
    for package in without:
        sys.modules[package] = None  # type: ignore[assignment]
    torch.backends.cudnn.allow_tf32 = False
    half, groups = _twin(name, device), _groups()
    exact = _separate(copy.deepcopy(half).float(), groups)
    ways: dict[str, Callable[[], tuple[Tensor, Tensor]]] = {
        "fp32 packed": lambda: _packed(copy.deepcopy(half).float(), groups, "sdpa"),
        "separate": lambda: _separate(half, groups),
        "sdpa": lambda: _packed(half, groups, "sdpa"),
        "flash": lambda: _packed(half, groups, "flash"),
        "auto": lambda: _packed(half, groups, "auto"),
    }
    decided, gradient_checks, said = _decision(half)
    return {
        "decided": decided,
        "gradient_checks": gradient_checks,
        "said": said,
        **{way: _errors(run, exact) for way, run in ways.items()},
    }


def _errors(run: Callable[[], tuple[Tensor, Tensor]], exact: tuple[Tensor, Tensor]) -> dict[str, Any]:
    began = time.perf_counter()
    try:
        found = run()
    except Exception as error:
        return {"refused": f"{type(error).__name__}: {str(error)[:300]}"}
    values, gradient = (float((a - b).norm() / b.norm()) for a, b in zip(found, exact, strict=True))
    return {"values": values, "gradient": gradient, "seconds": time.perf_counter() - began}


def _twin(name: str, device: str) -> nn.Module:
    from support.tiny_hybrids import SHARED, tiny_hybrid
    from support.tiny_models import tiny_model

    make = tiny_hybrid if name in SHARED else tiny_model
    model = make(name, **{**_SIZE, **TWINS[name]})
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_((32 / _SIZE["hidden_size"]) ** 0.5)  # the same scores as in the smallest twin
    return model.to(device, torch.bfloat16)


def _groups() -> list[Group]:
    from support.groups import random_groups

    jumping = random_groups([(150, [30, 10])], jump=True, seed=1)
    return [*random_groups(_SIZES), *[replace(group, example="jumping") for group in jumping]]


def _packed(model: nn.Module, groups: list[Group], backend: Any) -> tuple[Tensor, Tensor]:
    base = base_model(model)
    if "prefix_shared" in str(base.config._attn_implementation):
        base.set_attn_implementation(ATTENTION_NAMES[backend])
    device = next(model.parameters()).device
    return _with_gradient(model, row_log_probs(model, pack(groups).to(device)))


def _separate(model: nn.Module, groups: list[Group]) -> tuple[Tensor, Tensor]:
    from support.padded_rows import plain_log_probs

    with ordinary_attention(base_model(model)):
        return _with_gradient(model, torch.cat(plain_log_probs(model, groups)))


def _with_gradient(model: nn.Module, values: Tensor) -> tuple[Tensor, Tensor]:
    """Values and all gradients, of a sum in which every token has another weight."""
    model.zero_grad()
    (values * torch.linspace(-1, 1, len(values), device=values.device)).sum().backward()
    pairs = [(p, p.grad) for p in model.parameters()]
    flat = [(torch.zeros_like(p) if grad is None else grad).float().flatten() for p, grad in pairs]
    return values.detach().float().cpu(), torch.cat(flat).cpu()


def _decision(model: nn.Module) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """The scoring plan, the size of every gradient check's error, and what was logged."""
    checks, records = dict[str, Any](), list[str]()

    def recorded(kernel: Any, *arguments: Any) -> str | None:
        with patch.dict(gradient_check._TOLERANCE, {torch.bfloat16: -1.0}):  # so that it says the error
            size = gradient_check.gradient_error.__wrapped__(kernel, *arguments)
        checks[f"{kernel.name}, window {arguments[5]}, {arguments[6]}"] = size
        return gradient_check.gradient_error(kernel, *arguments)

    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("lit_longpo")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    with patch.object(attention, "gradient_error", recorded):
        try:
            plan = plan_scoring(model)
            decided: dict[str, Any] = {"path": plan.path, "error": plan.error, "cause": plan.cause}
        except Exception as error:
            decided = {"refused": f"{type(error).__name__}: {str(error)[:500]}"}
    return decided, checks, records
