"""The engine against the model's own forward: one plain row per response, whole logits."""

from collections.abc import Sequence

import torch
from support.padded_rows import plain_log_probs
from torch import Tensor, nn

from lit_longpo.batch import Group
from lit_longpo.engine import pack
from lit_longpo.engine.attention import ordinary_attention
from lit_longpo.engine.decoder import base_model
from lit_longpo.engine.scoring import row_log_probs


def assert_parity(model: nn.Module, groups: Sequence[Group], *, tolerance: float = 1e-5) -> None:
    """Token log-probabilities to the tolerance, every gradient to ten times that of the largest one."""
    model.zero_grad()
    ours, our_gradients = values_and_gradients(model, row_log_probs(model, pack(groups)))
    with ordinary_attention(base_model(model)):  # around backward too: checkpointing attends again
        theirs, gradients = values_and_gradients(model, torch.cat(plain_log_probs(base_model(model), groups)))
    assert float((ours - theirs).abs().max() / theirs.abs().max()) <= tolerance
    assert our_gradients.keys() == gradients.keys()
    assert len(gradients) > 3
    largest = max(gradient.abs().max() for gradient in gradients.values())
    for name, gradient in gradients.items():
        assert float((our_gradients[name] - gradient).abs().max() / largest) <= 10 * tolerance, name


def values_and_gradients(model: nn.Module, values: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Backward with unequal weights; the gradients are taken away."""
    (values * torch.linspace(-1.0, 2.0, len(values))).sum().backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    model.zero_grad()
    return values.detach(), found
