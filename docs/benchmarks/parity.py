"""Half precision on the device: is a packed row any further from fp32 than separate rows are?"""

from typing import Any

import torch
from benchmarks.setting import Setting
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from lit_longpo.batch import Group, Response
from lit_longpo.engine import ATTENTION_NAMES, PREFIX_SHARED, base_model, pack
from lit_longpo.engine.attention import UnsupportedModelError
from lit_longpo.engine.scoring import row_log_probs


def run(setting: Setting) -> dict[str, Any]:
    """Relative errors of log-probabilities and gradients against fp32: separate rows, sdpa, flash."""
    exact = _scores(_model(setting, torch.float32), _groups(setting, separate=True), "sdpa")
    made: dict[str, Any] = {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        for backend in ("separate", "sdpa", "flash"):
            groups = _groups(setting, separate=backend == "separate")
            try:
                found = _scores(_model(setting, dtype), groups, "sdpa" if backend == "separate" else backend)
            except UnsupportedModelError as refused:
                made[f"{name} {backend}"] = {"refused": str(refused)}
                continue
            errors = [_error(a, b) for a, b in zip(found, exact, strict=True)]
            made[f"{name} {backend}"] = dict(zip(("log_probs", "gradient"), errors, strict=True))
    return made


def _model(setting: Setting, dtype: torch.dtype) -> nn.Module:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(setting.sizes.config(), attn_implementation=PREFIX_SHARED)
    return model.to(setting.device, dtype).train()


def _groups(setting: Setting, *, separate: bool) -> list[Group]:
    prompt = setting.tokens("long prompt", setting.prompt)
    responses = []
    for number in range(len(setting.answers)):
        ids = setting.response(number)
        responses.append(Response("rejected", ids, (True,) * len(ids), number))
    parts = [(response,) for response in responses] if separate else [tuple(responses)]
    return [Group("record", "long", prompt, part) for part in parts]


def _scores(model: nn.Module, groups: list[Group], backend: Any) -> tuple[Tensor, Tensor]:
    """Token log-probabilities and all gradients, fp32, with a different weight for every token."""
    base_model(model).set_attn_implementation(ATTENTION_NAMES[backend])
    device = next(model.parameters()).device
    log_probs = row_log_probs(model, pack(groups).to(device))
    weights = torch.linspace(-1, 1, len(log_probs), device=device)
    (log_probs * weights).sum().backward()
    gradients = [p.grad.float().flatten() for p in model.parameters() if p.grad is not None]
    return log_probs.detach().float().cpu(), torch.cat(gradients).cpu()


def _error(found: Tensor, exact: Tensor) -> float:
    return float((found - exact).norm() / exact.norm())
