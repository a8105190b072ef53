"""A kernel whose backward is wrong is found at the start; torch's flash kernels of a CPU stand for those of a GPU."""

import pytest
import torch
from support.cpu_flash import cpu_pair
from support.groups import random_groups
from support.tiny_models import tiny_model

from lit_longpo.engine import ATTENTION_NAMES, UnsupportedModelError, attention, pack, plan_scoring, score
from lit_longpo.engine.backends.flash import VarlenKernel
from lit_longpo.engine.backends.sinks import KernelPair, folded_sinks
from lit_longpo.log_once import log_once


def folded(change=lambda query, key, value: (query, key, value)):
    """A kernel with sinks whose backward is changed."""

    def call(query, key, value, plan, scaling, reach, sinks):
        pair = cpu_pair(plan, scaling, reach)
        return folded_sinks(
            query, key, value, sinks, KernelPair(pair.forward, lambda *given: change(*pair.backward(*given)))
        )

    return VarlenKernel("a folded kernel", call)


class _HalfGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, output):
        return output.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad * 0.5


def capped(half):
    """Soft-capped attention of whole sequences under a kernel's signature, its gradient perhaps halved."""

    def call(query, key, value, plan, scaling, reach, softcap):
        outputs = []
        for number in range(len(plan.query_starts) - 1):
            q0, q1 = plan.query_starts[number : number + 2].tolist()
            k0, k1 = plan.key_starts[number : number + 2].tolist()
            repeat = query.shape[1] // key.shape[1]
            q, k, v = (part.transpose(0, 1).float() for part in (query[q0:q1], key[k0:k1], value[k0:k1]))
            k, v = k.repeat_interleave(repeat, 0), v.repeat_interleave(repeat, 0)
            far = torch.arange(k1 - k0 - (q1 - q0), k1 - k0).unsqueeze(1) - torch.arange(k1 - k0)
            hidden = (far < 0) | ((far > reach[0]) if reach[0] >= 0 else False)
            scores = softcap * torch.tanh(q @ k.transpose(1, 2) * (scaling or q.shape[-1] ** -0.5) / softcap)
            outputs.append((scores.masked_fill(hidden, -torch.inf).softmax(-1) @ v).transpose(0, 1))
        out = torch.cat(outputs).to(query.dtype)
        return _HalfGradient.apply(out) if half else out

    return VarlenKernel("a capped kernel", call)


def served_by(monkeypatch, kernel):
    monkeypatch.setattr(attention, "find_kernel", lambda device, dtype, extra=None: kernel)
    log_once.cache_clear()


WRONG = {
    "keys": folded(lambda query, key, value: (query, key * 1.2, value)),
    "queries": folded(lambda query, key, value: (torch.zeros_like(query), key, value)),
    "nan": folded(lambda query, key, value: (query, key, value * torch.nan)),
}
CASES = [("GptOss", folded(), WRONG), ("Gemma2", capped(False), {"half": capped(True)})]


@pytest.mark.parametrize(("name", "right", "wrong"), CASES, ids=["sinks", "soft-cap"])
def test_a_wrong_backward_is_found_at_the_start(name, right, wrong, monkeypatch, caplog):
    caplog.set_level("INFO", logger="lit_longpo")
    model = tiny_model(name).to(torch.bfloat16)
    served_by(monkeypatch, right)
    state = torch.random.get_rng_state()
    assert plan_scoring(model).path == "packed"
    assert torch.equal(torch.random.get_rng_state(), state)
    assert f"attention backend: {right.name}" in caplog.text
    assert "are off" not in caplog.text
    for kernel in wrong.values():
        caplog.clear()
        served_by(monkeypatch, kernel)
        assert plan_scoring(model).path == "packed"
        assert caplog.text.count(f"the gradients of {kernel.name} are off by") >= 1
        assert f"attention backend: {kernel.name}" not in caplog.text
        model.set_attn_implementation(ATTENTION_NAMES["flash"])
        with pytest.raises(UnsupportedModelError, match=r"^expected a kernel whose gradients are right .*: auto`$"):
            plan_scoring(model)
        model.set_attn_implementation(ATTENTION_NAMES["auto"])


def test_what_stands_in_trains_as_if_there_were_no_kernel(monkeypatch):
    """The wrong kernel's gradients differ; those of the model do not."""
    row, gradients = pack(random_groups([(9, [4, 3])])), []
    for kernel in (None, WRONG["keys"]):
        served_by(monkeypatch, kernel)
        model = tiny_model("GptOss").to(torch.bfloat16)
        score(model, row).sums.sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters() if parameter.grad is not None])
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))


def test_a_plain_kernel_is_not_asked(monkeypatch):
    asked = []
    monkeypatch.setattr(attention, "gradient_error", lambda *given: asked.append(given))
    plan_scoring(tiny_model("Llama"))
    assert not asked
