"""Devices by Lightning's names and numbers, compared with what this machine has before anything is loaded."""

import difflib
from typing import Any

import torch
from lightning.fabric.accelerators import ACCELERATOR_REGISTRY
from lightning.fabric.utilities.exceptions import MisconfigurationException

from lit_longpo.errors import InputError

_BEST_FIRST = ("tpu", "mps", "cuda")  # as Lightning chooses
_KINDS = {"gpu": "a GPU", "cuda": "a GPU", "mps": "an Apple GPU", "tpu": "a TPU"}
_ALL_THERE_ARE = ("auto", "-1")


def check_devices(accelerator: Any, devices: Any, prefix: str = "", instead: str = "") -> int | None:
    """Compare what a run asks for with this machine.

    Args:
        accelerator: Lightning's name of a kind of device; an object of Lightning's looks for itself.
        devices: their number, their numbers as a list or text, or "auto".
        prefix: of both settings' names in the command line, "trainer." for example.
        instead: what to add behind `--accelerator cpu` in what is to be typed.

    Returns:
        The number of devices; `None` where an object of Lightning's counts them.

    Raises:
        InputError: there is no such name, no such device here, or fewer than are asked for.
    """
    if not isinstance(accelerator, str):
        return None
    check_accelerator(accelerator, prefix)
    kind = _kind(accelerator)
    if kind is None:
        raise InputError(
            f"expected {_KINDS.get(accelerator, accelerator)} for `{prefix}accelerator: {accelerator}`, found none "
            f"that torch can use; type --{prefix}accelerator cpu{instead}"
        )
    here, number = kind.auto_device_count(), num_devices(kind.name(), devices, prefix)
    if kind.name() == "cpu" or number is None:  # a CPU takes any number of processes
        return number or here
    try:
        kind.parse_devices(devices)
    except MisconfigurationException as error:
        raise InputError(
            f"expected devices of this machine for `{prefix}devices: {devices}`, which has {here}; type "
            f"--{prefix}devices {here}"
        ) from error
    return number


def check_accelerator(accelerator: str, prefix: str = "") -> None:
    """Refuse what is no name of Lightning's, on whatever machine."""
    names = ("auto", "gpu", *ACCELERATOR_REGISTRY.available_accelerators())
    if accelerator not in names:
        near = difflib.get_close_matches(accelerator.lower(), names, n=1) or ["auto"]
        raise InputError(
            f"expected `{prefix}accelerator` to be one of {', '.join(names)}, got {accelerator}; type "
            f"--{prefix}accelerator {near[0]}"
        )


def num_devices(accelerator: str, devices: Any, prefix: str = "") -> int | None:
    """How many devices a setting asks for, on whatever machine.

    Returns:
        `None` for as many as there are.

    Raises:
        InputError: it says no number, or one device twice.
    """
    several = isinstance(devices, list | tuple) or "," in str(devices)
    if not several and str(devices).strip() in _ALL_THERE_ARE and (accelerator != "cpu" or devices == "auto"):
        return None
    try:
        numbers = [int(one) for one in _listed(devices)]
    except ValueError:
        numbers = []
    if several and accelerator != "cpu" and numbers and len({*numbers}) == len(numbers) and min(numbers) >= 0:
        return len(numbers)
    if not several and numbers and numbers[0] > 0:
        return numbers[0]
    lists = "" if accelerator == "cpu" else ", a list of different devices"
    raise InputError(
        f"expected `{prefix}devices` to be a number from 1{lists} or auto, got {devices}; type --{prefix}devices 1"
    )


def check_torch_device(name: str, setting: str) -> None:
    """Compare torch's name of a device with this machine.

    Raises:
        InputError: torch knows none of that name, or there is none here.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        usual = "cuda" if name.lower().startswith("gpu") else "cpu"
        raise InputError(
            f"expected `{setting}` to be cpu, cuda, cuda:1 or another name of torch's, got {name}; type "
            f"--{setting} {usual}"
        ) from error
    there = torch.accelerator.current_accelerator(check_available=True)
    here = torch.accelerator.device_count() if there is not None and there.type == device.type else 0
    if device.type != "cpu" and (device.index or 0) >= here:
        found = f"found {here} of its kind" if here else "found none that torch can use"
        raise InputError(f"expected a device here for `{setting}: {name}`, {found}; type --{setting} null")


def _kind(accelerator: str) -> Any:
    """Lightning's class of an accelerator that is here; `None` if it is not."""
    names = {"auto": (*_BEST_FIRST, "cpu"), "gpu": ("mps", "cuda")}.get(accelerator, (accelerator,))
    kinds = (ACCELERATOR_REGISTRY[name]["accelerator"] for name in names)
    return next((kind for kind in kinds if kind.is_available()), None)


def _listed(devices: Any) -> list[Any]:
    if isinstance(devices, list | tuple):
        return list(devices)
    return [part for part in str(devices).split(",") if part.strip()]
