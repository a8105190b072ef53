"""Makes ZeRO-3 gather the weights that a module reads beyond its own before the module runs."""

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, cast

import torch
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes

from lit_longpo.engine.states import mixers
from lit_longpo.engine.tiling.tiled_layers import tiled_modules


def gather_at_once(module: nn.Module) -> None:
    """Let modules that read weights of their parts gather all of them before they run and free them after.

    DeepSpeed calls that a leaf module. Call this before DeepSpeed sets itself up, since two of its habits are mended:

    - It reduces a leaf's gradients at each call, and stops with an AssertionError where a row calls the leaf several
      times (one sequence after the other). So it is told when all gradients are there.
    - It frees a leaf's weights with the gradient of the leaf's input. So the input is made to need one.

    Leaves are:

    - Modules that are run in tiles: once for all tiles.
    - Adapters of routers and stacked experts: peft reads the weight and its own two matrices past all hooks.
    """
    from deepspeed.utils import set_z3_leaf_module

    for leaf in [*tiled_modules(module), *_adapted_parameters(module)]:
        if any(True for _ in leaf.children()):  # weights or not: DeepSpeed counts calls, and stops where ranks differ
            set_z3_leaf_module(leaf, True)
            cast(Any, leaf).register_full_backward_hook = _LastGradient(leaf)
            leaf.register_forward_pre_hook(_with_input_gradients)


def gather_what_mixers_read(module: nn.Module) -> None:
    """Let layers with state gather the weights of their parts: they read some of them past the parts' own hooks.

    Call it after DeepSpeed has set itself up.
    """
    import deepspeed

    for mixer in mixers(module):
        for parameter in (parameter for part in mixer.children() for parameter in part.parameters()):
            deepspeed.zero.register_external_parameter(mixer, parameter)


def gather_unseen(optimizer: Any) -> None:
    """Let DeepSpeed gather and free weights unseen by torch's dispatch modes.

    It gathers in other places when a layer is recomputed than in its forward pass: small weights that are still
    there, an order of modules that differs from the last row's. The mode that keeps attention
    (`gradient_checkpointing: keep_attention`) counts all operators and stops at one that forward did not have.
    """
    offload = getattr(optimizer, "parameter_offload", optimizer)  # itself where nothing is trained
    coordinator = offload.get_param_coordinator()
    for name in ("fetch_sub_module", "release_sub_module"):
        setattr(coordinator, name, _unseen(getattr(coordinator, name)))


def _unseen(move: Callable[..., None]) -> Callable[..., None]:
    @wraps(move)
    def moved(*arguments: Any, **options: Any) -> None:
        with _disable_current_modes():
            move(*arguments, **options)

    return moved


class _LastGradient:
    """Stands for the `register_full_backward_hook` of a leaf: its hook runs once a backward, behind all its calls.

    A weight's gradient is there when it has been added up over all of a graph.
    """

    def __init__(self, leaf: nn.Module) -> None:
        self._leaf, self._missing = leaf, set[int]()

    def __call__(self, hook: Callable[..., Any]) -> "_LastGradient":
        """Register the hook, which gets no gradients: it looks at the weights'."""
        trained = [parameter for parameter in self._leaf.parameters() if parameter.requires_grad]

        def note(parameter: torch.Tensor) -> None:
            self._missing = self._missing or {id(each) for each in trained}
            self._missing.discard(id(parameter))
            if not self._missing:
                hook(self._leaf, (), ())

        self._handles = [parameter.register_post_accumulate_grad_hook(note) for parameter in trained]
        del cast(Any, self._leaf).register_full_backward_hook  # for whoever else comes
        return self

    def remove(self) -> None:
        """As of the handle that torch returns."""
        for handle in self._handles:
            handle.remove()


def _adapted_parameters(module: nn.Module) -> Iterator[nn.Module]:
    """Adapters of a parameter, the outermost where one lies around another."""
    from peft.tuners.lora.layer import ParamWrapper

    for child in module.children():
        if isinstance(child, ParamWrapper):
            yield child
        else:
            yield from _adapted_parameters(child)


def _with_input_gradients(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    if not torch.is_grad_enabled() or not any(parameter.requires_grad for parameter in module.parameters()):
        return arguments
    return tuple(
        value.detach().requires_grad_()
        if isinstance(value, torch.Tensor) and value.is_floating_point() and not value.requires_grad
        else value
        for value in arguments
    )
