"""Runs a real `fit` on the CPU and measures what its tensors took; also a program, which adds resident memory.

    python tests/support/measured_fit.py --tokens 2000 --hidden 256 --layers 4 [--vocab 8000]
        [--checkpointing [keep_attention]] [--lora] [--objective DPO] [--accumulate 2]

prints what `plan` predicts and what was measured, as JSON. Measured is the peak of the allocator's own
account (torch's profiler), so buffers inside kernels count.
"""

import argparse
import ctypes
import gc
import json
import resource
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import yaml
from support.command_line import build
from support.word_tokenizer import word_tokenizer
from torch._C._profiler import _ExtraFields_Allocation
from transformers import LlamaConfig

RESPONSE = 64
_LIBRARY = Path(torch.__file__).parent / "lib" / "libc10.so"
ZERO = "lit_longpo.strategies.AnyDeviceDeepSpeedStrategy"
BUCKETS = {"reduce_bucket_size": 1_000_000, "allgather_bucket_size": 1_000_000}  # not larger than these models
STRATEGIES = {
    "ddp": ("DDPStrategy", {}),
    "zero1": (ZERO, {"stage": 1, **BUCKETS}),
    "zero2": (ZERO, {"stage": 2, **BUCKETS}),
    "zero3": (ZERO, {"stage": 3, **BUCKETS}),
    "fsdp2": ("ModelParallelStrategy", {"data_parallel_size": 2, "tensor_parallel_size": 1}),
    "ulysses": ("lit_longpo.strategies.SequenceParallelDDPStrategy", {"sequence_parallel": 2}),
}


def write_case(
    folder: Path,
    *,
    tokens: int,
    hidden: int = 128,
    layers: int = 2,
    vocab: int = 2000,
    checkpointing: bool | str = False,
    lora: bool = False,
    objective: str = "SimPO",
    accumulate: int = 1,
    strategy: str | None = None,
) -> list[str]:
    """A random Llama with a word-level tokenizer, pairs of one length, and the command line that fits it.

    Two processes with a strategy, else one.
    """
    heads = hidden // 32
    sizes = {"hidden_size": hidden, "intermediate_size": 3 * hidden, "num_hidden_layers": layers, "vocab_size": vocab}
    heads_of = {"num_attention_heads": heads, "num_key_value_heads": heads // 2}
    config = LlamaConfig(**sizes, **heads_of, max_position_embeddings=8192)
    config.save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    prompt = tokens - 2 * RESPONSE
    answer, other = (" ".join([word] * (RESPONSE - 1)) for word in ("word1", "word4"))
    context = " ".join(["word2"] * (prompt - 2))  # with the question's word and the first token
    pair = {"question": "word3", "short_context": "word2", "long_context": context, "chosen": answer}
    pairs = [{"id": str(number), **pair, "rejected": [other]} for number in range(8 * accumulate)]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(record) + "\n" for record in pairs))
    settings = {
        "policy": {
            "source": str(folder),
            "weights": "random",
            "gradient_checkpointing": checkpointing,
            "lora": {"r": 8, "alpha": 16} if lora else None,
            "template": {"user": "{context} {question}", "chat": False},
        },
        "model": {"class_path": objective},
        "data": {
            "class_path": "PreferenceDataModule",
            "init_args": {"path": str(folder / "pairs.jsonl"), "val_fraction": 0.0, "max_tokens": tokens},
        },
        "trainer": {
            "accelerator": "cpu",
            "devices": 2 if strategy else 1,
            "max_steps": 3,
            "accumulate_grad_batches": accumulate,
            "gradient_clip_val": 1.0,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "default_root_dir": str(folder),
        },
    }
    if strategy:
        name, options = STRATEGIES[strategy]
        settings["trainer"]["strategy"] = {"class_path": name, "init_args": options}
    (folder / "case.yaml").write_text(yaml.safe_dump(settings))
    return ["--config", str(folder / "case.yaml")]


def plan_arguments(arguments: list[str]) -> list[str]:
    """What the plan cannot know from the configuration."""
    return [*arguments, "--response_tokens", str(RESPONSE), "--short_tokens", "3"]


def measured_in_ranks(arguments: list[str], tokens: int, out: Path) -> None:
    """The first rank writes its steps and its peak; a task for `run_ranks`."""
    cli = build(*arguments)
    peak = measured_peak(cli, tokens)
    if cli.trainer.is_global_zero:
        out.write_text(f"{cli.trainer.global_step} {peak}")


def measured_peak(cli, tokens: int) -> int:
    """Most bytes that torch's allocator has handed out inside `fit`, whose rows have to be as long as planned."""
    gc.collect()  # what a fit before this one has left would be given back inside, and taken off
    with (
        _counting_every_thread(),
        torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile,
    ):
        cli.trainer.fit(cli.model, cli.datamodule)
    assert set(cli.datamodule._encoded["train"].lengths) == {tokens}
    accounts = sorted(_allocations(profile))
    _, change, total = accounts[0]
    return max(total for *_, total in accounts) - (total - change)


@contextmanager
def _counting_every_thread() -> Iterator[None]:
    """The allocator counts in all threads, not only in those that are profiled.

    Who drops a message's tensors last, gloo's thread or the one that waited for it, is a race. Without this what gloo's
    threads free is never taken off: peaks of one training differed by a quarter, and grew with each step of ZeRO-3.
    """
    flag = ctypes.c_bool.in_dll(ctypes.CDLL(str(_LIBRARY)), "FLAGS_caffe2_report_cpu_memory_usage")
    flag.value = True
    try:
        yield
    finally:
        flag.value = False


def _allocations(profile) -> Iterator[tuple[int, int, int]]:
    """When memory was asked for or given back, how much, and the allocator's account after it."""
    events = list(profile.profiler.kineto_results.experimental_event_tree())
    while events:
        event = events.pop()
        events += event.children
        if isinstance(event.extra_fields, _ExtraFields_Allocation):
            yield event.start_time_ns, event.extra_fields.alloc_size, event.extra_fields.total_allocated


def _resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    from lit_longpo.planning.command import plan_for

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--vocab", type=int, default=8000)
    parser.add_argument("--checkpointing", nargs="?", const=True, default=False)
    parser.add_argument("--lora", action="store_true")
    parser.add_argument("--objective", default="SimPO")
    parser.add_argument("--accumulate", type=int, default=1)
    options = vars(parser.parse_args())
    with tempfile.TemporaryDirectory() as folder:
        arguments = write_case(Path(folder), **options)
        made = plan_for(plan_arguments(arguments))
        cli = build(*arguments)
        before = _resident()
        measured = measured_peak(cli, options["tokens"])
        resident = _resident() - before  # with the profiler's own records
    predicted = made.memory[made.mode].peak
    sizes = {"predicted": predicted, "measured": measured, "resident": resident}
    result = {**{f"{name}_mib": size / 2**20 for name, size in sizes.items()}, "ratio": predicted / measured}
    print(json.dumps({**options, "when": made.memory[made.mode].when, **result}))  # noqa: T201


if __name__ == "__main__":
    main()
