"""What surrounds a step: the reference's pass, twice, and the data side's tokens per second."""

import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from benchmarks import ours
from benchmarks.setting import Setting, save_policy
from lightning.pytorch import LightningDataModule, Trainer
from tokenizers import ByteLevelBPETokenizer
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerFast

from data_modules import PreferenceDataModule
from data_modules.records import PreferencePair, write_pairs
from lit_longpo.batch import Group, PackedBatch, PreferenceBatch, Response
from lit_longpo.callbacks import ThroughputCallback
from lit_longpo.engine import pack
from lit_longpo.objectives import DPO
from lit_longpo.policy import PolicyConfig, PromptFormat, PromptTemplate, ReferenceConfig
from lit_longpo.policy.reference.cache import ReferenceCache

_ROWS, _PAIRS, _VOCABULARY = 4, 100, 8000


class DistinctRows(LightningDataModule):
    """A few rows that differ in their answers."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self.rows = [_row(setting, number) for number in range(_ROWS)]

    def train_dataloader(self) -> DataLoader:
        return DataLoader([PreferenceBatch(row, row) for row in self.rows], batch_size=None)

    def reference_dataloader(self) -> list[PackedBatch]:
        return self.rows


class SameWeightsDPO(DPO):
    """DPO with the same random weights in every run."""

    def configure_model(self) -> None:
        torch.manual_seed(0)
        super().configure_model()


def reference_cache(setting: Setting) -> dict[str, float]:
    """Seconds of the reference pass of two runs that share a cache, and log-probabilities that each computed."""
    made, stored = dict[str, float](), 0
    with tempfile.TemporaryDirectory() as folder:
        save_policy(setting, Path(folder))
        for name in ("first", "second"):
            trainer = _fit(setting, folder)
            made[f"{name}_seconds"] = float(trainer.callback_metrics["perf/reference_pass_seconds"])
            cache = ReferenceCache(next(Path(folder, "cache").iterdir()))
            cache.load()
            made[f"{name}_values"], stored = len(cache) - stored, len(cache)
    return made


def _fit(setting: Setting, folder: str) -> Trainer:
    module = SameWeightsDPO(
        policy=PolicyConfig(source=folder, weights="random"),
        reference=ReferenceConfig(cache_dir=str(Path(folder) / "cache")),
    )
    trainer = Trainer(
        accelerator="cpu",
        max_steps=1,
        callbacks=[ThroughputCallback(1)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(module, datamodule=DistinctRows(setting))
    return trainer


def _row(setting: Setting, number: int) -> PackedBatch:
    def response(role: str) -> Response:
        ids = setting.tokens(f"{role} {number}", setting.answers[0])
        return Response("chosen" if role == "chosen" else "rejected", ids, (True,) * len(ids))

    prompt = setting.tokens("long prompt", setting.prompt)
    return pack([Group(f"record-{number}", "long", prompt, (response("chosen"), response("rejected")))])


def data_speed(setting: Setting) -> dict[str, float]:
    """Tokens per second of reading, tokenising and packing pairs, and of the engine that trains on such rows."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pairs.jsonl"
        texts = made_up_texts(setting.prompt)
        write_pairs(path, (PreferencePair(f"p{n}", "Why?", "unused", *texts(n)) for n in range(_PAIRS)))
        tokenizer = byte_level_bpe([path.read_text()])
        used = time.process_time()
        data = data_of(path, tokenizer, val_fraction=0.0, max_tokens=2**20, max_examples=1)
        data.setup("fit")
        tokens = sum(batch.policy.num_tokens for batch in data.train_dataloader())
        used = time.process_time() - used
    engine = median(ours.run(setting)["cpu"])
    row = setting.prompt + sum(setting.answers)
    return {"data_tokens_per_second": tokens / used, "engine_tokens_per_second": row / engine}


def data_of(path: Path, tokenizer: PreTrainedTokenizerFast, **settings: Any) -> PreferenceDataModule:
    """A file of pairs as DPO reads it, without a chat template."""
    prompt_format = PromptFormat(tokenizer, PromptTemplate())
    return PreferenceDataModule(str(path), views=DPO().views, prompt_format=prompt_format, **settings)


def made_up_texts(num_words: int) -> Callable[[int], tuple[str, str, tuple[str]]]:
    """Context, chosen and rejected of a record, from made-up words."""
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9))) for _ in range(5000)]

    def made(number: int) -> tuple[str, str, tuple[str]]:
        draw = random.Random(number)
        context, chosen, rejected = (" ".join(draw.choices(words, k=k)) for k in (num_words, 48, 48))
        return context, chosen, (rejected,)

    return made


def byte_level_bpe(texts: list[str]) -> PreTrainedTokenizerFast:
    """A tokenizer of the kind that real models have."""
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(texts, vocab_size=_VOCABULARY, special_tokens=["<pad>", "<eos>"], show_progress=False)
    return PreTrainedTokenizerFast(tokenizer_object=trained._tokenizer, pad_token="<pad>", eos_token="<eos>")
