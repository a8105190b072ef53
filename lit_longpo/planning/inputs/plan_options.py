"""The options of `plan` beside the configuration of `fit`."""

from dataclasses import dataclass
from typing import Literal

from lit_longpo.errors import InputError


@dataclass
class PlanOptions:
    """What a plan needs to know beside the configuration.

    Args:
        device_memory_gib: memory of one device, in GiB; an "80 GB" accelerator has about 80. `None` means that, and
            with `trainer.accelerator: cpu` what this machine has, divided between its processes.
        device_tflops: its peak in the weights' precision, in 1e12 FLOPs a second. 312 is an A100's in bf16, 989 an
            H100's; `None` leaves times out.
        mfu: model FLOP utilisation that the time per step assumes.
        response_tokens: length of every response; `None` means the longest one's in the data, or 256 where that is not
            known before they are tokenised.
        short_tokens: length of short prompts, where there are long ones as well; `None` likewise, or 1,024.
        row_tokens: length of a row, filled by as few examples as may be; `None` means the data module's `max_tokens`,
            and no more than the longest examples take.
        sequence_parallel: devices that share a row; `None` means what the strategy says.
        host_memory_gib: memory of one machine, in GiB, for what its devices offload; `None` means as much as they want.
        longest: find the longest row over all ways to run on these devices, and print the command: those that train
            every weight ("whole"), adapters ("lora"), adapters over 4-bit weights ("4bit"), or all of them ("any",
            which `--longest` alone means).
        shape: architecture in place of the policy's own: a config.json, or the name of a model fragment whose shape
            is built in, for models that cannot be reached.
        json: file to write the plan to.
    """

    device_memory_gib: float | None = None
    device_tflops: float | None = None
    mfu: float = 0.4
    response_tokens: int | None = None
    short_tokens: int | None = None
    row_tokens: int | None = None
    sequence_parallel: int | None = None
    host_memory_gib: float | None = None
    longest: Literal["any", "whole", "lora", "4bit"] | None = None
    shape: str | None = None
    json: str | None = None

    def __post_init__(self) -> None:
        positive = ("device_memory_gib", "device_tflops", "mfu", "response_tokens", "short_tokens", "row_tokens")
        for name in (*positive, "sequence_parallel", "host_memory_gib"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise InputError(f"expected `--{name}` above 0, got {value}")
