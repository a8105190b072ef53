"""Which modules ZeRO-3 gathers at once, what their inputs become, and which weights of parts it gathers too."""

import pytest
import torch
from peft.tuners.lora.layer import ParamWrapper
from support.tiny_hybrids import SHARED, tiny_hybrid
from support.tiny_models import tiny_model

from lit_longpo.engine.states import mixers
from lit_longpo.engine.tiling.tiled_layers import tile_layers, tiled_modules
from lit_longpo.policy import LoRA
from lit_longpo.policy.adapters.lora import add_adapters
from lit_longpo.strategies.gathering import gather_at_once, gather_what_mixers_read

deepspeed = pytest.importorskip("deepspeed", reason='needs pip install "lit_longpo[deepspeed]"')


def leaves(model):
    """What DeepSpeed gathers as one."""
    return [module for module in model.modules() if deepspeed.utils.z3_leaf_module(module)]


def tiled(name="Llama"):
    model = tiny_model(name)
    tile_layers(model, 5, recomputed=True)
    return model


def seen_by(module, monkeypatch):
    """What reaches a module behind all hooks."""
    seen = []
    monkeypatch.setattr(module, "forward", lambda *tensors: seen.extend(tensors) or tensors[0])
    return seen


def test_tiled_mlps_are_gathered_at_once_and_norms_as_ever():
    model = tiled()
    gather_at_once(model)
    assert leaves(model) == [layer.mlp for layer in model.model.layers]
    assert len(tiled_modules(model)) > len(leaves(model))  # norms are tiled too, and have no parts


@pytest.mark.parametrize("name", ["GraniteMoeHybrid", "Mixtral"])
def test_tiled_experts_are_gathered_at_once_though_their_activation_has_no_weights(name):
    """DeepSpeed saw a call of it in every tile: ranks with other numbers of tiles waited for each other for ever."""
    model = tiny_hybrid(name) if name in SHARED else tiny_model(name)
    tile_layers(model, 5, recomputed=True)
    gather_at_once(model)
    experts = [module for module in tiled_modules(model) if type(module).__name__.endswith("Experts")]
    assert len(experts) == 2
    assert set(experts) <= set(leaves(model))


def test_whole_layers_are_left_to_deepspeed():
    model = tiny_model()
    gather_at_once(model)
    assert leaves(model) == []
    assert not model.model.layers[0].mlp._forward_pre_hooks


def test_adapters_of_a_parameter_are_gathered_from_the_outermost_inwards():
    model = add_adapters(tiny_model("Mixtral"), LoRA(r=2))
    gather_at_once(model)
    wrappers = [module for module in model.modules() if isinstance(module, ParamWrapper)]
    inner = {id(part) for wrapper in wrappers for part in wrapper.modules() if part is not wrapper}
    outermost = [wrapper for wrapper in wrappers if id(wrapper) not in inner]
    assert len(wrappers) > len(outermost) > 0
    assert leaves(model) == outermost


def test_an_input_without_gradient_gets_one_so_that_gradients_are_reduced_after_they_are_there(monkeypatch):
    model = tiled()
    gather_at_once(model)
    mlp = model.model.layers[0].mlp
    seen = seen_by(mlp, monkeypatch)
    row, numbers, wanted = torch.randn(1, 7, 32), torch.arange(7), torch.randn(1, 7, 32, requires_grad=True)
    mlp(row, numbers, wanted)
    assert seen[0].requires_grad
    assert seen[0].is_leaf
    assert torch.equal(seen[0], row)
    assert not row.requires_grad  # whose it is need not know
    assert seen[1] is numbers  # integers have no gradient
    assert seen[2] is wanted


@pytest.mark.parametrize("why", ["no gradients", "nothing is trained"])
def test_inputs_stay_where_no_gradient_comes(why, monkeypatch):
    model = tiled()
    gather_at_once(model)
    mlp = model.model.layers[0].mlp
    seen, row = seen_by(mlp, monkeypatch), torch.randn(1, 7, 32)
    mlp.requires_grad_(why == "no gradients")
    with torch.set_grad_enabled(why != "no gradients"):
        mlp(row)
    assert seen[0] is row


def test_the_gradient_that_nobody_asked_for_changes_no_other():
    row = torch.randn(1, 7, 32)
    gradients = []
    for hooked in (False, True):
        model = tiled()
        if hooked:
            gather_at_once(model)
        mlp = model.model.layers[0].mlp
        mlp(row).square().sum().backward()
        gradients.append([parameter.grad for parameter in mlp.parameters()])
    assert len(gradients[0]) == 3
    for found, expected in zip(*gradients, strict=True):
        assert torch.equal(found, expected)


def test_gradients_are_reduced_once_behind_all_calls_of_a_row():
    """DeepSpeed would come with each call, before the gradients are there, and stop at the second (AssertionError)."""
    model = tiled()
    gather_at_once(model)
    mlp, reduced = model.model.layers[0].mlp, []
    weights = list(mlp.parameters())
    # As DeepSpeed does.
    handle = mlp.register_full_backward_hook(lambda *_: reduced.append([p.grad.clone() for p in weights]))
    rows = torch.randn(3, 1, 7, 32)
    for times in (1, 2):
        checkpointed = torch.utils.checkpoint.checkpoint(mlp, rows[0], use_reentrant=False)
        (checkpointed.square().sum() + sum(mlp(row).square().sum() for row in rows[1:])).backward()
        assert len(reduced) == times
        expected = torch.autograd.grad(sum(mlp(row).square().sum() for row in rows), weights)
        for found, value in zip(reduced[-1], expected, strict=True):
            torch.testing.assert_close(found, value)
        mlp.zero_grad()
    handle.remove()
    mlp(rows[0]).sum().backward()
    assert len(reduced) == 2


def test_others_hook_a_leaf_as_any_module():
    model = tiled()
    gather_at_once(model)
    mlp, called = model.model.layers[0].mlp, []
    mlp.register_full_backward_hook(lambda *_: None)  # DeepSpeed's
    mlp.register_full_backward_hook(lambda _, inputs, outputs: called.append((inputs, outputs)))
    mlp(torch.randn(1, 7, 32)).sum().backward()
    assert [len(inputs) + len(outputs) for inputs, outputs in called] == [2]


@pytest.mark.parametrize("name", ["Lfm2", "Mamba", "Qwen3_5Text"])
def test_layers_with_state_gather_all_weights_of_their_parts(name):
    model = tiny_hybrid(name)
    gather_what_mixers_read(model)
    found = mixers(model)
    assert found
    for mixer in found:
        of_parts = {id(p) for part in mixer.children() for p in part.parameters()}
        assert set(mixer._external_params) == of_parts != set()
    others = [module for module in model.modules() if module not in found]
    assert not any(getattr(module, "_external_params", None) for module in others)
