"""A first look at a GPU in minutes: tests, parity of model families, speed, memory against the plan, the commands.

    PYTHONPATH=.:docs:tests python -m benchmarks.device --out runs/device --limit 240
    PYTHONPATH=.:docs:tests python -m benchmarks.device --only 'longest*' --limit 400
    PYTHONPATH=.:docs:tests python -m benchmarks.device --smoke              # toy sizes on a CPU
    PYTHONPATH=.:docs:tests python -m benchmarks.device --list

First what needs no idle GPU runs side by side, then measurements one after another, the most telling first, for as
long as the limit allows. Each is a process of its own with a limit of its own. Results: `device.json`, a table at the
end, logs beside it.
"""

import argparse
import fnmatch
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from benchmarks.device_measures import find_longest, measure_step, profile_step, time_kernels
from benchmarks.jobs import Job, Jobs, run_command
from benchmarks.machine import describe
from benchmarks.predicted import predict
from benchmarks.setting import SHAPES, Setting
from benchmarks.twins import TWINS
from benchmarks.twins import measure as measure_twin

ROOT = Path(__file__).resolve().parents[2]
HYBRIDS = ("Qwen3_5Text",)  # those that flash-linear-attention serves


def main(flags: list[str] | None = None) -> None:
    options = _options(flags)
    beside, alone = list(_beside(options)), list(_alone(options))
    wanted = [job for job in (*beside, *alone) if any(fnmatch.fnmatch(job.name, p) for p in options.only)]
    if options.list:
        print("\n".join(f"{job.name} (at most {job.limit:.0f} s)" for job in wanted))
        return
    options.out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    jobs = Jobs(options.out, began + options.limit)
    jobs.together([Job("machine", look, (options.device,), 40)])
    if jobs.results["machine"]["status"] != "ok":
        jobs.start = "spawn"  # the parent has touched the GPU after all
        jobs.together([Job("machine", look, (options.device,), 60)])
    jobs.together([job for job in beside if job in wanted], options.width, began + options.beside)
    jobs.together([job for job in alone if job in wanted])
    table = summary(jobs.results)
    (options.out / "table.txt").write_text(table)
    print(f"{table}\n{time.monotonic() - began:.0f} s", flush=True)


def look(device: str) -> dict[str, Any]:
    """What this is, and which kernels serve."""
    from lit_longpo.engine.backends.flash import find_kernel

    total = float(torch.ones(8, device=device).sum())
    names = {str(extra): find_kernel(device, torch.bfloat16, extra) for extra in (None, "sinks", "softcap")}
    memory = torch.cuda.mem_get_info() if device == "cuda" else (0, 0)
    kernels = {extra: kernel and kernel.name for extra, kernel in names.items()}
    sdpa = {name: getattr(torch.backends.cuda, f"{name}_sdp_enabled")() for name in ("flash", "cudnn", "mem_efficient")}
    return {**describe(), "sum": total, "memory_gib": [size / 2**30 for size in memory], "kernels": kernels, **sdpa}


def _beside(options: argparse.Namespace) -> Iterator[Job]:
    """What may run beside other things: nothing here is timed."""
    python = [sys.executable, "-m"]
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": paths, "PYTHONUNBUFFERED": "1"}

    def command(name: str, words: list[str], limit: float, log: str) -> Job:
        return Job(name, run_command, ([*python, *words], str(ROOT), environment), limit, log)

    flags = ["-p", "no:cacheprovider", "-rfEs", "--tb=long"]
    yield command("tests gpu", ["pytest", "-m", "gpu", "-vv", *flags, *_gpu_tests()], options.beside, "tests_gpu.log")
    folders = ["tests/lit_longpo/engine", "tests/lit_longpo/policy"] if not options.smoke else ["tests/docs"]
    words = ["pytest", "-v", "--tb=short", "-n", str(options.workers), *flags[:3], *folders]
    yield command("tests cpu", words, options.beside, "tests_cpu.log")
    yield Job("command fit", _fit, (options, environment), options.beside, "commands.log")
    for name in options.twins:
        yield Job(f"parity {name}", measure_twin, (name, options.device), 60, "parity.log")
        if name in HYBRIDS:
            yield Job(f"parity {name} without fla", measure_twin, (name, options.device, ("fla",)), 60, "parity.log")
    planned = (setting for _, setting in _settings(options) if setting.layer_kernels == "own")
    for name, setting in {_name(setting): setting for setting in planned}.items():
        yield Job(f"plan {name}", predict, (setting, options.device_gib), 60, "plans.log")


