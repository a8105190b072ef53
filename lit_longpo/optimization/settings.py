"""The section `optimization` of a configuration: optimizer, learning-rate schedule, and what of them cannot work."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.cli import OptimizerCallable
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from lit_longpo.engine.decoder import whole_shape
from lit_longpo.errors import InputError
from lit_longpo.optimization.fused import FusedAdamW
from lit_longpo.optimization.kinds import (
    accumulation_problem,
    check_first_step,
    closure_problem,
    graph_problem,
    host_problem,
    optimizer_of,
    probe_of,
    slices_problem,
    vectors_problem,
)
from lit_longpo.optimization.quantized import placement_problem, prepare
from lit_longpo.optimization.schedules import Shape, build_schedule
from lit_longpo.ranges import check_range, check_weight
from lit_longpo.strategies.sharding import optimizer_device, optimizer_split

_WHERE = "optimization.optimizer.init_args"
_USUAL_RATE = "lr 1e-6 is usual for billions of parameters, 1e-4 for adapters"
_UNDECAYED = re.compile(r"(bias|\.A_log|\.scale|\.time_mix_\w+)$")  # names of parameters that are no maps
_KERNELS = {"foreach", "fused", "capturable", "differentiable"}


@dataclass
class Optimization:
    """How the policy is optimized.

    Weight decay applies to matrices, including adapters and embeddings, and not to norms, biases and rates of decay,
    which some models hold as matrices (`undecayed`).

    Args:
        optimizer: class and arguments, for example `class_path: FusedAdamW` with `init_args: {lr: 5e-7}`.
            `QuantizedAdamW` stores its states in 8 bits, or pages them (extra `quantized`).
        schedule: shape of the learning rate after the warm-up.
        warmup_fraction: share of all optimizer steps during which the rate rises from 0.
        min_lr_fraction: share of the peak rate at which "linear" and "cosine" end.
        router_loss: coefficient of the load-balancing loss of routed experts, which is added to the objective's loss.
            "model" takes `router_aux_loss_coef` of the model's configuration.

    Raises:
        InputError: a number is out of range, or a constant rate is told where to end.
    """

    optimizer: OptimizerCallable = FusedAdamW
    schedule: Shape = "cosine"
    warmup_fraction: float = 0.1
    min_lr_fraction: float = 0.0
    router_loss: float | Literal["model"] = 0.0

    def __post_init__(self) -> None:
        tenth = "0.1 warms up over the first tenth of the steps"
        check_range("optimization.warmup_fraction", self.warmup_fraction, tenth, at_least=0.0, below=1.0)
        share = "0.1 ends at a tenth of the peak rate"
        check_range("optimization.min_lr_fraction", self.min_lr_fraction, share, at_least=0.0, below=1.0)
        if self.min_lr_fraction and self.schedule == "constant":
            raise InputError(
                "expected no `optimization.min_lr_fraction` with `optimization.schedule: constant`, got "
                f"{self.min_lr_fraction}; remove it, or set `optimization.schedule: cosine`"
            )
        if not isinstance(self.router_loss, str):
            check_weight("optimization.router_loss", self.router_loss, "0.001 is usual, 0 leaves it out")
        self._check_optimizer()

    @property
    def defaults(self) -> dict[str, Any]:
        """The optimizer's settings, among them `lr`.

        Raises:
            InputError: it does not take them, or cannot be made here.
        """
        try:
            return self.probe().defaults
        except InputError:  # says itself what to type
            raise
        except ValueError as error:
            raise InputError(
                f"expected `{_WHERE}` that the optimizer takes, got others ({error}); {_USUAL_RATE}, no weight decay"
            ) from error

    @property
    def settings(self) -> dict[str, Any]:
        """Optimizer and schedule under the command line's names; not which kernels compute them."""
        optimizer = self.probe()
        numbers = {name: value for name, value in optimizer.defaults.items() if name not in _KERNELS}
        others = ("schedule", "warmup_fraction", "min_lr_fraction", "router_loss")
        return {
            "optimization.optimizer": type(optimizer).__name__,
            **{f"optimization.optimizer.{name}": value for name, value in numbers.items()},
            **{f"optimization.{name}": getattr(self, name) for name in others},
        }

    @property
    def depends_on_length(self) -> bool:
        """Whether the learning rate at a step depends on how many steps there are."""
        return self.schedule != "constant" or self.warmup_fraction > 0.0

    def build(
        self,
        parameters: Iterable[torch.nn.Parameter],
        num_steps: int,
        embeddings: Iterable[torch.Tensor] = (),
        kept: Iterable[torch.Tensor] = (),
    ) -> tuple[Optimizer, LambdaLR]:
        """Optimizer over `parameters` and its per-step schedule over `num_steps` optimizer steps.

        Args:
            parameters: whole or sharded.
            num_steps: of the whole fit; -1 if nobody knows, see `check_length`.
            embeddings: those of them whose states are never quantised.
            kept: those of them that do not decay, beside all vectors (`undecayed`).
        """
        self.check_length(num_steps)
        optimizer = optimizer_of(self.optimizer, self._groups(list(parameters), kept))
        prepare(optimizer, embeddings)
        # Fused kernels could unscale gradients themselves, but clipping has to see them unscaled: Lightning does it.
        optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
        warmup = self.warmup_steps(num_steps)
        return optimizer, build_schedule(optimizer, self.schedule, warmup, num_steps, self.min_lr_fraction)

    def warmup_steps(self, num_steps: int) -> int:
        """Optimizer steps of the warm-up, of `num_steps` of the whole fit."""
        return round(self.warmup_fraction * num_steps)

    def placement_problem(self, device: str | None, split: str | None) -> str | None:
        """Why the optimizer cannot train there, and what to type; `None` if it can.

        Args:
            device: type of the device that weights are updated on, "cuda" for example, "cpu" where they are offloaded;
                `None` if it is not of this machine.
            split: what hands an optimizer slices of parameters ("ZeRO-2", "FSDP2"); `None` if they are whole.
        """
        optimizer = self.probe()
        problem = placement_problem(optimizer, device, split) or slices_problem(self.optimizer, split)
        return problem or host_problem(optimizer, device)

    def accumulation_problem(self, rows: int) -> str | None:
        """Why the optimizer cannot train on so many rows a step, and what to type; `None` if it can."""
        return accumulation_problem(self.probe(), rows)

    def check_trainer(self, trainer: Trainer, *, vectors: bool = False) -> None:
        """Refuse what the trainer would only stumble over in the midst of its first step.

        Args:
            trainer: about to fit; nothing has been loaded.
            vectors: whether norms and biases are surely among what is trained.

        Raises:
            InputError: clipping or accumulation means nothing, nobody knows how long the schedule is, or the optimizer
                is none for the device or the strategy, or wants more than gradients.
        """
        strategy = trainer.strategy
        split = optimizer_split(strategy)
        problem = self.placement_problem(optimizer_device(strategy), split)
        if getattr(trainer.precision_plugin, "scaler", None) is None:  # one of fp16 takes the step without a closure
            problem = problem or closure_problem(self.optimizer, split)
        problem = problem or graph_problem(self.optimizer)
        if vectors:
            problem = problem or vectors_problem(self.optimizer)
        if problem is not None:
            raise InputError(problem)
        if trainer.gradient_clip_val is not None:
            usual = "1.0 is usual, null clips nothing"
            check_range("trainer.gradient_clip_val", trainer.gradient_clip_val, usual, at_least=0.0)
        check_range("trainer.accumulate_grad_batches", trainer.accumulate_grad_batches, "1 is one row", at_least=1)
        if problem := self.accumulation_problem(trainer.accumulate_grad_batches):
            raise InputError(problem)
        self.check_length(-1 if trainer.max_epochs == trainer.max_steps == -1 else 0)

    def check_length(self, num_steps: int) -> None:
        """Refuse a schedule over an unknown number of steps."""
        if num_steps >= 0 or not self.depends_on_length:
            return
        raise InputError(
            f"expected a known number of steps with `optimization.schedule: {self.schedule}` and `warmup_fraction: "
            f"{self.warmup_fraction}`, got a run that only its time ends; type --trainer.max_steps N (or "
            "--trainer.max_epochs N) beside `trainer.max_time`, or --optimization.schedule constant "
            "--optimization.warmup_fraction 0"
        )

    def probe(self) -> Optimizer:
        """The optimizer of a single number.

        Raises:
            InputError: as `probe_of`.
        """
        return probe_of(self.optimizer)

    def _check_optimizer(self) -> None:
        defaults = self.defaults
        check_first_step(self.probe())
        if isinstance(rate := defaults.get("lr"), float | int):  # there are optimizers that find their own
            check_range(f"{_WHERE}.lr", rate, _USUAL_RATE, above=0.0, at_most=10.0)
        decay = defaults.get("weight_decay", 0.0)
        check_range(f"{_WHERE}.weight_decay", decay, "0 is usual, 0.1 much", at_least=0.0, at_most=10.0)

    def _groups(self, parameters: list[torch.nn.Parameter], undecayed: Iterable[torch.Tensor]) -> list[Any]:
        """What has no weight decay apart from the rest, if there is any decay."""
        if not self.defaults.get("weight_decay"):
            return list(parameters)
        kept = {id(each) for each in undecayed} | {id(each) for each in parameters if len(whole_shape(each)) < 2}
        decaying = [parameter for parameter in parameters if id(parameter) not in kept]
        others = [parameter for parameter in parameters if id(parameter) in kept]
        groups: list[dict[str, Any]] = [{"params": decaying}, {"params": others, "weight_decay": 0.0}]
        return [group for group in groups if group["params"]]


def undecayed(model: torch.nn.Module) -> list[torch.nn.Parameter]:
    """The parameters without weight decay although they may be matrices.

    Biases of stacked experts (gpt-oss) have a row for each expert, norms of heads (Command R+) and scales (Inkling 2)
    one for each head; Mamba's rates of decay (`A_log`, a row for each channel) and RWKV's mixtures do not decay in
    their authors' code.
    """
    norms = (module for module in model.modules() if type(module).__name__.endswith("Norm"))
    weights = {id(weight) for norm in norms for weight in norm.parameters(recurse=False)}
    named = model.named_parameters()
    return [each for name, each in named if id(each) in weights or _UNDECAYED.search(name)]
