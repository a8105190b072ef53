"""A parsed `fit` configuration, reduced to what a plan depends on."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace

from lit_longpo.cli import Parser
from lit_longpo.objectives import PreferenceModule
from lit_longpo.optimization import Optimization
from lit_longpo.planning.rows import RowPlan, fill_row
from lit_longpo.planning.states import Sharding
from lit_longpo.policy import PolicyConfig, ReferenceConfig

_CONVERTED = {"bf16-true": torch.bfloat16, "16-true": torch.float16}
_AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


@dataclass
class PlanOptions:
    """What a plan needs to know beside the configuration.

    Args:
        device_memory_gib: memory of one device, in GiB; an "80 GB" accelerator has about 80.
        device_tflops: its peak in the weights' precision, in 1e12 FLOPs a second. 312 is an A100's in bf16, 989 an
            H100's; `None` leaves times out.
        mfu: model FLOP utilisation that the time per step assumes.
        response_tokens: length of every response.
        short_tokens: length of short prompts, where there are long ones as well.
        row_tokens: length of a row; `None` means the data module's `max_tokens`.
        sequence_parallel: devices that share a row; `None` means what the strategy says.
        shape: architecture in place of the policy's own: a config.json, or the name of a model fragment whose shape
            is built in, for models that cannot be reached.
        json: file to write the plan to.
    """

    device_memory_gib: float = 80.0
    device_tflops: float | None = None
    mfu: float = 0.4
    response_tokens: int = 256
    short_tokens: int = 1024
    row_tokens: int | None = None
    sequence_parallel: int | None = None
    shape: str | None = None
    json: str | None = None

    def __post_init__(self) -> None:
        positive = ("device_memory_gib", "device_tflops", "mfu", "response_tokens", "short_tokens", "row_tokens")
        for name in (*positive, "sequence_parallel"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"expected `--{name}` above 0, got {value}")


@dataclass(frozen=True)
class Setting:
    """What was configured.

    Args:
        policy: the model.
        objective: what is trained; gives the views.
        optimization: the optimizer.
        reference: the reference.
        data: the data module's arguments.
        trainer: the trainer's arguments.
        options: of the plan.
        sharding: the strategy.
        devices_known: whether the number of devices was stated.
    """

    policy: PolicyConfig
    objective: PreferenceModule
    optimization: Optimization
    reference: ReferenceConfig
    data: Mapping[str, Any]
    trainer: Mapping[str, Any]
    options: PlanOptions
    sharding: Sharding
    devices_known: bool

    @property
    def on_gpu(self) -> bool:
        """Everything but `trainer.accelerator: cpu` is planned as a GPU, whatever this machine has."""
        return str(self.trainer["accelerator"]) != "cpu"

    @property
    def precision(self) -> str:
        """The trainer's precision."""
        return str(self.trainer.get("precision") or "32-true")

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights once the trainer has them."""
        return _CONVERTED.get(self.precision, self.policy.torch_dtype)

    @property
    def autocast(self) -> torch.dtype | None:
        """Precision of the products, where it differs."""
        return _AUTOCAST.get(self.precision)

    @property
    def converted(self) -> bool:
        """Whether the trainer casts adapters too."""
        return self.precision in _CONVERTED

    @property
    def flash(self) -> bool:
        """Whether a flash kernel attends."""
        half = (self.autocast or self.dtype) in (torch.bfloat16, torch.float16)
        return self.on_gpu and half and self.policy.attention != "sdpa"

    @property
    def accumulate(self) -> int:
        """Rows of a device in one optimizer step."""
        return int(self.trainer.get("accumulate_grad_batches") or 1)

    @property
    def strategy_options(self) -> Mapping[str, Any]:
        """The strategy's arguments; none if it is given by name."""
        strategy = self.trainer.get("strategy") or "auto"
        return {} if isinstance(strategy, str) else _init_args(strategy)

    @property
    def row_tokens(self) -> int:
        """Tokens of a full row.

        Raises:
            ValueError: neither the data module nor the options say.
        """
        tokens = self.options.row_tokens or self.data.get("max_tokens")
        if tokens is None:
            raise ValueError("expected a data module with `max_tokens`, got one without; type --row_tokens 8192")
        return int(tokens)

    def row(self) -> RowPlan:
        """The fullest row."""
        return fill_row(
            self.objective.views,
            budget=self.row_tokens,
            max_length=self.data.get("max_length"),
            max_examples=self.data.get("max_examples"),
            response_tokens=self.options.response_tokens,
            short_tokens=self.options.short_tokens,
            prefix_sharing=bool(self.data.get("prefix_sharing", True)),
        )


