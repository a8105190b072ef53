"""A word-level tokenizer for tests: known words get ids, unknown ones <unk>."""

from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

WORDS = [f"word{number}" for number in range(80)]
_SPECIAL = ["<pad>", "<bos>", "<eos>", "<unk>"]


def word_tokenizer(
    words: list[str] = WORDS, *, chat_template: str | None = None, adds_bos: bool = True
) -> PreTrainedTokenizerFast:
    marks = ["Question", "Answer", ":", ".", "?"]
    vocab = {word: number for number, word in enumerate([*_SPECIAL, *marks, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if adds_bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    special = dict(zip(("pad_token", "bos_token", "eos_token", "unk_token"), _SPECIAL, strict=True))
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
    fast.chat_template = chat_template
    return fast
