"""Layer inputs go to the host and come back one ahead of backward, unchanged."""

import gc

import pytest
import torch
from support.groups import random_groups
from support.tiny_models import tiny_model

from lit_longpo.engine import pack, score
from lit_longpo.policy.checkpointing import enable_checkpointing
from lit_longpo.policy.offloading import CudaTransfers, offload_inputs

ROW = pack(random_groups([(9, [2, 3])]))


class Ledger:
    """Copies tensors, and writes down which one when; torch 2.11 also saves a tensor of no elements."""

    def __init__(self, offloads=lambda tensor: tensor.numel() > 0):
        self.offloads, self.events, self.hosts = offloads, [], []

    def to_host(self, tensor):
        host = tensor.detach().clone()
        self.events.append(("out", len(self.hosts)))
        self.hosts.append(host)
        return host

    def prefetch(self, host, device):
        number = next(number for number, known in enumerate(self.hosts) if known is host)
        self.events.append(("back", number))
        return host.clone(), number

    def waited_for(self, tensor, arrived):
        self.events.append(("use", arrived))
        return tensor


def gradients(transfers=None, layers=3):
    model = tiny_model("Llama", num_hidden_layers=layers)
    enable_checkpointing(model)
    if transfers is not None:
        offload_inputs(model, transfers)
    score(model, ROW).sums.sum().backward()
    return [parameter.grad for parameter in model.parameters()]


def test_gradients_are_the_same_bit_for_bit():
    for first, second in zip(gradients(), gradients(Ledger()), strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_each_input_is_called_while_the_layer_above_is_in_backward():
    ledger = Ledger()
    gradients(ledger)
    out, later = ledger.events[:3], ledger.events[3:]
    assert out == [("out", 0), ("out", 1), ("out", 2)]
    assert later == [("back", 2), ("back", 1), ("use", 2), ("back", 0), ("use", 1), ("use", 0)]


def test_what_is_not_taken_stays():
    ledger = Ledger(offloads=lambda tensor: False)
    gradients(ledger)
    assert ledger.events == []
    assert not CudaTransfers().offloads(torch.zeros(2**20))  # there is no GPU to come from


def test_a_forward_without_backward_leaves_nothing_to_call():
    ledger = Ledger()
    model = tiny_model("Llama", num_hidden_layers=3)
    enable_checkpointing(model)
    offload_inputs(model, ledger)
    score(model, ROW)
    gc.collect()
    ledger.events.clear()
    score(model, ROW).sums.sum().backward()
    assert ("back", 2) not in ledger.events
    assert [event for event in ledger.events if event[0] == "use"] == [("use", 5), ("use", 4), ("use", 3)]


def test_a_second_backward_finds_the_inputs_again():
    model = tiny_model("Llama")
    enable_checkpointing(model)
    offload_inputs(model, Ledger())
    loss = score(model, ROW).sums.sum()
    loss.backward(retain_graph=True)
    first = model.lm_head.weight.grad.clone(), model.model.layers[0].mlp.up_proj.weight.grad.clone()
    loss.backward()
    torch.testing.assert_close(model.model.layers[0].mlp.up_proj.weight.grad, 2 * first[1])
    torch.testing.assert_close(model.lm_head.weight.grad, 2 * first[0])


def kept_and_gradients(how, row):
    """Bytes that one forward leaves on the device, and gradients on the host."""
    model = tiny_model("Llama", num_hidden_layers=12, hidden_size=256, max_position_embeddings=8192).cuda()
    enable_checkpointing(model, how)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    loss = score(model, row).sums.sum()
    torch.cuda.synchronize()
    kept = torch.cuda.memory_allocated() - before
    loss.backward()
    return kept, [parameter.grad.cpu() for parameter in model.parameters()]


@pytest.mark.gpu
def test_on_a_gpu_gradients_are_the_same_and_memory_is_less():
    row = pack(random_groups([(4000, [8, 8])])).to("cuda")
    kept_and_gradients(True, row)  # cuBLAS keeps a workspace for each thread from its first use on: 32 MiB on an H100
    kept, expected = kept_and_gradients(True, row)
    kept_offloaded, gradients_offloaded = kept_and_gradients("offload", row)
    assert kept_offloaded < kept - 8 * 4000 * 256 * 4
    for first, second in zip(expected, gradients_offloaded, strict=True):
        # Sums of thousands of tokens, added up in any order: 1.7e-6 of the largest was seen on an H200.
        torch.testing.assert_close(first, second, rtol=0, atol=1e-4 * float(first.abs().max()))
