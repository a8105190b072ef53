"""Processes of a launcher against the trainer's devices, and a real two-process torchrun."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from lightning.fabric import Fabric
from lightning.pytorch import Trainer

from lit_longpo.errors import UserError
from lit_longpo.strategies import check_job, check_launch, check_processes, launch_problem, own_launcher

ROOT = Path(__file__).resolve().parents[3]
TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "0"}
SCRIPT = {"SLURM_PROCID": "0", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "2"}
SLURM = {**SCRIPT, "SLURM_STEP_ID": "0"}
OWN = {"WORLD_SIZE": "4", "LOCAL_RANK": "0", "MASTER_ADDR": "node0", "MASTER_PORT": "29500", "NODE_RANK": "0"}


@pytest.mark.parametrize("environment", [TORCHRUN, SLURM, OWN], ids=["torchrun", "slurm", "own"])
def test_agreement_is_no_problem(environment):
    assert launch_problem(2, 2, environment) is None


@pytest.mark.parametrize("environment", [TORCHRUN, SLURM], ids=["torchrun", "slurm"])
@pytest.mark.parametrize(("devices", "nodes"), [(1, 1), (2, 1), (4, 1), (1, 4)])
def test_disagreement_says_what_to_type(environment, devices, nodes):
    message = launch_problem(devices, nodes, environment)
    assert message is not None
    assert f"`trainer.devices` {devices} x `trainer.num_nodes` {nodes}" in message
    assert "--trainer.devices 2 --trainer.num_nodes 2" in message


def test_fewer_processes_than_nodes_are_counted_too():
    message = launch_problem(1, 2, {"SLURM_PROCID": "0", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "1"})
    assert "--trainer.devices 1 --trainer.num_nodes 1" in str(message)


def test_another_launcher_is_counted_too():
    assert "WORLD_SIZE=4" in str(launch_problem(1, 2, OWN))


def test_several_nodes_need_to_find_each_other():
    assert "found no MASTER_PORT or NODE_RANK" in str(launch_problem(1, 2, {"MASTER_ADDR": "node0"}))
    assert launch_problem(2, 1, {}) is None


def test_a_shell_inside_an_allocation_is_not_a_task():
    assert launch_problem(1, 1, {**SLURM, "SLURM_JOB_NAME": "interactive"}) is None


@pytest.mark.parametrize("environment", [TORCHRUN, SLURM, OWN], ids=["torchrun", "slurm", "own"])
def test_a_command_of_one_machine_counts_its_processes(environment, monkeypatch):
    for name, value in (environment | {"WORLD_SIZE": "2", "SLURM_NTASKS": "2"}).items():
        monkeypatch.setenv(name, value)
    check_processes(2)
    with pytest.raises(UserError, match=r"as many processes as `--devices` 1, but .*=2 in all and 2 on this"):
        check_processes(1)
    with pytest.raises(UserError, match=r"`ask` to run in one process, .*; start it without a launcher"):
        check_processes(1, "ask")


@pytest.mark.parametrize("environment", [SCRIPT, {**SLURM, "SLURM_NTASKS": "1"}], ids=["script", "srun --ntasks=1"])
def test_a_command_of_one_process_runs_in_a_job_of_more(environment, monkeypatch):
    """`build` and `evaluate` behind `srun fit` in one batch script."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    check_processes(1, "build")
    check_processes(1)


@pytest.mark.parametrize("per_node", [{}, {"SLURM_NTASKS_PER_NODE": "4"}])
def test_a_command_in_a_batch_script_starts_its_own_processes(per_node, monkeypatch):
    """Lightning took the script for one of the job's tasks, and waited for the others."""
    monkeypatch.setattr("os.environ", {"SLURM_PROCID": "0", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "4", **per_node})
    for devices, strategy in ((1, "auto"), (2, "ddp")):
        check_processes(devices)
        fabric = Fabric(accelerator="cpu", devices=devices, strategy=strategy, plugins=own_launcher())
        assert (fabric.world_size, str(fabric.device)) == (devices, "cpu")
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    assert own_launcher() == []


def test_a_training_in_a_batch_script_needs_srun():
    """Four devices and four tasks agreed, and waited for tasks that nobody had started."""
    assert launch_problem(1, 1, {**SCRIPT, "SLURM_NTASKS": "1"}) is None
    for devices, nodes in ((2, 2), (4, 1), (1, 1)):
        told = str(launch_problem(devices, nodes, SCRIPT))
        assert "type srun python -m lit_longpo" in told
        assert ("or #SBATCH --ntasks=1" in told) is (devices * nodes == 1)  # of more devices it would be refused next


def test_a_job_that_lightning_cannot_count_is_refused(monkeypatch):
    """It was a RuntimeError, for `fit` in a batch script and for every command behind srun."""
    monkeypatch.setattr("os.environ", {name: SLURM[name] for name in SLURM if name != "SLURM_NTASKS_PER_NODE"})
    for check in (check_job, lambda: check_processes(4)):
        with pytest.raises(UserError, match=r"SLURM_NTASKS=4 alone; write #SBATCH --ntasks-per-node=4 in place"):
            check()
    monkeypatch.setenv("SLURM_NTASKS_PER_NODE", "2")
    check_job()


def test_a_command_of_one_machine_is_refused_on_two(monkeypatch):
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=r"the 4 processes of `--devices` on one machine, .*=4 in all and 2 on this"):
        check_processes(4)


def test_spawned_processes_are_refused():
    """They trained, and where the checkpoint lies was said nowhere."""
    trainer = partial(Trainer, accelerator="cpu", devices=2, logger=False)
    with pytest.raises(ValueError, match=r"got ddp_spawn, .*type --trainer.strategy ddp$"):
        check_launch(trainer(strategy="ddp_spawn"))
    check_launch(trainer(strategy="ddp"))


def torchrun(processes, *arguments):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command = [sys.executable, *launcher, "-m", "lit_longpo", "fit", "--config", "configs/solopo.yaml", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
        timeout=1800,
        check=False,
    )


@pytest.mark.slow
def test_two_processes_leave_one_set_of_files(tmp_path):
    small = ("--data.init_args.num_train", 32, "--data.init_args.num_val", 4, "--trainer.callbacks", "null")
    where = ("--trainer.default_root_dir", tmp_path, "--trainer.max_steps", 2, "--trainer.log_every_n_steps", 1)
    done = torchrun(2, "--config", "configs/overlays/ddp.yaml", *small, *where)
    assert done.returncode == 0, done.stderr[-3000:]
    printed = done.stdout + done.stderr
    assert printed.count("policy: 353,152 parameters") == 1
    assert printed.count("Starting with 2 processes") == 1
    assert len(list(tmp_path.rglob("config.yaml"))) == 1
    assert len(list(tmp_path.rglob("events.out.tfevents.*"))) == 1
    assert len(list(tmp_path.rglob("data_report.json"))) == 1


@pytest.mark.slow
def test_torchrun_without_the_overlay_is_refused(tmp_path):
    done = torchrun(2, "--trainer.default_root_dir", tmp_path)
    assert done.returncode != 0
    assert "--trainer.devices 2 --trainer.num_nodes 1" in done.stderr
