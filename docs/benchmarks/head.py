"""The head alone: hidden states -> log-probabilities -> gradients, ours and TRL's function."""

from collections.abc import Callable
from typing import Any

import torch
from benchmarks.meter import Meter
from benchmarks.setting import Setting, torch_dtype
from torch import Tensor

LogProbs = Callable[[Tensor, Tensor, Tensor], Tensor]


def ours() -> LogProbs:
    from lit_longpo.engine.log_probs import token_log_probs

    return token_log_probs


def trl() -> LogProbs:
    """TRL's autograd function, asked for log-probabilities only (its DPO trainer also asks for three extras)."""
    from trl.kernels import ChunkedLogProbFunction
    from trl.trainer.utils import _CHUNKED_LOGPROB_CHUNK_SIZE

    def log_probs(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        settings = (1.0, _CHUNKED_LOGPROB_CHUNK_SIZE, None, 1.0, ("log_probs",))
        return ChunkedLogProbFunction.apply(hidden, weight, None, targets, *settings)[0]

    return log_probs


def run(setting: Setting, make: Callable[[], LogProbs]) -> dict[str, Any]:
    """`setting.prompt` tokens through the head, forward and backward."""
    function, shape, device = make(), setting.sizes, setting.device
    generator = torch.Generator(device).manual_seed(0)
    options = {"generator": generator, "device": device, "dtype": torch_dtype(setting)}
    weight = torch.randn(shape.vocab, shape.hidden, **options).mul_(0.02).requires_grad_()
    hidden = torch.randn(setting.prompt, shape.hidden, **options).requires_grad_()
    targets = torch.randint(shape.vocab, (setting.prompt,), generator=generator, device=device)
    meter = Meter(device, setting.warmup)
    meter.start()
    for _ in range(setting.warmup + setting.steps):
        loss = -function(hidden, weight, targets).mean()
        loss.backward()
        meter.loss(loss)
        weight.grad = hidden.grad = None
        meter.step()
    return meter.result()
