"""Devices and strategies: what splits, offloads or updates nothing there, and what `fit` refuses."""

from transformers import PretrainedConfig

from lit_longpo.engine.ulysses.degrees import heads_problem
from lit_longpo.export import is_merged
from lit_longpo.planning.inputs.configuration import Configuration
from lit_longpo.planning.rules import by_fit
from lit_longpo.strategies import mesh_problem


def degree(config: PretrainedConfig, run: Configuration) -> str | None:
    """Heads that cannot be dealt to the ranks that share a row."""
    problem = heads_problem(config, run.sharding.sequence_parallel, run.sharding.world_size)
    return by_fit(problem)


def devices(run: Configuration) -> str | None:
    """A number of devices that nobody can count here."""
    if run.devices_known:
        return None
    return "`trainer.devices` is auto and no accelerator is here to count: planned for 1; type --trainer.devices 8"


def alone(run: Configuration) -> str | None:
    """A strategy that splits, on one device."""
    if run.sharding.world_size > 1 or run.sharding.kind not in ("zero", "fsdp2"):
        return None
    return (
        f"one device: {run.sharding.kind} splits nothing and pays for its buffers; raise `trainer.devices`, or "
        "drop the strategy"
    )


def mesh(run: Configuration) -> str | None:
    """Sizes of a mesh that are not those of the devices."""
    if run.sharding.kind != "fsdp2" or not run.devices_known:
        return None
    world, nodes = run.sharding.world_size, int(run.trainer.get("num_nodes") or 1)
    data, tensor = (run.strategy_options.get(f"{name}_parallel_size", "auto") for name in ("data", "tensor"))
    problem = mesh_problem(nodes if data == "auto" else data, world // nodes if tensor == "auto" else tensor, world)
    return by_fit(problem)


def optimizer(run: Configuration) -> str | None:
    """An optimizer that cannot train where its weights lie, or on so many rows a step."""
    split = f"ZeRO-{run.sharding.stage}" if run.sharding.kind == "zero" else run.sharding.split
    on_host = run.sharding.offload_optimizer or not run.on_gpu
    problem = run.optimization.placement_problem("cpu" if on_host else None, split)
    problem = problem or run.optimization.accumulation_problem(run.accumulate)
    return by_fit(problem)


def offload_stage(run: Configuration) -> str | None:
    """Parameters to be offloaded in a stage that keeps them whole."""
    if run.sharding.offload_parameters and run.sharding.stage != 3:
        return f"`offload_parameters` needs ZeRO stage 3; in stage {run.sharding.stage} it does nothing"
    return None


def offload_on_cpu(run: Configuration) -> str | None:
    """Offloading to host memory of what is there already."""
    if run.policy.gradient_checkpointing == "offload" and not run.on_gpu:
        return "`gradient_checkpointing: offload` on a CPU only recomputes: the host is where activations are already"
    if (run.sharding.offload_optimizer or run.sharding.offload_parameters) and not run.on_gpu:
        return "offloading to host memory on a CPU moves nothing"
    return None


def deepspeed_checkpointing(run: Configuration) -> str | None:
    """DeepSpeed's own ways to recompute layers, which are recomputed by ours."""
    names = [name for name in ("cpu_checkpointing", "partition_activations") if run.strategy_options.get(name)]
    if not names:
        return None
    return f"{' and '.join(names)} has no effect: layers are recomputed by `policy.gradient_checkpointing`"


def accumulation(run: Configuration) -> str | None:
    """Stages of ZeRO that reduce gradients after every row of a step."""
    if run.accumulate == 1 or run.sharding.kind != "zero" or run.sharding.stage < 2:
        return None
    return (
        f"ZeRO-{run.sharding.stage} reduces gradients after each of the {run.accumulate} accumulated rows; "
        "longer rows (`data.init_args.max_tokens`) and less accumulation communicate less"
    )


def no_model_saved(run: Configuration) -> str | None:
    """A callback that would save adapters merged into a policy that is split."""
    callbacks = run.trainer.get("callbacks") or []
    listed = callbacks if isinstance(callbacks, list) else [callbacks]
    saves = any(str(one.get("class_path")).rpartition(".")[2] == "SavePretrained" for one in listed)
    if not saves or not run.sharding.splits_parameters or not is_merged(run.policy):
        return None
    return (
        "`SavePretrained` writes no model: adapters cannot be merged while the policy is split; remove it, and after "
        "`fit` type: python -m lit_longpo export --checkpoint PATH --output FOLDER"
    )
