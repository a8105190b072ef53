"""A parsed `fit` configuration, reduced to what a plan depends on."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from jsonargparse import Namespace

from lit_longpo.command_line.parser import SuggestingParser
from lit_longpo.errors import InputError
from lit_longpo.objectives import PreferenceModule
from lit_longpo.optimization import Optimization
from lit_longpo.planning.inputs.plan_options import PlanOptions
from lit_longpo.planning.inputs.row import LongestExample, RowPlan, fill_row
from lit_longpo.planning.inputs.row_arguments import RowArguments
from lit_longpo.planning.inputs.sharding import Sharding, init_args, read_sharding
from lit_longpo.planning.memory import Memory
from lit_longpo.policy import PolicyConfig, ReferenceConfig
from lit_longpo.ranges import check_range
from lit_longpo.strategies import check_accelerator, num_devices
from lit_longpo.training.precision import CASTS

_CONVERTED: dict[str, torch.dtype] = {precision: getattr(torch, dtype) for precision, dtype in CASTS.items()}
_GPU_GIB, _RESPONSE_TOKENS, _SHORT_TOKENS = 80.0, 256, 1024  # where nothing says otherwise
# Share of a device's memory that is planned with. On an H200 torch reserved 1.00 to 1.11 of plans (1.03 for an 8B), and
# a row that was to take all of 78 GiB ran out of it: fragments, CUDA's own and other processes take the rest.
PLANNED_SHARE = 0.95
_AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


@dataclass(frozen=True)
class Configuration:
    """The parts of a `fit` configuration on which a plan depends.

    Args:
        devices_known: whether the number of devices was stated.
        longest: the data's largest example; `None` where it is not known.
        longest_from: where it comes from, or why it is not known.
    """

    policy: PolicyConfig
    objective: PreferenceModule
    optimization: Optimization
    reference: ReferenceConfig
    data: RowArguments
    trainer: Mapping[str, Any]
    options: PlanOptions
    sharding: Sharding
    devices_known: bool
    longest: LongestExample | None = None
    longest_from: str = "nobody has looked at the data"

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
        return {} if isinstance(strategy, str) else init_args(strategy)

    @property
    def row_tokens(self) -> int:
        """Tokens of a full row.

        Raises:
            InputError: neither the data module nor the options say.
        """
        tokens = self.options.row_tokens or self.data.max_tokens
        if tokens is None:
            raise InputError("expected a data module with `max_tokens`, got one without; type --row_tokens 8192")
        return int(tokens)

    @property
    def response_tokens(self) -> int:
        """Tokens of every response."""
        return self.options.response_tokens or (self.longest.response if self.longest else _RESPONSE_TOKENS)

    @property
    def short_tokens(self) -> int:
        """Tokens of short prompts."""
        return self.options.short_tokens or (self.longest.short_prompt if self.longest else 0) or _SHORT_TOKENS

    @property
    def lengths_from(self) -> str:
        """Where the lengths of a row come from, in words."""
        if self.options.row_tokens is not None:
            return "--row_tokens"
        if self.longest is not None:
            return self.longest_from
        return f"a whole row of `data.max_tokens`, as {self.longest_from}; type --row_tokens and --response_tokens"

    @property
    def device_memory_gib(self) -> float:
        """Memory of one device, in GiB."""
        stated = self.options.device_memory_gib
        if stated is not None or self.on_gpu:
            return _GPU_GIB if stated is None else stated
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30 / max(1, self.devices_of_a_machine)

    @property
    def devices_of_a_machine(self) -> int:
        """Devices that share a host's memory."""
        return self.sharding.world_size // int(self.trainer.get("num_nodes") or 1)

    def has_room(self, memory: Memory) -> bool:
        """Whether a device's share for it, and the host of as many as a machine has, hold so much."""
        host = self.options.host_memory_gib
        in_host = host is None or memory.host * self.devices_of_a_machine <= host * 2**30
        return in_host and memory.peak <= PLANNED_SHARE * self.device_memory_gib * 2**30

    @property
    def device_memory_from(self) -> str:
        """Where the memory of a device comes from, in words."""
        if self.options.device_memory_gib is not None:
            return "--device_memory_gib"
        return "a GPU's, assumed; type --device_memory_gib for another" if self.on_gpu else "this machine's memory"

    def row(self) -> RowPlan:
        """The fullest row."""
        known = self.longest if self.options.row_tokens is None else None
        most = [number for number in (self.data.max_examples, None if known is None else known.num_examples) if number]
        return fill_row(
            self.objective.views,
            budget=self.row_tokens,
            max_length=self.data.max_length,
            max_examples=min(most, default=None),
            response_tokens=self.response_tokens,
            short_tokens=self.short_tokens,
            prefix_sharing=self.data.prefix_sharing,
            long_tokens=None if known is None else known.prompt,
        )


def read_configuration(config: Namespace) -> Configuration:
    """What a configuration of `fit` says, perhaps with the options of `plan`; data and trainer are not built.

    Raises:
        InputError: the strategy is none that can be planned.
    """
    parser = SuggestingParser()
    parser.add_class_arguments(PolicyConfig, "policy")
    parser.add_class_arguments(Optimization, "optimization")
    parser.add_class_arguments(ReferenceConfig, "reference")
    parser.add_subclass_arguments(PreferenceModule, "model")
    names = ("policy", "optimization", "reference", "model")
    built = parser.instantiate_classes(Namespace(**{name: config[name] for name in names}))
    options = PlanOptions(**{part.name: config[part.name] for part in fields(PlanOptions) if part.name in config})
    trainer = config.trainer.as_dict()
    devices = _devices(trainer)
    return Configuration(
        policy=built.policy,
        objective=built.model,
        optimization=built.optimization,
        reference=built.reference,
        data=RowArguments.read(init_args(config.data.as_dict())),
        trainer=trainer,
        options=options,
        sharding=read_sharding(trainer, devices or 1, options.sequence_parallel),
        devices_known=devices is not None,
    )


def _devices(trainer: Mapping[str, Any]) -> int | None:
    """Devices of one node; `None` for "auto" where there are none to count."""
    check_range("trainer.num_nodes", int(trainer.get("num_nodes", 1)), "type --trainer.num_nodes 1", at_least=1)
    accelerator = str(trainer["accelerator"])
    if isinstance(trainer["accelerator"], str):
        check_accelerator(accelerator, "trainer.")
    if (number := num_devices(accelerator, trainer.get("devices", "auto"), "trainer.")) is not None:
        return number
    if accelerator == "cpu":
        return 1
    return torch.accelerator.device_count() or None
