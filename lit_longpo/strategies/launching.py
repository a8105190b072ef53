"""Do the processes that a launcher started agree with the devices that the trainer was told of?

Lightning compares them only when it starts the processes itself. Under torchrun or SLURM a wrong number
makes every process train alone, or wait for others that never come.
"""

import os
from collections.abc import Mapping

from lightning.pytorch import Trainer

from lit_longpo.errors import InputError

_RENDEZVOUS = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")


def check_launch(trainer: Trainer) -> None:
    """Compare the trainer with the environment.

    Raises:
        ValueError: they disagree, or the machines cannot find each other.
    """
    problem = launch_problem(trainer.num_devices, trainer.num_nodes, os.environ)
    if problem is not None:
        raise InputError(problem)


def launch_problem(devices: int, nodes: int, environment: Mapping[str, str]) -> str | None:
    """What is wrong, and what to type; `None` if nothing is.

    Args:
        devices: of each node, as the trainer sees them.
        nodes: as the trainer was told.
        environment: variables that launchers set.
    """
    if "TORCHELASTIC_RUN_ID" in environment:
        return _disagreement("torchrun", "WORLD_SIZE", "LOCAL_WORLD_SIZE", devices, nodes, environment)
    if _started_by_srun(environment):
        return _disagreement("SLURM", "SLURM_NTASKS", "SLURM_NTASKS_PER_NODE", devices, nodes, environment)
    if "WORLD_SIZE" in environment and "LOCAL_RANK" in environment:
        disagreement = _disagreement("the launcher", "WORLD_SIZE", "LOCAL_WORLD_SIZE", devices, nodes, environment)
        if disagreement is not None:
            return disagreement
    missing = [name for name in _RENDEZVOUS if name not in environment]
    if nodes > 1 and missing:
        return (
            f"expected {', '.join(_RENDEZVOUS)} in the environment of each of {nodes} nodes (`trainer.num_nodes`), "
            f"found no {' or '.join(missing)}; start with torchrun --nnodes {nodes} or srun, see configs/README.md"
        )
    return None


def _started_by_srun(environment: Mapping[str, str]) -> bool:
    """Whether this process is one of srun's tasks, and not a shell inside an allocation."""
    return "SLURM_PROCID" in environment and environment.get("SLURM_JOB_NAME") not in ("bash", "interactive")


def _disagreement(
    launcher: str, total_name: str, local_name: str, devices: int, nodes: int, environment: Mapping[str, str]
) -> str | None:
    total = int(environment.get(total_name, devices * nodes))
    local = int(environment.get(local_name, devices))
    if total == devices * nodes and local == devices:
        return None
    here = max(1, int(environment.get(local_name, total // nodes)))
    return (
        f"expected as many processes as `trainer.devices` {devices} x `trainer.num_nodes` {nodes}, but {launcher} "
        f"started {total_name}={total} in all and {here} on this machine; type --trainer.devices {here} "
        f"--trainer.num_nodes {max(1, total // here)}, or start others"
    )
