"""A frozen head that cannot tell the end of an answer from other tokens is told at the start (QwenLM/Qwen3#1064)."""

import pytest
import torch
from support.bpe_tokenizers import bpe_tokenizer
from support.chat_formats import FORMATS
from support.tiny_models import tiny_model

from lit_longpo.policy import LoRA, PolicyConfig
from lit_longpo.policy.weights.untrained_end import rows_like, warn_of_untrained_end

_SAID = "frozen and cannot tell '<|im_end|>', which ends answers, from '<|im_start|>' (2 tokens have one row"


@pytest.fixture(scope="module", params=["tied", "untied"])
def base(request, tmp_path_factory):
    """As Qwen's base models: the marks of its chats have one row."""
    folder, chat = tmp_path_factory.mktemp("base"), FORMATS["chatml"]
    tokenizer = bpe_tokenizer("bytes", special=chat.marks, chat_template=chat.template, bos=None, eos="<|im_end|>")
    tokenizer.save_pretrained(folder)
    model = tiny_model("Llama", vocab_size=600, tie_word_embeddings=request.param == "tied")
    start, end = tokenizer.convert_tokens_to_ids(list(chat.marks))
    with torch.no_grad():
        model.lm_head.weight[start] = 1.001 * model.lm_head.weight[end]
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"lora": LoRA(r=2)}, "type --policy.lora.also_train '[embed_tokens, lm_head]'"),
        ({"freeze": ["lm_head", "embed_tokens"]}, "train embed_tokens, lm_head, too (`policy.freeze`"),
        ({"lora": LoRA(r=2, also_train=["embed_tokens", "lm_head"])}, None),
        ({}, None),  # rows move apart
    ],
)
def test_an_end_that_is_like_other_tokens_is_told_where_the_head_is_frozen(options, told, base, caplog):
    policy = PolicyConfig(source=str(base), **options)
    caplog.clear()
    warn_of_untrained_end(policy.load(), policy.prompt_format())
    assert (_SAID in caplog.text) is (told is not None)
    assert told is None or told in caplog.text
    assert ("policy.lora" in caplog.text) is ("lora" in options and told is not None)


def test_rows_that_training_has_moved_are_not_alike():
    weight = torch.randn(300, 80)
    assert rows_like(weight, 5) == []
    weight[[7, 9]] = weight[5].clone()
    weight[9, 70] += 3  # behind the numbers that are compared first
    assert rows_like(weight, 5) == [7]
    assert rows_like(torch.zeros(3, 80), 1) == [0, 2]
