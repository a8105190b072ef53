"""Refuses NaN logits, of which greedy decoding would make the first token of the vocabulary, again and again."""

import torch
from torch import Tensor
from transformers import LogitsProcessor

from lit_longpo.errors import InputError


class NanDetector(LogitsProcessor):
    """Remembers whether any logit was NaN; `check` looks once at the end, so that no token waits for the device."""

    def __init__(self) -> None:
        self._found: Tensor | None = None

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Returns the logits unchanged. Shapes: (batch, num_ids), (batch, vocab_size)."""
        is_nan = scores.isnan().any()
        self._found = is_nan if self._found is None else self._found | is_nan
        return scores

    def check(self, dtype: torch.dtype) -> None:
        """Refuse answers that were chosen from NaN logits."""
        if self._found is not None and bool(self._found):
            raise nan_error(dtype)


def nan_error(dtype: torch.dtype) -> InputError:
    """The error about NaN logits of a model with weights in this precision."""
    name = str(dtype).removeprefix("torch.")
    return InputError(
        f"expected logits that are numbers, got NaN from a model in {name}, whose answers would mean nothing; type "
        "--policy.dtype bfloat16 or float32 if its range is too small, or load weights that are whole"
    )
