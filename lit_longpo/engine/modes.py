"""Eval mode as a context manager."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


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
