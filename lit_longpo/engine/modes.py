"""Modes of a model as context managers: without training, with its own attention, for generation."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from transformers import GenerationConfig

from lit_longpo.engine.attention import ordinary_attention
from lit_longpo.engine.decoder import base_model


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Inside the block the model is in eval mode and no gradients are kept; afterwards it has its mode of before.

    Args:
        model: the whole model; all of its modules get the mode of the outermost one afterwards.
    """
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


@contextmanager
def plain_mode(model: nn.Module) -> Iterator[None]:
    """Inside the block the model has ordinary attention, is in eval mode, and no gradients are kept."""
    with eval_mode(model), ordinary_attention(base_model(model)):
        yield


@contextmanager
def generation_mode(model: nn.Module) -> Iterator[None]:
    """`plain_mode` without the model's own generation settings; everything is restored afterwards.

    `generate` would take temperature, repetition penalty and others from these wherever its caller leaves them open.
    """
    base = base_model(model)
    settings, base.generation_config = base.generation_config, GenerationConfig()
    try:
        with plain_mode(model):
            yield
    finally:
        base.generation_config = settings
