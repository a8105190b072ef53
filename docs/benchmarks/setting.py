"""What one side runs: sizes, objective and precision; the same object goes to every side."""

import argparse
import json
import random
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config

_SPECIAL = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>"}


@dataclass(frozen=True)
class Shape:
    """Sizes of a Qwen2-like decoder with random weights."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    vocab: int
    tied: bool = False

    @property
    def head_size(self) -> int:
        return self.hidden // self.heads

    def config(self) -> Qwen2Config:
        return Qwen2Config(
            vocab_size=self.vocab,
            hidden_size=self.hidden,
            intermediate_size=self.intermediate,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            max_position_embeddings=2**20,
            rope_theta=1e6,
            tie_word_embeddings=self.tied,
            layer_types=["full_attention"] * self.layers,
            pad_token_id=0,
            eos_token_id=1,
        )


SHAPES = {
    "smoke": Shape(layers=1, hidden=32, intermediate=64, heads=2, kv_heads=1, vocab=96),
    "toy": Shape(layers=2, hidden=32, intermediate=64, heads=2, kv_heads=1, vocab=96),
    "small": Shape(layers=4, hidden=256, intermediate=1024, heads=8, kv_heads=4, vocab=32000),
    "0.5b": Shape(layers=24, hidden=896, intermediate=4864, heads=14, kv_heads=2, vocab=151936, tied=True),
    "8b": Shape(layers=32, hidden=4096, intermediate=14336, heads=32, kv_heads=8, vocab=128256),
}


@dataclass(frozen=True)
class Setting:
    """One measurement.

    Responses 0 and 1 are the first pair, 2 and 3 the second, and so on; all follow one prompt. TRL gets
    that many rows of its own.

    Args:
        shape: name in `SHAPES`.
        objective: dpo, simpo, orpo, solopo (base dpo) or sft (the first response).
        prompt: tokens of the (long) prompt.
        short: tokens of SoLoPO's short prompt.
        answers: tokens of each response, end token included.
        checkpointing: recompute activations; "keep_attention" all others; "offload" also keeps layer inputs in
            host memory.
        dtype: weights, and so computation.
        layer_kernels: "liger" or "compile" (ours only); "own" is the model's code.
        lora: rank of adapters on every linear layer; 0 trains everything.
        separate: give every response its own copy of the prompt (ours only).
        steps: timed optimizer steps.
        warmup: steps before them.
        accelerator: "cpu" or "gpu".
    """

    shape: str = "small"
    objective: str = "dpo"
    prompt: int = 2000
    short: int = 0
    answers: tuple[int, ...] = (64, 64)
    checkpointing: bool | str = False
    dtype: str = "float32"
    layer_kernels: str = "own"
    lora: int = 0
    separate: bool = False
    steps: int = 3
    warmup: int = 1
    accelerator: str = "cpu"
    lr: float = 1e-4
    vocab: int = 0

    @property
    def sizes(self) -> Shape:
        """The shape, with another vocabulary if one is given."""
        shape = SHAPES[self.shape]
        return replace(shape, vocab=self.vocab) if self.vocab else shape

    @property
    def device(self) -> str:
        return "cuda" if self.accelerator == "gpu" else "cpu"

    @property
    def num_row_tokens(self) -> int:
        """Tokens of the rows that an implementation without prefix sharing computes; the work both sides do."""
        scored = self.answers[:1] if self.objective == "sft" else self.answers
        return len(scored) * self.prompt + sum(scored)

    def tokens(self, name: str, count: int) -> tuple[int, ...]:
        """`count` ordinary token ids, always the same for the same name."""
        draw = random.Random(name)
        return tuple(draw.randrange(3, self.sizes.vocab) for _ in range(count))

    def response(self, number: int) -> tuple[int, ...]:
        """Token ids of one response, end token included."""
        return (*self.tokens(f"answer {number}", self.answers[number] - 1), 1)

    def dumps(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, text: str) -> "Setting":
        values = json.loads(text)
        return cls(**{**values, "answers": tuple(values["answers"])})


def words(token_ids: tuple[int, ...]) -> str:
    """Text that `tokenizer` turns back into these ids."""
    return " ".join("<eos>" if token == 1 else f"t{token}" for token in token_ids)


def tokenizer(vocab: int) -> PreTrainedTokenizerFast:
    """One word, one id."""
    names = [*_SPECIAL.values(), *(f"t{number}" for number in range(3, vocab))]
    made = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=made, **_SPECIAL)


def save_policy(setting: Setting, folder: Path) -> None:
    """Configuration and tokenizer, no weights."""
    setting.sizes.config().save_pretrained(folder)
    tokenizer(setting.sizes.vocab).save_pretrained(folder)


def torch_dtype(setting: Setting) -> torch.dtype:
    dtype: torch.dtype = getattr(torch, setting.dtype)
    return dtype


def add_flags(parser: argparse.ArgumentParser) -> None:
    """A flag for every field of `Setting`."""
    for field in fields(Setting):
        name = f"--{field.name}"
        if isinstance(field.default, bool):
            parser.add_argument(name, action=argparse.BooleanOptionalAction, default=field.default)
        elif isinstance(field.default, tuple):
            parser.add_argument(name, type=int, nargs="+", default=field.default)
        else:
            parser.add_argument(name, type=type(field.default), default=field.default)


def from_flags(options: argparse.Namespace) -> Setting:
    """The setting that the flags of `add_flags` describe."""
    values: dict[str, Any] = {field.name: getattr(options, field.name) for field in fields(Setting)}
    return Setting(**{**values, "answers": tuple(values["answers"])})
