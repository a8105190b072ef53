"""What `benchmarks.device` measures on a device of its own, each in a process: steps, their profile, rows, kernels."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import torch
from benchmarks import ours
from benchmarks.flops import PEAK_TFLOPS, step_flops
from benchmarks.predicted import predict
from benchmarks.setting import Setting

_SHOWN = 30  # kernels and operators of a profile, those that take longest


def measure_step(setting: Setting, side: str) -> dict[str, Any]:
    """Seconds, speed, MFU and memory of a step."""
    from benchmarks.side import SIDES

    result = SIDES[side](setting)
    seconds = median(result["wall"])
    tflops = step_flops(setting) / seconds / 1e12
    on_gpu = setting.device == "cuda"
    peak = PEAK_TFLOPS.get(setting.dtype) if on_gpu else None
    return {
        "loss": result["losses"][0],
        "seconds": seconds,
        "tokens_per_second": setting.num_row_tokens / seconds,
        "tflops": tflops,
        "mfu": tflops / peak if peak else None,
        "peak_gib": result["peak_mib"] / 1024,
        "walls": result["wall"],
        "losses": result["losses"],
        "reserved": torch.cuda.max_memory_reserved() / 2**30 if on_gpu else None,
    }


def profile_step(setting: Setting) -> dict[str, Any]:
    """What takes the time of our steps behind the warm-up, by name: seconds in kernels, and on the host."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    activities += [torch.profiler.ProfilerActivity.CUDA] if setting.device == "cuda" else []
    profiler = torch.profiler.profile(activities=activities)
    result = ours.run(setting, profiler)
    events = [event for event in profiler.key_averages() if not event.is_user_annotation]
    kernels = {event.key: [event.count, event.self_device_time_total / 1e6] for event in _on(events, "CUDA")}
    host = {event.key: [event.count, event.self_cpu_time_total / 1e6] for event in _on(events, "CPU")}
    return {
        "walls": result["wall"],
        "launches": sum(count for name, (count, _) in host.items() if "LaunchKernel" in name),
        "busy": sum(seconds for _, seconds in kernels.values()),
        **{name: _most(times) for name, times in (("kernels", kernels), ("host", host))},
    }


def _on(events: Iterable[Any], kind: str) -> list[Any]:
    """Those that ran there: an operation of the host has its kernels' time, too."""
    return [event for event in events if event.device_type.name == kind]


def _most(times: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return dict(sorted(times.items(), key=lambda item: item[1][1], reverse=True)[:_SHOWN])


def find_longest(setting: Setting, cap_gib: float, factors: Sequence[float]) -> dict[str, Any]:
    """With so much memory: does the prompt survive that the plan calls longest, and do longer ones?"""
    predicted = predict(setting, cap_gib)
    tried = dict[str, Any]()
    if setting.device == "cuda":
        torch.cuda.set_per_process_memory_fraction(cap_gib * 2**30 / torch.cuda.mem_get_info()[1])
    for factor in factors:
        prompt = max(1, int(predicted["longest_prompt"] * factor))
        torch.cuda.empty_cache() if setting.device == "cuda" else None
        try:
            tried[f"{factor}"] = {"prompt": prompt, **measure_step(replace(setting, prompt=prompt), "ours")}
        except torch.OutOfMemoryError as error:
            tried[f"{factor}"] = {"prompt": prompt, "out_of_memory": str(error)}
            break
        print(tried, flush=True)
    return {"cap_gib": cap_gib, "plan": predicted, "tried": tried}


def time_kernels(device: str, tokens: int, dtype: str) -> dict[str, Any]:
    """Causal attention of one layer of the 8b shape, forward and backward: ours over a pair's row, torch's over one."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    from lit_longpo.engine.attention import prefix_shared_attention

    table = ours.pack(ours.groups(_pair(tokens), ours.SeededDPO.views.fget(ours.SeededDPO))).table  # type: ignore
    width = 128 if device == "cuda" else 16

    def tensors(length: int) -> list[torch.Tensor]:
        made = [torch.randn(1, heads, length, width, device=device) for heads in (32, 8, 8)]
        return [tensor.to(getattr(torch, dtype)).requires_grad_() for tensor in made]

    def plain(backend: SDPBackend) -> Any:
        def attend(*parts: torch.Tensor) -> torch.Tensor:
            with sdpa_kernel(backend):
                return torch.nn.functional.scaled_dot_product_attention(*parts, is_causal=True, enable_gqa=True)

        return attend

    def row(*parts: torch.Tensor) -> torch.Tensor:
        return prefix_shared_attention(torch.nn.Identity(), *parts, None, segment_table=table)[0]

    ways = {"ours, one row of a pair": (row, table.num_tokens)}
    backends = ("FLASH_ATTENTION", "CUDNN_ATTENTION") if device == "cuda" else ("MATH",)
    ways |= {f"sdpa {name}": (plain(getattr(SDPBackend, name)), tokens) for name in backends}
    return {name: _time(attend, tensors(length)) for name, (attend, length) in ways.items()}


def _pair(tokens: int) -> Setting:
    return Setting(prompt=tokens, answers=(512, 512) if tokens > 1024 else (8, 8))


def _time(attend: Any, tensors: list[torch.Tensor]) -> dict[str, Any]:
    wait = torch.cuda.synchronize if tensors[0].is_cuda else lambda: None
    seconds: dict[str, list[float]] = {"forward": [], "backward": []}
    try:
        for _ in range(4):
            wait()
            start = time.perf_counter()
            out = attend(*tensors)
            wait()
            middle = time.perf_counter()
            out.sum().backward()
            wait()
            seconds["forward"].append(middle - start)
            seconds["backward"].append(time.perf_counter() - middle)
    except RuntimeError as error:
        return {"refused": str(error)[:200]}
    return {name: min(values) for name, values in seconds.items()}
