"""Memory over many steps, and rows of a million tokens on the data side: does anything grow that should not?

PYTHONPATH=docs python -m benchmarks.endurance soak --steps 2000     # a `fit` of the embedded model, some minutes
PYTHONPATH=docs python -m benchmarks.endurance rows --tokens 1000000  # tokenised and packed, no model
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.machine import describe
from benchmarks.upkeep import byte_level_bpe, made_up_texts
from lightning.pytorch import Callback, LightningModule, Trainer

import evaluation.callbacks  # noqa: F401  (recipes name them)
from data_modules import PreferenceDataModule
from data_modules.records import PreferencePair, write_pairs
from lit_longpo.callbacks.host_memory import resident_bytes
from lit_longpo.cli import LongPOCLI
from lit_longpo.objectives import DPO
from lit_longpo.policy import PromptFormat, PromptTemplate

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
        data = PreferenceDataModule(
            str(path),
            val_fraction=0.0,
            views=DPO().views,
            prompt_format=PromptFormat(tokenizer, PromptTemplate()),
            max_tokens=tokens + tokens // 8,
            max_examples=1,
        )
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


def main() -> None:
    """See the top of this module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("soak", "rows"))
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--tokens", type=int, default=1_000_000)
    flags = parser.parse_args()
    print(describe())
    print(soak(flags.steps) if flags.what == "soak" else rows(flags.tokens))


if __name__ == "__main__":
    main()