def read_setting(config: Namespace) -> Setting:
    """What a configuration of `fit`, with the options of `plan`, says; data and trainer are not built.

    Raises:
        ValueError: the strategy is none that can be planned.
    """
    parser = Parser()
    parser.add_class_arguments(PolicyConfig, "policy")
    parser.add_class_arguments(Optimization, "optimization")
    parser.add_class_arguments(ReferenceConfig, "reference")
    parser.add_subclass_arguments(PreferenceModule, "model")
    names = ("policy", "optimization", "reference", "model")
    built = parser.instantiate_classes(Namespace(**{name: config[name] for name in names}))
    options = PlanOptions(**{part.name: config[part.name] for part in fields(PlanOptions)})
    trainer = config.trainer.as_dict()
    devices = _devices(trainer)
    return Setting(
        policy=built.policy,
        objective=built.model,
        optimization=built.optimization,
        reference=built.reference,
        data=_init_args(config.data.as_dict()),
        trainer=trainer,
        options=options,
        sharding=read_sharding(trainer, devices or 1, options.sequence_parallel),
        devices_known=devices is not None,
    )


def read_sharding(trainer: Mapping[str, Any], devices: int, sequence_parallel: int | None) -> Sharding:
    """The strategy that the trainer's arguments name.

    Args:
        trainer: its arguments.
        devices: of one node.
        sequence_parallel: what overrides the strategy's own degree.

    Raises:
        ValueError: no formula is known for it, or the devices do not divide into its groups.
    """
    strategy = trainer.get("strategy") or "auto"
    name = strategy if isinstance(strategy, str) else str(strategy["class_path"]).rpartition(".")[2]
    options = {} if isinstance(strategy, str) else _init_args(strategy)
    world = devices * int(trainer.get("num_nodes") or 1)
    degree = sequence_parallel or int(options.get("sequence_parallel") or 1)
    if world % degree:
        raise ValueError(f"expected a sequence-parallel degree that divides {world} devices, got {degree}")
    if "deepspeed" in name.lower():
        return _zero(name, options, world, degree)
    if name == "ModelParallelStrategy":
        return Sharding("fsdp2", world, sequence_parallel=degree)
    if name != "auto" and "ddp" not in name.lower() and not name.startswith("SingleDevice"):
        raise ValueError(
            f"expected one of our strategies (single device, DDP, FSDP2, DeepSpeed), got {name!r}; plan with "
            "--trainer.strategy and one of configs/overlays"
        )
    return Sharding("ddp" if world > 1 else "single", world, sequence_parallel=degree)


def _zero(name: str, options: Mapping[str, Any], world: int, degree: int) -> Sharding:
    """Of DeepSpeed's strategies, which a configuration of one's own overrules."""
    if options.get("config") is not None:
        own = _deepspeed_config(options["config"])
        stage = int(own.get("stage", 0))
        optimizer, parameters = (_is_offloaded(own, part) for part in ("offload_optimizer", "offload_param"))
        bucket = own.get("reduce_bucket_size")
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
        bucket=int(bucket) if str(bucket).isdigit() else Sharding.bucket,  # "auto" is a word of other trainers
    )


def _deepspeed_config(given: str | Path | Mapping[str, Any]) -> Mapping[str, Any]:
    """`zero_optimization` of a DeepSpeed configuration: a dictionary or the path of a JSON file."""
    config = given if isinstance(given, Mapping) else _read_json(Path(given).expanduser())
    section: Mapping[str, Any] = config.get("zero_optimization", {})
    return section


def _read_json(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise ValueError(
            f"expected a DeepSpeed configuration (JSON) at `trainer.strategy.init_args.config`, got {path}, which is "
            "not there"
        )
    contents: Mapping[str, Any] = json.loads(path.read_text())
    return contents


def _is_offloaded(section: Mapping[str, Any], part: str) -> bool:
    return (section.get(part) or {}).get("device", "none") != "none"


def _devices(trainer: Mapping[str, Any]) -> int | None:
    """Devices of one node; `None` for "auto" where there are none to count."""
    devices = trainer.get("devices", "auto")
    if isinstance(devices, list):
        return len(devices)
    if str(devices).lstrip("-").isdigit() and int(devices) > 0:
        return int(devices)
    if str(trainer["accelerator"]) == "cpu":
        return 1
    return torch.accelerator.device_count() or None


def _init_args(section: Mapping[str, Any]) -> Mapping[str, Any]:
    arguments: Mapping[str, Any] = section.get("init_args") or {}
    return arguments
