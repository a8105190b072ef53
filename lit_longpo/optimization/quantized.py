"""Optimizer states in 8 bits (arXiv 2110.02861), or paged out to host memory, by bitsandbytes.

Blocks of 256 numbers share a scale, so AdamW keeps 2.03 bytes for a weight in place of 8. As bitsandbytes advises,
embeddings keep states of 32 bits, and so does every tensor of fewer than 4,096 numbers. All of this holds for the
package's own classes (`class_path: bitsandbytes.optim.PagedAdamW8bit`) as for ours.
"""

import importlib
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lit_longpo.errors import require_package

_PACKAGE = "bitsandbytes"
_CLASSES = {  # by bits, and whether they are paged
    (8, False): "AdamW8bit",
    (8, True): "PagedAdamW8bit",
    (32, False): "AdamW32bit",
    (32, True): "PagedAdamW32bit",
}
_UPDATES = {8: "optimizer_update_8bit_blockwise", 32: "optimizer_update_32bit"}
SMALLEST_PAGED = 100_000  # numbers of a tensor whose states bitsandbytes pages
_INSTEAD = "type --optimization.optimizer FusedAdamW"


class QuantizedAdamW(Optimizer):
    """AdamW of bitsandbytes, with states of 8 bits or paged ones (extra `quantized`).

    For one device or DDP: ZeRO and FSDP2 split states of 32 bits instead.

    Args:
        params: parameters or parameter groups.
        lr: peak learning rate.
        betas: decay of the two running averages.
        eps: added to the denominator.
        weight_decay: decoupled weight decay.
        bits: of either running average of a weight; embeddings and small tensors have 32.
        paged: whether they may lie in host memory: a GPU that runs short of its own pages them out. On a CPU it says
            nothing.

    Raises:
        MissingPackageError: bitsandbytes is not installed.
    """

    def __new__(  # type: ignore[misc]
        cls,
        params: Iterable[nn.Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        bits: Literal[8, 32] = 8,
        paged: bool = False,
    ) -> Optimizer:
        """One of the package's own classes: without the package there is nothing to derive from."""
        told = f'type: pip install "lit_longpo[quantized]", or {_INSTEAD.removeprefix("type ")}'
        require_package(_PACKAGE, "`optimization.optimizer: QuantizedAdamW`", told)
        import bitsandbytes

        kind = getattr(bitsandbytes.optim, _CLASSES[bits, paged])
        optimizer: Optimizer = kind(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
        return optimizer


def has_quantized_states(optimizer: Optimizer) -> bool:
    """Whether it is one of bitsandbytes, whose states may have 8 bits or be paged."""
    return any(kind.__module__.startswith(f"{_PACKAGE}.") for kind in type(optimizer).__mro__)


def is_paged(optimizer: Optimizer) -> bool:
    """Whether its states may lie in host memory."""
    return has_quantized_states(optimizer) and bool(cast(Any, optimizer).is_paged)


def placement_problem(optimizer: Optimizer, device: str | None, split: str | None) -> str | None:
    """Why the optimizer cannot train there, and what to type; `None` if it can."""
    if not has_quantized_states(optimizer):
        return None
    name = type(optimizer).__name__
    if split is not None:
        return (
            f"expected one device or DDP with {name} of bitsandbytes, got {split}: of slices nobody knows which are "
            f"embeddings, whose states need 32 bits; {_INSTEAD}, whose states {split} splits, or --trainer.strategy ddp"
        )
    if device is None:
        return None
    operator = f"{_PACKAGE}::{_UPDATES[cast(Any, optimizer).args.optim_bits]}"
    if torch._C._dispatch_has_computed_kernel_for_dispatch_key(operator, device.upper()):
        return None
    version = importlib.import_module(_PACKAGE).__version__
    return (
        f"expected a device whose weights bitsandbytes can update for {name}, got {device}, for which {version} has no "
        f"kernel (0.50 has, for CPUs); {_INSTEAD}"
    )


def prepare(optimizer: Optimizer, embeddings: Iterable[Tensor]) -> None:
    """Before the first step: keep 32 bits for embeddings, and paged states paged after a resume, if it has such."""
    if not has_quantized_states(optimizer):
        return
    from bitsandbytes.optim.optimizer import GlobalOptimManager

    # One of its own: the manager that a process's optimizers share knows weights by index and id, which may come again.
    manager = GlobalOptimManager.__new__(GlobalOptimManager)
    manager.initialize()
    manager.override_config(list(embeddings), "optim_bits", 32)
    cast(Any, optimizer).mng = manager
    if is_paged(optimizer):
        optimizer.register_state_dict_post_hook(_without_marks)
        optimizer.register_step_pre_hook(_page_again)


def state_bits(optimizer: Optimizer) -> Counter[int]:
    """How many weights have states of how many bits; empty for optimizers of torch's, which go by the weights' own."""
    counts = Counter[int]()
    if has_quantized_states(optimizer):
        for bits, parameter in _with_bits(optimizer):
            counts[bits] += parameter.numel()
    return counts


def in_words(optimizer: Optimizer) -> str | None:
    """The precision of its states; `None` for optimizers of torch's."""
    counts = state_bits(optimizer)
    if not counts:
        return None
    paged = ", paged" if is_paged(optimizer) else ""
    parts = [f"{number:,} weights in {bits} bits" for bits, number in sorted(counts.items())]
    return f"{type(optimizer).__name__}: states of {' and of '.join(parts)}{paged}"


def _with_bits(optimizer: Any) -> Iterator[tuple[int, Tensor]]:
    for i, group in enumerate(optimizer.param_groups):
        for j, parameter in enumerate(group["params"]):
            config = optimizer.get_config(i, j, group)
            small = parameter.numel() < config["min_8bit_size"]
            yield 32 if small else config["optim_bits"], parameter


def _page_again(optimizer: Any, args: Any, kwargs: Any) -> None:
    """Before a step: a resumed run's states are where Lightning has moved them, in a GPU's own memory."""
    for parameter, state in optimizer.state.items():
        if parameter.device.type == "cpu" or parameter.numel() < SMALLEST_PAGED:
            continue
        for name in ("state1", "state2"):
            if name in state and not getattr(state[name], "is_paged", False):
                held = state[name]
                state[name] = optimizer.get_state_buffer(parameter, dtype=held.dtype)
                state[name].copy_(held)


def _without_marks(optimizer: Optimizer, state_dict: dict[str, Any]) -> None:
    """Of saved tensors: bitsandbytes would take those that are read again for paged ones."""
    state_dict["state"] = {
        key: {name: value.detach() if getattr(value, "is_paged", False) else value for name, value in state.items()}
        for key, state in state_dict["state"].items()
    }
