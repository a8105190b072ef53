"""Ranks that share rows (Ulysses): who is together with whom, and which rows they get.

Neighbouring ranks form a group, so that the all-to-alls stay inside one machine. All ranks, whichever
group they are in, average their gradients, and ZeRO splits over all of them; `engine/sequence_parallel.py`
says why that is right.
"""

from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy
from torch.distributed.device_mesh import init_device_mesh

from lit_longpo.engine import set_sequence_group
from lit_longpo.engine.ulysses.head_chunks import HeadChunks
from lit_longpo.errors import InputError


class SharedRowsStrategy(DDPStrategy):
    """What every strategy whose ranks may share rows has in common; who joins the groups calls `form_groups`."""

    sequence_parallel: int
    head_chunks: HeadChunks

    @property
    def distributed_sampler_kwargs(self) -> dict[str, Any]:
        """The same rows for every rank of a group."""
        return row_ranks(self.sequence_parallel, self.world_size, self.global_rank)

    def teardown(self) -> None:
        """Stop sharing rows."""
        super().teardown()
        set_sequence_group(None)


class SequenceParallelDDPStrategy(SharedRowsStrategy):
    """A whole model on every rank; each row is shared by `sequence_parallel` of them.

    Args:
        sequence_parallel: number of ranks that share a row. It must divide the number of processes and of heads.
        head_chunks: in how many parts the ranks exchange their heads. More parts take less memory, and send more and
            smaller messages. "auto" takes the fewest that leave at most 256 MiB of queries in a part.
        **options: see Lightning's `DDPStrategy`.
    """

    def __init__(self, sequence_parallel: int = 2, head_chunks: HeadChunks = "auto", **options: Any) -> None:
        super().__init__(**options)
        self.sequence_parallel, self.head_chunks = sequence_parallel, head_chunks

    def setup_environment(self) -> None:
        """Start the processes' communication, then the groups'."""
        super().setup_environment()
        form_groups(self.sequence_parallel, self.world_size, self.root_device, self.head_chunks)


def form_groups(degree: int, world_size: int, device: torch.device, head_chunks: HeadChunks = "auto") -> None:
    """Make this rank share rows with its group; a collective call.

    Raises:
        InputError: the ranks do not form whole groups.
    """
    if degree < 1 or world_size % degree:
        raise InputError(
            f"expected `trainer.strategy.init_args.sequence_parallel` to divide the {world_size} processes "
            f"(`trainer.devices` x `trainer.num_nodes`), got {degree}; set `trainer.devices` to a multiple of it"
        )
    if degree == 1:
        set_sequence_group(None)
        return
    names = ("data_parallel", "sequence_parallel")
    mesh = init_device_mesh(device.type, (world_size // degree, degree), mesh_dim_names=names)
    set_sequence_group(mesh["sequence_parallel"].get_group(), head_chunks)


def row_ranks(degree: int, world_size: int, rank: int) -> dict[str, int]:
    """What a sampler needs to know: how many ranks get rows of their own, and which of them this one is."""
    return {"num_replicas": world_size // degree, "rank": rank // degree}
