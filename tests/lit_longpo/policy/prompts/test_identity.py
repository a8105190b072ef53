"""When are prompts made of other tokens?"""

import json

from support.bpe_tokenizers import bpe_tokenizer

from lit_longpo.policy import PromptFormat, PromptTemplate
from lit_longpo.policy.prompts.identity import tokens_hash


def hash_of(tokenizer):
    return tokens_hash(PromptFormat(tokenizer, PromptTemplate(chat=False)))


def test_the_hash_is_of_the_tokens_and_of_nothing_else(tmp_path):
    tokenizer = bpe_tokenizer("bytes")
    plain = hash_of(tokenizer)
    tokenizer.save_pretrained(tmp_path)
    assert hash_of(type(tokenizer).from_pretrained(tmp_path)) == plain
    others = [bpe_tokenizer("bytes", adds_bos=True), bpe_tokenizer("sentencepiece"), bpe_tokenizer("bytes")]
    others[2].eos_token = "<s>"
    assert len({plain, *map(hash_of, others)}) == 4


def test_a_changed_rule_is_another_hash(tmp_path):
    tokenizer = bpe_tokenizer("bytes")
    tokenizer.save_pretrained(tmp_path)
    rules = json.loads((tmp_path / "tokenizer.json").read_text())
    rules["pre_tokenizer"]["add_prefix_space"] = True
    (tmp_path / "tokenizer.json").write_text(json.dumps(rules))
    assert hash_of(type(tokenizer).from_pretrained(tmp_path)) != hash_of(tokenizer)
