"""Sharded parameters: splitting a policy with FSDP2, and reading whole values again.

ZeRO-3 and FSDP2 both leave a slice of every parameter on each rank. Reading a whole one is a collective
call: every rank has to make it, in the same order.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, cast

import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from lit_longpo.engine import base_model
from lit_longpo.engine.decoder import decoder_layers, decoder_of
from lit_longpo.engine.head import head_of
from lit_longpo.errors import InputError

_TIED = "tied_head"

Split = Literal["FSDP2", "ZeRO-3"]  # kinds of strategies that leave only a slice of every parameter on each rank


def shard(model: nn.Module, mesh: DeviceMesh) -> None:
    """Split a policy over the data-parallel ranks of a mesh (FSDP2): every layer, decoder, and an untied head apart.

    The engine calls decoder and head one after the other, so they are the roots, not the model around
    them. A tied head belongs to the decoder, whose group stays gathered from forward to backward.

    Raises:
        InputError: weights lie elsewhere.
    """
    base = base_model(model)
    decoder, head = decoder_of(base), head_of(base)
    _refuse_weights_between(base, decoder, head)
    for layer in decoder_layers(decoder):
        fully_shard(layer, mesh=mesh)
    if head.weight is base.get_input_embeddings().weight:
        decoder.add_module(_TIED, head)  # only inside of what it shards does FSDP find where a parameter is shared
        fully_shard(decoder, mesh=mesh)
        del decoder._modules[_TIED]
    else:
        fully_shard(decoder, mesh=mesh)
        fully_shard(head, mesh=mesh)


def _refuse_weights_between(base: nn.Module, decoder: nn.Module, head: nn.Module) -> None:
    """A head of several layers (BERT's) has weights that would stay whole, and whose gradients no rank would add up."""
    split = {id(parameter) for part in (decoder, head) for parameter in part.parameters()}
    whole = [name for name, parameter in base.named_parameters() if id(parameter) not in split]
    if whole:
        raise InputError(
            f"expected all weights of {type(base).__name__} in its decoder and a linear head, which FSDP2 splits, got "
            f"`{whole[0]}` between them; type --trainer.strategy ddp, or --config overlays/deepspeed_zero3"
        )


def mesh_problem(data: int, tensor: int, world: int) -> str | None:
    """What is wrong with a mesh, and what to type; `None` if all ranks are data-parallel."""
    if (data, tensor) == (world, 1):
        return None
    where = "trainer.strategy.init_args"
    return (
        f"expected layers to be split over all {world} ranks, got a mesh of {data} data-parallel x {tensor} "
        f"tensor-parallel ones; type --{where}.data_parallel_size {world} --{where}.tensor_parallel_size 1"
    )


def data_parallel_mesh(mesh: DeviceMesh) -> DeviceMesh:
    """The dimension of Lightning's mesh that parameters are split over.

    Raises:
        InputError: there are ranks in the other dimension, which would split nothing.
    """
    problem = mesh_problem(mesh["data_parallel"].size(), mesh["tensor_parallel"].size(), mesh.size())
    if problem is not None:
        raise InputError(problem)
    return mesh["data_parallel"]


def split_by(strategy: object) -> Split | None:
    """Which kind of strategy leaves only a slice of every parameter on each rank; `None` if this one does not."""
    if isinstance(strategy, ModelParallelStrategy):
        return "FSDP2"
    return "ZeRO-3" if getattr(strategy, "zero_stage_3", False) else None


def optimizer_split(strategy: object) -> str | None:
    """What hands an optimizer slices of parameters ("ZeRO-2", "FSDP2"); `None` if it gets them whole."""
    of_deepspeed = (getattr(strategy, "config", None) or {}).get("zero_optimization")
    return split_by(strategy) if of_deepspeed is None else f"ZeRO-{of_deepspeed.get('stage', 0)}"


def optimizer_device(strategy: Any) -> str:
    """Type of the device that weights are updated on: "cpu" where DeepSpeed offloads the optimizer, else the rank's."""
    of_deepspeed = (getattr(strategy, "config", None) or {}).get("zero_optimization") or {}
    offloaded = (of_deepspeed.get("offload_optimizer") or {}).get("device", "none") != "none"
    return "cpu" if offloaded else str(strategy.root_device.type)


def splits_parameters(strategy: object) -> bool:
    """Whether a strategy leaves only a slice of every parameter on each rank."""
    return split_by(strategy) is not None


def full_value(parameter: Tensor) -> Tensor:
    """The whole parameter, detached; a collective call if it is sharded. Shape: as `whole_shape` says."""
    if isinstance(parameter, DTensor):
        return cast(DTensor, parameter.detach()).full_tensor()
    if hasattr(parameter, "ds_id"):
        import deepspeed

        with deepspeed.zero.GatheredParameters([parameter]):
            return parameter.detach().clone()
    return parameter.detach()


@contextmanager
def whole_parameters(module: nn.Module) -> Iterator[None]:
    """A part's parameters whole, to be changed alike on every rank; a collective call where ZeRO-3 has split them."""
    split = [parameter for parameter in module.parameters() if hasattr(parameter, "ds_id")]
    if not split:
        yield
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters(split, modifier_rank=0):
        yield


def gathered_state_dict(model: nn.Module, keep: bool) -> dict[str, Tensor]:
    """Every tensor of the model's state, whole and in host memory, one at a time; what is tied stays one tensor.

    Ranks that do not keep it take part and get an empty one.
    """
    names = list(model.state_dict(keep_vars=True))  # FSDP2 frees here what a forward without backward left gathered
    tensors: dict[str, Any] = dict(model.named_parameters(remove_duplicate=False))
    tensors.update(dict(model.named_buffers()))
    copies = dict[int, Tensor]()
    for tensor in (tensors[name] for name in names):
        if id(tensor) not in copies:
            value = full_value(tensor)
            copies[id(tensor)] = value.to("cpu", copy=True) if keep else value.new_empty(0)
    return {name: copies[id(tensors[name])] for name in names} if keep else {}


def any_rank(flag: bool, device: torch.device) -> bool:
    """Whether the flag is set on any rank."""
    if not torch.distributed.is_initialized():
        return flag
    largest = torch.tensor(float(flag), device=device)
    torch.distributed.all_reduce(largest, op=torch.distributed.ReduceOp.MAX)
    return bool(largest)
