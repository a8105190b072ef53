"""Optimizers that go by more than a number's own gradient, against steps of plain torch."""

from functools import partial

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.plugins import MixedPrecision
from support.preference_data import RandomPairs
from torch import nn

from lit_longpo.errors import InputError
from lit_longpo.objectives import ORPO
from lit_longpo.optimization import FusedAdamW, Optimization
from lit_longpo.optimization.kinds import graph_problem, slices_problem
from lit_longpo.policy import PolicyConfig


class Plain(torch.optim.Optimizer):
    """A step for every parameter, along what `update` makes of weights and gradient."""

    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr})

    def step(self, closure=None):
        if closure is not None:
            with torch.enable_grad():
                closure()
        updates = [(p, self.update(p, p.grad)) for group in self.param_groups for p in group["params"]]
        with torch.no_grad():
            for parameter, update in updates:
                parameter -= self.param_groups[0]["lr"] * update


class Lamb(Plain):
    """As LAMB: the step is as long as the tensor's norm says."""

    def update(self, weights, gradient):
        return gradient * weights.detach().norm() / gradient.norm()


class Centralised(Plain):
    """As Ranger: less the mean of a matrix's row."""

    def update(self, weights, gradient):
        return gradient - gradient.mean(dim=-1, keepdim=True)


class FoundRate(Plain):
    """As Prodigy: one rate for all, from all gradients, that begins very small."""

    found = 1e-6

    def update(self, weights, gradient):
        self.found = max(self.found, 2e-6 * float(gradient.norm()))
        return self.found * gradient.sign()


class MatricesAlone(Plain):
    """As spectral ones."""

    def update(self, weights, gradient):
        if gradient.dim() != 2:
            raise ValueError("expected matrices")
        return gradient


class Signs(Plain):
    """As Lion without momentum: each number by itself."""

    def update(self, weights, gradient):
        return gradient.sign()


class AdaHessian(Plain):
    """As the one of that name: by the gradient's gradient."""

    def update(self, weights, gradient):
        (curvature,) = torch.autograd.grad(gradient.sum(), weights, retain_graph=True)
        return gradient.detach() / (curvature.abs() + 1.0)


class Broken(Plain):
    """Fails whatever it is given: that is not for a trial to explain."""

    def update(self, weights, gradient):
        raise RuntimeError("no kernel")


@pytest.mark.parametrize("optimizer", [Lamb, Centralised, FoundRate, MatricesAlone, torch.optim.Adafactor])
def test_an_optimizer_whose_slices_would_take_other_steps_is_refused_there(optimizer):
    """LAMB, LARS, NovoGrad, CAME, Ranger, Prodigy and 40 others of public packages (DeepSpeed#490)."""
    problem = slices_problem(partial(optimizer, lr=0.1), "ZeRO-2")
    assert problem is not None
    assert f"one device or DDP with {optimizer.__name__}, whose update of a number goes by the others" in problem
    assert "got ZeRO-2, which hands out slices; type --optimization.optimizer FusedAdamW" in problem
    assert slices_problem(partial(optimizer, lr=0.1), None) is None


@pytest.mark.parametrize(
    "optimizer",
    [
        *(Signs, FusedAdamW, Broken, torch.optim.AdamW, torch.optim.SGD, torch.optim.RMSprop, torch.optim.Adagrad),
        *(torch.optim.NAdam, torch.optim.RAdam, torch.optim.Adamax, torch.optim.Rprop, torch.optim.ASGD),
    ],
)
def test_an_optimizer_of_numbers_by_themselves_is_taken(optimizer):
    assert slices_problem(partial(optimizer, lr=0.1), "ZeRO-2") is None
    assert graph_problem(partial(optimizer, lr=0.1)) is None


def test_an_optimizer_that_differentiates_gradients_is_refused_before_the_policy_is_loaded(monkeypatch):
    """It ended in a traceback at step 1 (adahessian#29)."""
    curved = nn.Parameter(torch.ones(2))
    optimizer = AdaHessian([curved], lr=1.0)
    (curved**3).sum().backward(create_graph=True)
    optimizer.step()
    torch.testing.assert_close(curved.detach(), torch.full((2,), 1.0 - 3.0 / 7.0))

    monkeypatch.setattr(PolicyConfig, "load", lambda policy: pytest.fail("loaded"))
    module = ORPO(optimization=Optimization(partial(AdaHessian, lr=0.01), "constant", 0.0))
    trainer = Trainer(max_steps=1, accelerator="cpu", logger=False, enable_checkpointing=False)
    with pytest.raises(InputError, match=r"goes by gradients alone, got AdaHessian, which .*; type --optimization"):
        trainer.fit(module, datamodule=RandomPairs(module.views))


class WithoutClosure(Plain):
    """As written for a loop of one's own."""

    def step(self):
        super().step()

    def update(self, weights, gradient):
        return gradient


def test_a_step_that_takes_no_closure_is_refused_before_the_policy_is_loaded(monkeypatch):
    """Lightning hands every step one (Adan#11, Lightning#4940): it was a TypeError at step 1."""
    monkeypatch.setattr(PolicyConfig, "load", lambda policy: pytest.fail("loaded"))
    module = ORPO(optimization=Optimization(partial(WithoutClosure, lr=0.01), "constant", 0.0))
    trainer = Trainer(max_steps=1, accelerator="cpu", logger=False, enable_checkpointing=False)
    with pytest.raises(InputError, match=r"`step` takes a `closure`, .* got WithoutClosure, .*; write `def step"):
        trainer.fit(module, datamodule=RandomPairs(module.views))


def test_a_loss_scaler_steps_without_a_closure():
    """Lightning 2.6 computes the loss before it hands the optimizer to the scaler of `16-mixed`."""
    trainer = Trainer(plugins=[MixedPrecision("16-mixed", "cpu")], accelerator="cpu", logger=False, max_steps=1)
    optimization = Optimization(partial(WithoutClosure, lr=0.01), "constant", 0.0)
    optimization.check_trainer(trainer)
    trainer.precision_plugin.scaler = None
    with pytest.raises(InputError, match="takes a `closure`"):
        optimization.check_trainer(trainer)


class Choosy(Plain):
    """Of a package that wants more than plain tensors: its own mistake is told by training, no trial."""

    def __init__(self, params, lr, error):
        super().__init__(params, lr)
        self.error = error

    def update(self, weights, gradient):
        raise self.error


@pytest.mark.parametrize(
    "error",
    [TypeError("expected a quantised tensor"), AssertionError("expected CUDA tensors"), AttributeError(), KeyError()],
    ids=lambda error: type(error).__name__,
)
def test_what_cannot_be_tried_is_not_refused(error):
    """One of GPUs alone ended a start in a traceback of its trial (pytorch#80222: asserts of devices)."""
    make = partial(Choosy, lr=0.1, error=error)
    assert graph_problem(make) is slices_problem(make, "ZeRO-2") is None
