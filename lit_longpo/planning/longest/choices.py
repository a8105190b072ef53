"""The choices of `plan --longest`: weights, strategy, ranks to a row, optimizer, activations.

A choice is made twice: of the configuration that is planned, and as words of the command that runs it.
"""

import importlib.util
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch

from lit_longpo.optimization.quantized import QuantizedAdamW
from lit_longpo.planning.inputs.configuration import Configuration
from lit_longpo.planning.inputs.sharding import read_sharding
from lit_longpo.planning.memory import CONFIGURED, TITLES
from lit_longpo.policy import LoRA
from lit_longpo.policy.checkpointing import Checkpointing
from lit_longpo.policy.weights.quantization import Quantization

_STRATEGY = "--trainer.strategy"
_ZERO = "lit_longpo.strategies.AnyDeviceDeepSpeedStrategy"
_ULYSSES = "lit_longpo.strategies.SequenceParallelDDPStrategy"
_ADAPTERS = LoRA(r=16, alpha=32)  # where a configuration has none of its own
_HALF = {torch.bfloat16: "bf16-true", torch.float16: "16-true"}  # what DeepSpeed wants beside such weights


@dataclass(frozen=True)
class Choice:
    """One option of a choice, as a change of the configuration and as words of the command line.

    Args:
        labels: what it is called, under what is chosen.
        words: of the command line.
        apply: makes it, of a configuration.
    """

    labels: Mapping[str, str]
    words: tuple[str, ...]
    apply: Callable[[Configuration], Configuration]


def weights(run: Configuration, goal: str) -> list[Choice]:
    """Training every weight, adapters, or adapters over weights in 4 bits.

    Args:
        run: as configured; adapters of a folder, and parts that are trained alone, stay as they are.
        goal: the one that is wanted: "whole", "lora" or "4bit"; or "any".
    """
    policy = run.policy
    if policy.train_only or policy.freeze or (policy.trained_lora is not None and policy.lora is None):
        return [Choice({"weights": "as configured"}, (), lambda run: run)]
    lora = policy.lora or _ADAPTERS
    found = {
        "whole": _weights("all trained", None, None),
        "lora": _weights("LoRA", lora, None),
        "4bit": _weights("LoRA over 4 bits", lora, policy.quantized or Quantization()),
    }
    return [choice for name, choice in found.items() if goal in ("any", name)]


def _weights(name: str, lora: LoRA | None, quantization: Quantization | None) -> Choice:
    stated = [f"--policy.lora {_as_yaml(lora)}", f"--policy.quantization {_as_yaml(quantization)}"]
    words = tuple(word for text in stated for word in text.split(" ", 1))

    def apply(run: Configuration) -> Configuration:
        return replace(run, policy=replace(run.policy, lora=lora, quantization=quantization))

    return Choice({"weights": name}, words, apply)


def _as_yaml(settings: Any) -> str:
    return "null" if settings is None else json.dumps(asdict(settings))


def strategies(run: Configuration, degrees: list[int]) -> Iterator[Choice]:
    """Every strategy that `plan` knows, with every number of ranks to a row."""
    world = run.sharding.world_size
    if world == 1:
        yield _strategy(run, "one device", "auto", {})
    for degree in degrees:
        if world > 1:
            yield _strategy(run, "DDP", *((_ULYSSES, {"sequence_parallel": degree}) if degree > 1 else ("ddp", {})))
        for stage, optimizer, parameters in _stages(run, world):
            on_host = [name for name, is_there in (("optimizer", optimizer), ("weights", parameters)) if is_there]
            name = f"ZeRO-{stage}" + (f", {' and '.join(on_host)} on host" if on_host else "")
            offloading = {"offload_optimizer": optimizer, "offload_parameters": parameters}
            yield _strategy(run, name, _ZERO, {"stage": stage, **offloading, "sequence_parallel": degree})
    if world > 1:
        sizes = {"data_parallel_size": world, "tensor_parallel_size": 1}
        yield _strategy(run, "FSDP2", "ModelParallelStrategy", sizes)


def _stages(run: Configuration, world: int) -> Iterator[tuple[int, bool, bool]]:
    """Stages of ZeRO, and what lies in host memory; splitting alone is nothing to one device."""
    if world > 1:
        yield from ((stage, False, False) for stage in (1, 2, 3))
    if run.on_gpu:
        yield from ((2, True, False), (3, True, False), (3, True, True))


def _strategy(run: Configuration, name: str, class_path: str, arguments: dict[str, Any]) -> Choice:
    named = class_path != "ddp" and class_path != "auto"
    words = [_STRATEGY, class_path]
    for key, value in arguments.items():
        words += [f"{_STRATEGY}.init_args.{key}", json.dumps(value)]
    strategy = {"class_path": class_path, "init_args": arguments} if named else class_path
    changed: dict[str, Any] = {"strategy": strategy}
    if class_path == _ZERO and run.policy.torch_dtype in _HALF:
        changed["precision"] = _HALF[run.policy.torch_dtype]
    elif run.precision in _HALF.values():
        changed["precision"] = "32-true"  # the model's own dtype, with adapters of 32 bits
    if "precision" in changed:
        words += ["--trainer.precision", changed["precision"]]

    def apply(run: Configuration) -> Configuration:
        trainer = {**run.trainer, **changed}
        devices = run.sharding.world_size // int(trainer.get("num_nodes") or 1)
        return replace(run, trainer=trainer, sharding=read_sharding(trainer, devices, None))

    labels = {"strategy": name, "devices to a row": str(arguments.get("sequence_parallel", 1))}
    return Choice(labels, tuple(words), apply)


def optimizers(run: Configuration) -> Iterator[Choice]:
    """The configured one; and where that is AdamW, the same with states of 8 bits, if bitsandbytes is here."""
    made = run.optimization.probe()
    yield Choice({"optimizer": type(made).__name__}, (), lambda run: run)
    if not isinstance(made, torch.optim.AdamW) or importlib.util.find_spec("bitsandbytes") is None:
        return
    kept = {name: made.defaults[name] for name in ("lr", "betas", "eps", "weight_decay")}
    for paged in (False, True) if run.on_gpu else (False,):
        yield _quantized({**kept, "bits": 8, "paged": paged})


def _quantized(arguments: dict[str, Any]) -> Choice:
    words = ["--optimization.optimizer", QuantizedAdamW.__name__]
    for key, value in arguments.items():
        words += [f"--optimization.optimizer.init_args.{key}", json.dumps(value)]

    def apply(run: Configuration) -> Configuration:
        return replace(run, optimization=replace(run.optimization, optimizer=partial(QuantizedAdamW, **arguments)))

    return Choice({"optimizer": "AdamW in 8 bits" + ", paged" * arguments["paged"]}, tuple(words), apply)


def activations(run: Configuration) -> list[Choice]:
    """What is done with activations, layers in tiles wherever they are recomputed; the longest rows last."""
    return [_activations(TITLES[mode], how) for mode, how in CONFIGURED.items() if run.on_gpu or mode != "offload"]


def _activations(name: str, how: Checkpointing) -> Choice:
    words = ("--policy.gradient_checkpointing", how if isinstance(how, str) else json.dumps(how))

    def apply(run: Configuration) -> Configuration:
        return replace(run, policy=replace(run.policy, gradient_checkpointing=how, tile_tokens="auto"))

    return Choice({"activations": name}, (*words, "--policy.tile_tokens", "auto"), apply)
