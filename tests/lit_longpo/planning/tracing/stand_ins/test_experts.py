"""Products of routed experts against a count by hand, and a trace's against torch's own."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers.integrations import moe

from lit_longpo.live_bytes import LiveBytes
from lit_longpo.planning.tracing.stand_ins.experts import planned_products

NUM_TOKENS, EXPERTS, WIDE, NARROW = 64, 4, 16, 8


def product(trained):
    """Bytes that a product of (64, 16) and (4, 16, 8) keeps after forward, and those that backward adds."""
    tokens = torch.randn(NUM_TOKENS, WIDE, requires_grad=True)
    weight = torch.randn(EXPERTS, WIDE, NARROW, requires_grad=trained)
    ends, gradient = torch.arange(16, 80, 16, dtype=torch.int32), torch.randn(NUM_TOKENS, NARROW)
    with LiveBytes() as memory:
        for tensor in (tokens, weight, gradient):
            memory.add(tensor)
        start = memory.live
        out = moe._grouped_mm(tokens, weight, ends)
        forward = memory.live
        out.backward(gradient)
        return forward - start, memory.live - forward


@pytest.mark.parametrize("trained", [True, False])
def test_a_product_keeps_its_output_and_the_gradients_that_are_needed(trained):
    """The real one is torch's own."""
    with FakeTensorMode(), planned_products():
        forward, backward = product(trained)
    assert forward == 4 * NUM_TOKENS * NARROW
    assert backward == 4 * (NUM_TOKENS * WIDE + EXPERTS * WIDE * NARROW * trained)
    assert (forward, backward) == product(trained)


def test_the_products_are_torchs_own_again_after_the_block():
    before = moe._grouped_mm
    with planned_products():
        assert moe._grouped_mm is not before
    assert moe._grouped_mm is before
