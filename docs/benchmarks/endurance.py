"""Memory over many steps, rows of a million tokens and files of a million pairs: does anything grow that should not?

PYTHONPATH=docs python -m benchmarks.endurance soak --steps 2000     # a `fit` of the embedded model, some minutes
PYTHONPATH=docs python -m benchmarks.endurance rows --tokens 1000000  # tokenised and packed, no model
PYTHONPATH=docs python -m benchmarks.endurance pairs --pairs 1000000  # tiny ones, read, tokenised, packed; no model
"""

import argparse
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.machine import describe
from benchmarks.upkeep import byte_level_bpe, data_of, made_up_texts
from lightning.pytorch import Callback, LightningModule, Trainer

import evaluation.callbacks  # noqa: F401  (recipes name them)
from data_modules.records import PreferencePair, write_pairs
from lit_longpo.callbacks.host_memory import resident_bytes
from lit_longpo.cli import LongPOCLI

_EVERY = 50  # steps between two looks at memory


def resident() -> float:
    """MiB of this process that lie in memory."""
    return (resident_bytes() or 0) / 2**20


class Memory(Callback):
    """Resident MiB every few steps."""

    def __init__(self) -> None:
        self.seen = list[float]()

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        """Look."""
        if trainer.global_step % _EVERY == 0:
            self.seen.append(resident())


def soak(steps: int) -> dict[str, Any]:
    """Resident memory over the steps of `configs/solopo.yaml`, without its benchmarks.

    Returns:
        MiB of each tenth of the run, its median; the growth from the second tenth to the last, in MiB.
    """
    memory = Memory()
    with tempfile.TemporaryDirectory() as folder:
        words = ["--config", "solopo", f"--trainer.max_steps={steps}", "--trainer.callbacks=[]"]
        words += ["--trainer.logger=false", "--trainer.enable_progress_bar=false", "--trainer.limit_val_batches=1"]
        words += [f"--trainer.default_root_dir={folder}", "--trainer.accelerator=cpu"]
        cli = LongPOCLI(args=words, run=False)
        cli.trainer.callbacks.append(memory)
        cli.trainer.fit(cli.model, datamodule=cli.datamodule)
    tenth = max(1, len(memory.seen) // 10)
    parts = [median(memory.seen[start : start + tenth]) for start in range(0, len(memory.seen), tenth)]
    return {"steps": steps, "MiB": [round(part) for part in parts], "grown": round(parts[-1] - parts[1], 1)}


def rows(tokens: int, count: int = 4) -> dict[str, Any]:
    """Seconds a row and resident memory for pairs whose contexts have so many tokens."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pairs.jsonl"
        tokenizer = byte_level_bpe([" ".join(made_up_texts(20000)(0)[:2])])
        per_word = len(tokenizer(made_up_texts(20000)(1)[0])["input_ids"]) / 20000
        texts = made_up_texts(int(tokens / per_word))
        write_pairs(path, (PreferencePair(f"p{n}", "Why?", "unused", *texts(n)) for n in range(count)))
        before, start = resident(), time.perf_counter()
        data = data_of(path, tokenizer, val_fraction=0.0, max_tokens=tokens + tokens // 8, max_examples=1)
        data.setup("fit")
        encoded = time.perf_counter() - start
        seen, lengths = list[float](), list[int]()
        start = time.perf_counter()
        for batch in data.train_dataloader():
            lengths.append(batch.policy.num_tokens)
            seen.append(round(resident() - before))
        packed = time.perf_counter() - start
    return {
        "tokens": lengths,
        "seconds a row to tokenise": round(encoded / count, 2),
        "to pack": round(packed / count, 2),
        "MiB more": seen,
    }


def made_up_pairs(count: int) -> Iterator[PreferencePair]:
    """Pairs of a few words each, every one with a context of its own."""
    for number in range(count):
        context = f"Box {number} holds a {number % 97} and a {number % 89}."
        question = f"What is in box {number}?"
        yield PreferencePair(f"p{number}", question, context, f"Once. {context} Later.", f"{number % 97}", ("none",))


def pairs(count: int, suffix: str) -> dict[str, Any]:
    """Seconds and resident memory from a file of so many pairs to the last packed row of an epoch, as `fit` reads it.

    Returns:
        Seconds of this process on a CPU, MiB more than before at the highest point of each phase, and the MiB of the
        store of tokens.
    """
    with tempfile.TemporaryDirectory() as folder:
        path, store = Path(folder) / f"pairs{suffix}", Path(folder) / "tokens"
        write_pairs(path.with_suffix(".jsonl"), made_up_pairs(count))
        if suffix == ".parquet":
            from pyarrow import json as arrow_json
            from pyarrow import parquet

            parquet.write_table(arrow_json.read_json(path.with_suffix(".jsonl")), path)
        tokenizer = byte_level_bpe([" ".join(made_up_texts(2000)(0)[:2])])
        data = data_of(path, tokenizer, val_fraction=0.01, max_tokens=4096, token_cache=str(store))
        before, phases = resident(), dict[str, tuple[float, float]]()
        with Highest() as highest:
            start = time.process_time()
            data.setup("fit")
            phases["tokenised"] = time.process_time() - start, highest.taken() - before
            start = time.process_time()
            loaded = sum(len(batch.policy.examples) for batch in data.train_dataloader())
            phases["packed"] = time.process_time() - start, highest.taken() - before
        size = sum(file.stat().st_size for file in store.rglob("*") if file.is_file()) / 2**20
    seconds = {name: round(value[0], 1) for name, value in phases.items()}
    more = {name: round(value[1]) for name, value in phases.items()}
    return {"pairs": loaded, "file": suffix, "CPU seconds": seconds, "MiB more": more, "MiB of tokens": round(size)}


class Highest:
    """The highest resident memory, looked at ten times a second."""

    def __enter__(self) -> "Highest":
        self._most, self._end = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def taken(self) -> float:
        """MiB since the last call."""
        most, self._most = max(self._most, resident()), 0.0
        return most

    def _look(self) -> None:
        while not self._end.wait(0.1):
            self._most = max(self._most, resident())


def main() -> None:
    """See the top of this module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("soak", "rows", "pairs"))
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--suffix", default=".jsonl", choices=(".jsonl", ".parquet"))
    flags = parser.parse_args()
    print(describe())
    measured: dict[str, Callable[[], dict[str, Any]]] = {
        "soak": lambda: soak(flags.steps),
        "rows": lambda: rows(flags.tokens),
        "pairs": lambda: pairs(flags.pairs, flags.suffix),
    }
    print(measured[flags.what]())


if __name__ == "__main__":
    main()
