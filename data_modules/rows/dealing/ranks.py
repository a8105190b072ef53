"""Which part of the rows a process gets."""

from typing import Any

from lit_longpo.errors import InputError


def ranks_of(trainer: Any) -> dict[str, Any]:
    """The strategy's data-parallel ranks, fewer than its processes with tensor or sequence parallelism.

    Args:
        trainer: whose data they are; `None` without one.

    Returns:
        `num_replicas` and `rank`, as samplers take them.

    Raises:
        InputError: Lightning is told to deal the rows to the processes, too.
    """
    connector = getattr(trainer, "_accelerator_connector", None)
    if connector is not None and connector.use_distributed_sampler and connector.is_distributed:
        raise InputError(
            "expected `trainer.use_distributed_sampler: false`, as rows are dealt to the processes here already, got "
            "true; leave it out of what you type (Trainer(use_distributed_sampler=False) in Python)"
        )
    return (trainer and trainer.distributed_sampler_kwargs) or {"num_replicas": 1, "rank": 0}
