import json
import random

import pytest
import torch
from peft import LoraConfig, get_peft_model
from support.bpe_tokenizers import bpe_tokenizer
from support.tiny_models import tiny_model

from lit_longpo.policy import LoRA, PolicyConfig, PromptFormat, PromptTemplate
from lit_longpo.policy.fingerprint import checksums, model_fingerprint, tokens_hash


def test_one_changed_embedding_element_is_noticed_in_a_hundred_of_a_hundred_tries():
    model = tiny_model("Llama", vocab_size=20_000)
    weight, draw = model.model.embed_tokens.weight, random.Random(0)
    before = model_fingerprint(model)
    for _ in range(100):
        row, column = draw.randrange(20_000), draw.randrange(32)
        with torch.no_grad():
            kept = weight[row, column].clone()
            weight[row, column] = torch.nextafter(kept, kept + 1)  # the smallest change there is
        assert model_fingerprint(model) != before
        with torch.no_grad():
            weight[row, column] = kept
    assert model_fingerprint(model) == before


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_places_count(dtype):
    tensor = torch.randn(1_500, 1_001).to(dtype)
    rows = tensor.clone()
    rows[[3, 1_400]] = rows[[1_400, 3]]
    assert checksums(rows) != checksums(tensor)
    assert checksums(tensor.T.contiguous()) != checksums(tensor)
    last = tensor.clone()
    last[-1, -1] = -last[-1, -1]
    assert checksums(last) != checksums(tensor)
    assert checksums(tensor.T.contiguous().T) == checksums(tensor)


def test_every_length_and_offset_is_read_whole():
    data = torch.randn(100).bfloat16()
    for first in range(3):
        for length in range(1, 9):
            part = data[first : first + length]
            assert checksums(part) == checksums(part.clone())
            other = part.clone()
            other[-1] += 1
            assert checksums(other) != checksums(part)


def test_sums_are_those_of_exact_integers():
    """The definition, in Python's integers."""
    tensor = torch.randn(1_000)
    words = tensor.view(torch.int32).tolist()
    factors = []
    for place in range(1_000):
        mixed = place * 0x9E3779B1 & 0xFFFFFFFF
        mixed = (mixed ^ mixed >> 15) * 0x85EBCA6B & 0xFFFFFFFF
        factors.append(mixed ^ mixed >> 13 | 1)
    signed = [(word * factor + 2**31) % 2**32 - 2**31 for word, factor in zip(words, factors, strict=True)]
    assert checksums(tensor) == [sum(signed)]
    assert checksums(torch.empty(0)) in ([], [0])


@pytest.mark.gpu
def test_a_gpu_gives_the_same_sums():
    tensor = torch.randn(3_000_001).bfloat16()
    assert checksums(tensor.cuda()) == checksums(tensor)


def test_adapters_that_training_starts_with_count_and_new_ones_do_not(policy_folder, tmp_path):
    base = model_fingerprint(PolicyConfig(source=str(policy_folder)).load())
    assert model_fingerprint(PolicyConfig(source=str(policy_folder), lora=LoRA(r=2)).load()) == base
    seen = {base}
    for seed, alpha in ((1, 8), (2, 8), (2, 9)):
        base_model = tiny_model("Llama")  # seeds, too
        torch.manual_seed(seed)
        model = get_peft_model(base_model, LoraConfig(r=2, lora_alpha=alpha, init_lora_weights=False))
        model.base_model.name_or_path = str(policy_folder)
        model.peft_config["default"].base_model_name_or_path = str(policy_folder)
        model.save_pretrained(tmp_path / f"{seed}-{alpha}")
        for read in ("load", "load_base"):
            fingerprint = model_fingerprint(getattr(PolicyConfig(source=str(tmp_path / f"{seed}-{alpha}")), read)())
            seen.add(fingerprint)
    assert len(seen) == 4  # the base, and each folder however it is read


def test_buffers_that_are_weights_count():
    model = tiny_model("DeepseekV3")
    before = model_fingerprint(model)
    model.model.layers[1].mlp.gate.e_score_correction_bias += 1.0
    assert model_fingerprint(model) != before


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