def _gpu_tests() -> list[str]:
    """Files with tests for a GPU."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [str(path.relative_to(ROOT)) for path in files if "pytest.mark.gpu" in path.read_text()]


def _fit(options: argparse.Namespace, environment: dict[str, str]) -> None:
    """Some steps of the demo as a user types it, then questions to what it saved."""
    trainer = "configs/trainer/smoke.yaml" if options.smoke else "configs/trainer/gpu.yaml"
    run = tempfile.mkdtemp()
    fit = [
        *("fit --config configs/solopo.yaml --trainer", trainer, f"--trainer.max_steps {options.fit_steps}"),
        f"--policy.dtype {options.dtype} --trainer.accelerator {options.accelerator} --trainer.logger CSVLogger",
        f"--trainer.logger.save_dir {run} --trainer.default_root_dir {run} --data.num_train 1600",
        "--trainer.callbacks+=SavePretrained",
    ]
    find = f"$(dirname $(find {run} -name config.json | head -1))"
    evaluate = (
        f"evaluate --config configs/eval/needle.yaml --model {find} --limit 20 --accelerator {options.accelerator} "
        f"--benchmark.haystack data_modules.WorldHaystack --benchmark.lengths [64] --benchmark.tasks [needle] "
        f"--output {run}/needle"
    )
    python = f"{sys.executable} -m lit_longpo"
    show = f"find {run} -name metrics.csv -exec head -30 {{}} +"
    script = f"set -x; time {python} {' '.join(fit)}; code=$?; {show}; time {python} {evaluate} || code=2; exit $code"
    run_command(["bash", "-c", script], str(ROOT), environment)


def _settings(options: argparse.Namespace) -> Iterator[tuple[tuple[str, ...], Setting]]:
    """Sides and settings of measurements, the most telling first."""
    both = ("ours", "trl")
    small, large = options.shapes
    short, *_, long = options.prompts
    for prompt in options.prompts:
        yield both, _setting(options, small, "full", prompt)
    for prompt in (long, short):
        yield both, _setting(options, large, "lora", prompt, checkpointing=True, steps=1 if prompt == long else 2)
        yield both, _setting(options, small, "lora", prompt)
    yield both, _setting(options, small, "full", short, answers=(options.answer,) * 4)
    for name in options.layer_kernels:
        for shape, training in ((small, "full"), (large, "lora")):
            kernels = {"layer_kernels": name, "checkpointing": shape == large, "warmup": 3}
            yield ("ours",), _setting(options, shape, training, short, **kernels)
    yield ("ours",), _setting(options, large, "lora", long, checkpointing="offload", steps=1)


def _setting(options: argparse.Namespace, shape: str, training: str, prompt: int, **other: Any) -> Setting:
    """A pair's step, recomputed where rows are long."""
    made = Setting(
        shape=shape,
        prompt=prompt,
        answers=(options.answer,) * 2,
        dtype=options.dtype,
        lora=16 if training == "lora" else 0,
        steps=options.steps,
        warmup=1,
        accelerator=options.accelerator,
        lr=1e-6,
    )
    return replace(made, **{"checkpointing": prompt >= options.recomputed, **other})


def _name(setting: Setting) -> str:
    how = {False: "", True: " recomputed", "offload": " offload"}[setting.checkpointing]
    more = f" k {len(setting.answers)}" if len(setting.answers) > 2 else ""
    more += f" {setting.layer_kernels}" if setting.layer_kernels != "own" else ""
    return f"{setting.shape} {'lora' if setting.lora else 'full'} {setting.prompt}{how}{more}"


def _alone(options: argparse.Namespace) -> Iterator[Job]:
    """What needs the GPU for itself."""
    short, *_, long = options.prompts
    yield Job("kernels", time_kernels, (options.device, long, options.dtype), 30)
    for sides, setting in _settings(options):
        for side in sides:
            limit = 40.0 if setting.shape == options.shapes[0] and setting.layer_kernels == "own" else 90.0
            yield Job(f"speed {_name(setting)} {side}", measure_step, (setting, side), limit)
    for training, prompt in (("full", short), ("full", long), ("lora", long)):
        setting = _setting(options, options.shapes[0], training, prompt)
        yield Job(f"profile {_name(setting)}", profile_step, (replace(setting, steps=1),), 90)
    for checkpointing in (True, "offload"):
        setting = _setting(options, options.shapes[1], "lora", long, checkpointing=checkpointing)
        longest = replace(setting, steps=1, warmup=0)
        arguments = (longest, options.cap_gib, options.factors)
        yield Job(f"longest {checkpointing}", find_longest, arguments, options.longest_limit)


