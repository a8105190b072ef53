"""Checks that the processes which a launcher has started agree with the trainer's devices and nodes.

Lightning compares them only if it starts the processes itself. Under torchrun or SLURM a wrong number makes every
process train alone, or wait for others that never come.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from lightning.fabric.plugins import CheckpointIO, ClusterEnvironment, Precision
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Trainer

from lit_longpo.errors import InputError

_RENDEZVOUS = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")


def check_launch(trainer: Trainer) -> None:
    """Compare the trainer with the environment.

    Raises:
        InputError: they disagree, the machines cannot find each other, or processes would be spawned. Spawned ones
            are new interpreters without the command's log: none of them would say where the run lies.
    """
    if getattr(trainer.strategy, "_start_method", None) == "spawn":
        raise InputError(
            "expected `trainer.strategy: ddp`, got ddp_spawn, whose processes would train without a line of this "
            "command's log; type --trainer.strategy ddp"
        )
    problem = launch_problem(trainer.num_devices, trainer.num_nodes, os.environ)
    if problem is not None:
        raise InputError(problem)


def launch_problem(devices: int, nodes: int, environment: Mapping[str, str]) -> str | None:
    """What is wrong, and what to type; `None` if nothing is."""
    launched = _launched(devices, nodes, environment)
    if launched is not None and launched.is_batch_script and launched.total > 1:
        alone = ", or #SBATCH --ntasks=1" if devices * nodes == 1 else ""  # more would need tasks again
        return (
            f"expected srun before the command in a batch script of SLURM with SLURM_NTASKS={launched.total}, whose "
            f"tasks nobody has started; type srun python -m lit_longpo ...{alone}"
        )
    if launched is not None and not launched.agrees(devices, nodes):
        return (
            f"expected as many processes as `trainer.devices` {devices} x `trainer.num_nodes` {nodes}, but {launched}; "
            f"type --trainer.devices {launched.here} --trainer.num_nodes {launched.nodes}, or start others"
        )
    if launched is not None and launched.brings_addresses:
        return None
    missing = [name for name in _RENDEZVOUS if name not in environment]
    if nodes > 1 and missing:
        return (
            f"expected {', '.join(_RENDEZVOUS)} in the environment of each of {nodes} nodes (`trainer.num_nodes`), "
            f"found no {' or '.join(missing)}; start with torchrun --nnodes {nodes} or srun, see configs/README.md"
        )
    return None


def check_job() -> None:
    """Refuse a job of SLURM that Lightning refuses, before a trainer is made.

    Raises:
        InputError: it has several tasks, and does not say how many on each node.
    """
    names = os.environ
    tasks = int(names.get("SLURM_NTASKS", 1)) if _started_by_srun(names) else 1
    if tasks > 1 and "SLURM_NTASKS_PER_NODE" not in names and "TORCHELASTIC_RUN_ID" not in names:
        raise InputError(
            f"expected tasks by node in a job of SLURM, as Lightning counts its processes, got SLURM_NTASKS={tasks} "
            f"alone; write #SBATCH --ntasks-per-node={tasks} in place of --ntasks ({tasks} is for one node)"
        )


def check_processes(devices: int, command: str = "") -> None:
    """Compare a command on one machine with the environment: other processes would do the same work once more.

    A batch script of SLURM without srun is one process, whatever it could start: the command's own ones come from it
    (`own_launcher`).

    Args:
        devices: as its `--devices` says.
        command: its name, if it has no such option.

    Raises:
        InputError: a launcher started another number of processes.
    """
    launched = _launched(devices, 1, os.environ)
    if launched is not None and launched.is_batch_script:
        return
    check_job()
    if launched is None or launched.agrees(devices, 1):
        return
    if command:
        wanted, instead = f"`{command}` to run in one process", "start it without a launcher"
    elif launched.nodes > 1:
        wanted, instead = f"the {devices} processes of `--devices` on one machine", "start it on one"
    else:
        wanted, instead = f"as many processes as `--devices` {devices}", f"type --devices {launched.here}"
    raise InputError(f"expected {wanted}, but {launched}; {instead}")


def own_launcher() -> list[Precision | ClusterEnvironment | CheckpointIO]:
    """Plugins of a `Fabric` on one machine: in a batch script of SLURM, whose tasks nobody started, it starts its own.

    Lightning takes the script for one of the tasks there, and waits for the others.
    """
    launched = _launched(1, 1, os.environ)
    return [LightningEnvironment()] if launched is not None and launched.is_batch_script else []


@dataclass(frozen=True)
class _Launched:
    """Processes that a launcher has started: its name, its variable of their number, that number and those here.

    sbatch's script, which is one process itself, has the number of tasks that its job may start, and no step's number.
    """

    launcher: str
    variable: str
    total: int
    local: int
    here: int
    brings_addresses: bool
    is_batch_script: bool = False

    def __str__(self) -> str:
        return f"{self.launcher} started {self.variable}={self.total} in all and {self.here} on this machine"

    @property
    def nodes(self) -> int:
        """Machines, as far as the launcher says."""
        return max(1, self.total // self.here)

    def agrees(self, devices: int, nodes: int) -> bool:
        """Whether they are as many as somebody has been told of."""
        return self.total == devices * nodes and self.local == devices


def _launched(devices: int, nodes: int, environment: Mapping[str, str]) -> _Launched | None:
    """Who has started these processes; `None` if nobody has. What a launcher does not say is as it was told."""
    if "TORCHELASTIC_RUN_ID" in environment:
        names, brings_addresses = ("torchrun", "WORLD_SIZE", "LOCAL_WORLD_SIZE"), True
    elif _started_by_srun(environment):
        names, brings_addresses = ("SLURM", "SLURM_NTASKS", "SLURM_NTASKS_PER_NODE"), True
    elif "WORLD_SIZE" in environment and "LOCAL_RANK" in environment:
        names, brings_addresses = ("the launcher", "WORLD_SIZE", "LOCAL_WORLD_SIZE"), False
    else:
        return None
    launcher, total_name, local_name = names
    total = int(environment.get(total_name, devices * nodes))
    local = min(int(environment.get(local_name, devices)), total)  # a step of one task keeps its job's tasks per node
    here = max(1, min(int(environment.get(local_name, total // nodes)), total))
    in_script = launcher == "SLURM" and "SLURM_STEP_ID" not in environment
    return _Launched(launcher, total_name, total, local, here, brings_addresses, in_script)


def _started_by_srun(environment: Mapping[str, str]) -> bool:
    """Whether this process is one of srun's tasks, and not a shell inside an allocation."""
    return "SLURM_PROCID" in environment and environment.get("SLURM_JOB_NAME") not in ("bash", "interactive")
