"""Byte pairs as the large model families have them, trained on a few sentences: byte-level and SentencePiece-like."""

import json
from collections.abc import Sequence
from functools import cache
from typing import Literal

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

Kind = Literal["bytes", "sentencepiece"]

_CORPUS = [
    "The night train changed very little before the market began. What did the harbour master say?",
    "user assistant system question answer context Question: Answer: The answer is Paris, France.\n\nThe end.",
    "Facts about people: Bob lives in Rome; Ann lives in Oslo.  Who lives in Rome? Bob. word1 word2 word3\n" * 3,
]


@cache
def _trained(kind: Kind) -> str:
    if kind == "bytes":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False)
    else:
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        tokenizer.decoder = decoders.Sequence(steps)
        # As SentencePiece does: no pair reaches across a word's beginning, and line breaks are bytes.
        tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
        known = ["<unk>", *(f"<0x{number:02X}>" for number in range(256))]
        trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=known, show_progress=False)
    tokenizer.train_from_iterator(_CORPUS if kind == "bytes" else " ".join(_CORPUS).split("\n"), trainer)
    if kind == "bytes":
        return tokenizer.to_str()
    state = json.loads(tokenizer.to_str())  # training marked the bytes as special, which they are not
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] == "<unk>"]
    return json.dumps(state | {"pre_tokenizer": None})


def bpe_tokenizer(
    kind: Kind,
    *,
    special: Sequence[str | AddedToken] = (),
    added: Sequence[str] = (),
    chat_template: str | None = None,
    bos: str | None = "<s>",
    eos: str = "</s>",
    adds_bos: bool = False,
) -> PreTrainedTokenizerFast:
    """A tokenizer with `special` tokens, and `added` ones that are not special."""
    tokenizer = Tokenizer.from_str(_trained(kind))
    ends = [token for token in (bos, eos) if token is not None]
    tokenizer.add_special_tokens([*ends, *special])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in added])
    if adds_bos:
        start = tokenizer.token_to_id(bos)
        tokenizer.post_processor = processors.TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, start)])
    unknown = {"unk_token": "<unk>"} if kind == "sentencepiece" else {}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=bos, eos_token=eos, **unknown)
    fast.chat_template = chat_template
    return fast
