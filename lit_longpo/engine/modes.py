"""A model asked rather than trained."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Inside the block the model drops nothing and keeps no gradients; afterwards it is in the mode that it was in.

    Args:
        model: as a whole: its parts follow it.
    """
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)