def summary(results: dict[str, Any]) -> str:
    """A short table of everything."""
    lines = [f"{name:44} {result['status']:12} {_line(name, results)}" for name, result in results.items()]
    return "\n".join(lines) + "\n"


def _line(name: str, results: dict[str, Any]) -> str:
    result = results[name]
    if "error" in result:
        return str(result["error"])[:160]
    if "seconds" in result:
        return _speed_line(name, results)
    if name.startswith("plan ") and "peak_gib" in result:
        return f"{result['mode']} {result['peak_gib']:.2f} GiB at {result['when']}, longest {result['longest_prompt']}"
    if name.startswith("parity ") and "decided" in result:
        ways = [way for way in ("separate", "sdpa", "flash", "auto") if "values" in result[way]]
        errors = " ".join(f"{way} {result[way]['values']:.1e}/{result[way]['gradient']:.1e}" for way in ways)
        return f"{result['decided'].get('path', 'refused')} {errors} {result['gradient_checks'] or ''}"
    return f"{result.get('took', 0):.0f} s"


def _speed_line(name: str, results: dict[str, Any]) -> str:
    result = results[name]
    setting, _, side = name.removeprefix("speed ").rpartition(" ")
    mfu = f"{result['mfu']:.0%}" if result["mfu"] else "-"
    words = [f"{result['seconds']:.3f} s/step, MFU {mfu}, peak {result['peak_gib']:.2f} GiB"]
    other = results.get(f"speed {setting} ours", {})
    if side == "trl" and "seconds" in other:
        words.append(f"ours / TRL: time {other['seconds'] / result['seconds']:.2f}")
        words.append(f"memory {other['peak_gib'] / result['peak_gib']:.2f}")
    plan = results.get(f"plan {setting}", {})
    if side == "ours" and "peak_gib" in plan:
        words.append(f"plan / measured {plan['peak_gib'] / result['peak_gib']:.3f}")
    return ", ".join(words)


def _options(flags: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=_FIRST, help="names as --list shows them, with wildcards")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--limit", type=float, default=240.0, help="seconds in all")
    parser.add_argument("--beside", type=float, default=80.0, help="seconds for what runs side by side")
    parser.add_argument("--width", type=int, default=8, help="processes side by side")
    parser.add_argument("--workers", type=int, default=8, help="of the tests on CPUs")
    parser.add_argument("--shapes", nargs=2, choices=SHAPES, default=["0.5b", "8b"], help="a small one, a large one")
    ways = "two or more; the first and the last are measured in more ways"
    parser.add_argument("--prompts", type=int, nargs="+", default=[8192, 4096, 16384, 32768], help=ways)
    parser.add_argument("--cap-gib", type=float, default=30.0, help="memory that the longest prompt is sought in")
    parser.add_argument("--factors", type=float, nargs="+", default=[1.0, 1.1, 1.2], help="of the longest by plan")
    parser.add_argument("--longest-limit", type=float, default=200.0, help="seconds")
    parser.add_argument("--smoke", action="store_true", help="the same code on a CPU at toy sizes")
    parser.add_argument("--out", type=Path, default=Path("runs/device"))
    parser.set_defaults(device="cuda", accelerator="gpu", dtype="bfloat16", twins=list(TWINS))
    parser.set_defaults(answer=512, steps=4, device_gib=78.0, fit_steps=20)
    parser.set_defaults(layer_kernels=("liger", "compile"), recomputed=16384)
    options = parser.parse_args(flags)
    if options.smoke:
        parser.set_defaults(**_SMOKE)
        options = parser.parse_args(flags)
    if len(options.prompts) < 2:
        parser.error("expected a short and a long prompt, got one; type for example --prompts 4096 32768")
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"  # asking for a GPU must not touch it before the forks
    os.environ["HF_HUB_OFFLINE"] = "1"
    return options


_FIRST = ["tests*", "command*", "parity*", "plan*", "kernels", "speed*"]  # the others take minutes
_SMOKE: dict[str, Any] = {
    "device": "cpu",
    "accelerator": "cpu",
    "twins": ["Llama", "Qwen3_5Text"],
    "shapes": ("toy", "toy"),
    "dtype": "float32",
    "prompts": (48, 96),
    "layer_kernels": ("compile",),
    "recomputed": 96,
    "answer": 6,
    "cap_gib": 0.002,
    "workers": 1,
    "width": 2,
    "fit_steps": 2,
}

if __name__ == "__main__":
    main()
