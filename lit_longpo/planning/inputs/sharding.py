"""How a run is spread over devices, read from the trainer's section of a configuration."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lit_longpo.errors import InputError
from lit_longpo.files.stored import stored_object
from lit_longpo.strategies.deepspeed_config import check_config
from lit_longpo.strategies.sharding import Split


@dataclass(frozen=True)
class Sharding:
    """How a run is spread over devices.

    Args:
        world_size: devices of all nodes.
        stage: of ZeRO.
        sequence_parallel: devices that share a row.
        bucket: elements that ZeRO reduces at a time.
    """

    kind: Literal["single", "ddp", "fsdp2", "zero"] = "single"
    world_size: int = 1
    stage: int = 0
    offload_optimizer: bool = False
    offload_parameters: bool = False
    sequence_parallel: int = 1
    bucket: int = 200_000_000

    @property
    def data_parallel(self) -> int:
        """Rows that are worked on at the same time."""
        return self.world_size // self.sequence_parallel

    @property
    def splits_gradients(self) -> bool:
        """Whether a device keeps its share of the gradients only."""
        return self.kind == "fsdp2" or self.stage >= 2

    @property
    def splits_parameters(self) -> bool:
        """Whether a device keeps its share of the parameters only."""
        return self.split is not None

    @property
    def split(self) -> Split | None:
        """Name of the strategy that splits the parameters; `None` if none does."""
        if self.kind == "fsdp2":
            return "FSDP2"
        return "ZeRO-3" if self.stage == 3 else None


def read_sharding(trainer: Mapping[str, Any], devices: int, sequence_parallel: int | None) -> Sharding:
    """The strategy that the trainer's arguments name; `sequence_parallel` overrides its own degree.

    Raises:
        InputError: no formula is known for it, the devices do not divide into its groups, or DeepSpeed is told to
            train with an optimizer or a precision of its own.
    """
    strategy = trainer.get("strategy") or "auto"
    name = strategy if isinstance(strategy, str) else str(strategy["class_path"]).rpartition(".")[2]
    options = {} if isinstance(strategy, str) else init_args(strategy)
    world = devices * int(trainer.get("num_nodes") or 1)
    degree = sequence_parallel or int(options.get("sequence_parallel") or 1)
    if world % degree:
        raise InputError(f"expected a sequence-parallel degree that divides {world} devices, got {degree}")
    if "deepspeed" in name.lower():
        return _zero(name, options, world, degree)
    if name == "ModelParallelStrategy":
        return Sharding("fsdp2", world, sequence_parallel=degree)
    if name != "auto" and "ddp" not in name.lower() and not name.startswith("SingleDevice"):
        raise InputError(
            f"expected one of our strategies (single device, DDP, FSDP2, DeepSpeed), got {name!r}; plan with "
            "--trainer.strategy and one of configs/overlays"
        )
    return Sharding("ddp" if world > 1 else "single", world, sequence_parallel=degree)


def _zero(name: str, options: Mapping[str, Any], world: int, degree: int) -> Sharding:
    """Of DeepSpeed's strategies, which a configuration of one's own overrules."""
    if options.get("config") is not None:
        section = _deepspeed_config(options["config"])
        stage = int(section.get("stage", 0))
        optimizer, parameters = (_is_offloaded(section, part) for part in ("offload_optimizer", "offload_param"))
        bucket = section.get("reduce_bucket_size")
    else:
        stage = int(options.get("stage") or next((int(part) for part in name if part.isdigit()), 2))
        optimizer = bool(options.get("offload_optimizer", "offload" in name))
        parameters = bool(options.get("offload_parameters", False))
        bucket = options.get("reduce_bucket_size")
    return Sharding(
        "zero",
        world,
        stage=stage,
        offload_optimizer=optimizer,
        offload_parameters=parameters,
        sequence_parallel=degree,
        bucket=Sharding.bucket if bucket in (None, "auto") else int(bucket),  # "auto" is a word of other trainers
    )


def _deepspeed_config(given: str | Path | Mapping[str, Any]) -> Mapping[str, Any]:
    """`zero_optimization` of a DeepSpeed configuration: a dictionary or the path of a JSON file."""
    if not isinstance(given, Mapping):
        path = Path(given).expanduser()
        if not path.is_file():
            raise InputError(
                "expected a DeepSpeed configuration (JSON) at `trainer.strategy.init_args.config`, got "
                f"{path}, which is not there"
            )
        given = stored_object(path)
    check_config(given)
    return given.get("zero_optimization", {})


def _is_offloaded(section: Mapping[str, Any], part: str) -> bool:
    return (section.get(part) or {}).get("device", "none") != "none"


def init_args(section: Mapping[str, Any]) -> Mapping[str, Any]:
    """Arguments of a class in a configuration; none if it states none."""
    return section.get("init_args") or {}
