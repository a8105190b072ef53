"""Chat formats of real model families around tokenizers of words or byte pairs: their marks, written anew."""

import inspect
from dataclasses import dataclass

import pytest
from support.bpe_tokenizers import bpe_tokenizer
from support.word_tokenizer import word_tokenizer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

# Up to 5.17, transformers hands `sanitize_control_tokens` to the template, which does nothing with it.
SANITIZES = "sanitize_control_tokens" in inspect.signature(PreTrainedTokenizerBase.apply_chat_template).parameters
needs_sanitizing = pytest.mark.skipif(not SANITIZES, reason="needs `apply_chat_template(sanitize_control_tokens=True)`")


@dataclass(frozen=True)
class ChatFormat:
    marks: tuple[str, ...]
    end_of_turn: str
    template: str


_CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
FORMATS = {
    "chatml": ChatFormat(("<|im_start|>", "<|im_end|>"), "<|im_end|>", _CHATML),
    # Without thinking, answers begin after an empty thinking part; history and training rows hold it too.
    "qwen3": ChatFormat(
        ("<|im_start|>", "<|im_end|>", "<think>", "</think>"),
        "<|im_end|>",
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
        "{% if m['role'] == 'assistant' and loop.last and not add_generation_prompt %}"
        "<think>\n\n</think>\n\n{% endif %}"
        "{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n"
        "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}",
    ),
    "llama3": ChatFormat(
        ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|begin_of_text|>"),
        "<|eot_id|>",
        "<|begin_of_text|>{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
        "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
        "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
    ),
    "mistral": ChatFormat(
        ("<s>", "</s>", "[INST]", "[/INST]"),
        "</s>",
        "<s>{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
        "{% else %} {{ m['content'] }}</s>{% endif %}{% endfor %}",
    ),
}


def chat_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """A word-level tokenizer with the marks of a chat format as special tokens."""
    chat = FORMATS[name]
    tokenizer = word_tokenizer(chat_template=chat.template)
    tokenizer.add_special_tokens({"additional_special_tokens": list(chat.marks)})
    return tokenizer


def chat_bpe_tokenizer(name: str, *, eos: str | None = None) -> PreTrainedTokenizerFast:
    """Byte pairs with the marks of a chat format: of every text, and of every family, as transformers reads it again.

    Args:
        name: of the format.
        eos: what ends a text; `None`: what ends a turn.
    """
    chat = FORMATS[name]
    marks = [*chat.marks, "<|endoftext|>"]  # transformers adds the last to every tokenizer beside a Qwen2 model
    return bpe_tokenizer("bytes", special=marks, chat_template=chat.template, bos=None, eos=eos or chat.end_of_turn)
