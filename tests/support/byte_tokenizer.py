"""A tokenizer of single bytes for tests: every text comes back unchanged, and lengths are known."""

from pathlib import Path

import torch
from support.tiny_models import tiny_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

BOS, EOS, END_OF_TURN = "<bos>", "<eos>", "<end>"
CHAT = (
    "<bos>{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}<end>{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


def byte_tokenizer(*, chat_template: str | None = None) -> PreTrainedTokenizerFast:
    special = [BOS, EOS, END_OF_TURN]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({piece: number for number, piece in enumerate([*special, *alphabet])}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, 0)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, extra_special_tokens=[END_OF_TURN]
    )
    fast.chat_template = chat_template
    return fast


def byte_model(
    folder: Path, *, chat_template: str | None = None, dtype: torch.dtype = torch.float32, **settings: object
) -> Path:
    """The folder, with a tiny random Llama and its tokenizer of bytes in it."""
    tiny_model("Llama", vocab_size=260, **settings).to(dtype).save_pretrained(folder)
    byte_tokenizer(chat_template=chat_template).save_pretrained(folder)
    return folder
