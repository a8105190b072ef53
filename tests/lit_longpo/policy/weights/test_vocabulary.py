"""New tokens: their rows, what a run makes of them, and what plain transformers reads afterwards."""

import importlib.util

import pytest
import torch
from peft import AutoPeftModelForCausalLM, LoraConfig, get_peft_model
from support.small_fit import fit, model_of
from support.tiny_models import tiny_config, tiny_model
from support.word_tokenizer import word_tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from lit_longpo.batch import Group, Response
from lit_longpo.engine import base_model, check_model, generation_mode, pack, score
from lit_longpo.objectives import DPO
from lit_longpo.planning.inputs.architecture import find_config
from lit_longpo.policy import LoRA, PolicyConfig, PromptTemplate, ReferenceConfig
from lit_longpo.policy.fingerprint import model_fingerprint
from lit_longpo.policy.trainable import training_problem
from lit_longpo.policy.weights.vocabulary import check_vocabulary

NEW = {"added_tokens": ["<fact>"], "added_special_tokens": ["<cite>"]}
ENDS = ["embed_tokens", "lm_head"]


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """The tokenizer fills every row, but for one model that has four more."""
    tokenizer, root = word_tokenizer(), tmp_path_factory.mktemp("bases")
    for kind in ("tied", "untied", "padded"):
        rows = max(tokenizer.get_vocab().values()) + 1 + 4 * (kind == "padded")
        tiny_model("Qwen2", vocab_size=rows, tie_word_embeddings=kind == "tied").save_pretrained(root / kind)
        tokenizer.save_pretrained(root / kind)
    return root


@pytest.fixture(params=["tied", "untied", "padded"])
def base(request, bases):
    return bases / request.param


def policy(folder, **options):
    return PolicyConfig(**{"source": str(folder), **NEW, **options})


def row_of(ids):
    return pack([Group("record", "long", (5, 6, 7, ids[0]), (Response("chosen", ids, (True,) * len(ids)),))])


def sizes(folder):
    """Tokens of the tokenizer, and rows of the model."""
    return len(AutoTokenizer.from_pretrained(folder)), AutoConfig.from_pretrained(folder).vocab_size


def test_new_rows_are_the_mean_of_the_old_and_nothing_else_changes(base):
    known, rows = sizes(base)
    before = AutoModelForCausalLM.from_pretrained(base)
    model = policy(base).load()
    assert policy(base).new_tokens() == {"<fact>": known, "<cite>": known + 1}
    assert model.config.vocab_size == max(rows, known + 2)
    for old, new in (
        (before.get_input_embeddings().weight, model.get_input_embeddings().weight),
        (before.get_output_embeddings().weight, model.get_output_embeddings().weight),
    ):
        torch.testing.assert_close(new[:known], old[:known], rtol=0, atol=0)
        torch.testing.assert_close(new[known : known + 2], old[:known].mean(0).expand(2, -1))
        assert len(new) == max(rows, known + 2)
    tied = before.get_output_embeddings().weight is before.get_input_embeddings().weight
    assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) == tied
    check_model(model)


def test_policy_and_reference_start_alike_and_know_their_key(base):
    start, again = policy(base).load(), policy(base).load_base()
    ids = tuple(policy(base).new_tokens().values())
    ours, reference = (score(model.eval(), row_of(ids)).sums for model in (start, again))
    torch.testing.assert_close(ours, reference, rtol=0, atol=0)
    with generation_mode(again):
        log_probs = again(torch.tensor([[5, 6, 7, ids[0], *ids]])).logits[0].float().log_softmax(-1)
    torch.testing.assert_close(ours[0], log_probs[3, ids[0]] + log_probs[4, ids[1]], rtol=1e-5, atol=1e-5)
    assert model_fingerprint(start) == model_fingerprint(again)
    assert model_fingerprint(start) != model_fingerprint(policy(base, added_tokens=["<fact>", "<more>"]).load_base())


RUNS = {
    "tied": LoRA(r=4, alpha=8, target_modules=["q_proj"], also_train=ENDS),  # one weight
    "untied": None,
    "padded": LoRA(r=4, alpha=8, target_modules=["q_proj"], also_train=ENDS),
}


@pytest.mark.parametrize("kind", RUNS)
def test_a_run_leaves_a_folder_that_plain_transformers_reads(kind, bases, tmp_path):
    base, lora = bases / kind, RUNS[kind]
    model = model_of(fit(policy(base, lora=lora), tmp_path, 4))
    known, _ = sizes(base)
    ids = (known, known + 1, 9)
    sums = score(model, row_of(ids)).sums.detach()

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert tokenizer("<fact>", add_special_tokens=False).input_ids == [known]
    assert tokenizer.decode([known, known + 1], skip_special_tokens=True) == "<fact>"
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "model", attn_implementation="eager").eval()
    log_probs = plain(torch.tensor([[5, 6, 7, known, *ids]])).logits[0].detach().float().log_softmax(-1)
    expected = sum(log_probs[3 + at, number] for at, number in enumerate(ids))
    torch.testing.assert_close(sums[0], expected, rtol=1e-4, atol=1e-4)

    again = policy(tmp_path / "model")  # the next round adds nothing and starts where this one ended
    assert again.new_tokens() == {}
    torch.testing.assert_close(score(again.load().eval(), row_of(ids)).sums.detach(), sums, rtol=1e-4, atol=1e-4)

    resumed = fit(policy(base, lora=lora), tmp_path / "resumed", 4, resume=tmp_path / "step=2.ckpt")
    torch.testing.assert_close(score(model_of(resumed), row_of(ids)).sums.detach(), sums, rtol=0, atol=0)


def test_texts_write_the_ordinary_ones_and_data_no_special_ones(policy_folder):
    ids = policy(policy_folder).new_tokens()
    for markup, special in (("text", False), ("control", True)):
        template = PromptTemplate(user="{context} {question}", markup=markup)
        prompt = policy(policy_folder, template=template).prompt_format().encode_prompt("<fact> <cite>", "what?").ids
        assert ids["<fact>"] in prompt
        assert (ids["<cite>"] in prompt) == special


REFUSED = {
    "untrained beside adapters": ({"lora": LoRA()}, r"type --policy\.lora\.also_train '\[embed_tokens, lm_head\]'"),
    "half trained": (
        {"lora": LoRA(also_train=["embed_tokens"])},
        r"got a frozen head; type .*'\[embed_tokens, lm_head\]'",
    ),
    "frozen": ({"freeze": ["lm_head", "embed_tokens"]}, r"got a frozen embeddings and a frozen head"),
    "a word": (
        {"added_tokens": ["word5"]},
        r"to be new to the tokenizer, got 'word5', which is a part of its vocabulary",
    ),
    "twice": ({"added_tokens": ["<a>", "<a>"]}, r"to name each token once, got '<a>'"),
    "of both kinds": ({"added_tokens": ["<cite>"]}, r"got '<cite>' in both"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_would_learn_nothing_or_mean_two_things_is_refused(kind, policy_folder):
    options, message = REFUSED[kind]
    with pytest.raises(ValueError, match=message):
        policy(policy_folder, **options).load()


def test_other_tokens_are_refused_on_resume_in_references_and_under_zero3(policy_folder, tmp_path):
    fit(policy(policy_folder), tmp_path)
    with pytest.raises(ValueError, match=r"`policy\.added_tokens` '\[.*<fact>.*\]', now '\[\]'"):
        fit(policy(policy_folder, added_tokens=[]), tmp_path / "other", 4, resume=tmp_path / "step=2.ckpt")
    module = DPO(policy=policy(policy_folder), reference=ReferenceConfig(policy=PolicyConfig(str(policy_folder))))
    with pytest.raises(ValueError, match=r"2 tokens differ, .*give it the policy's `added_tokens`"):
        module.configure_model()
    assert "got ZeRO-3; type --config configs/overlays/fsdp2.yaml" in str(
        training_problem(policy(policy_folder), "ZeRO-3")
    )
    assert training_problem(policy(policy_folder), "FSDP2") is None


def test_plan_counts_their_rows(policy_folder, tmp_path):
    config, _ = find_config(policy(policy_folder), None)
    assert config.vocab_size == base_model(policy(policy_folder).load()).config.vocab_size
    (tmp_path / "config.json").write_text(tiny_config("Llama").to_json_string())
    config, _ = find_config(policy(tmp_path), None)  # without a tokenizer
    assert config.vocab_size == 98


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="needs the extra `quantized`")
def test_embeddings_grow_beside_4_bit_weights(policy_folder):
    lora = LoRA(r=4, alpha=8, target_modules=["q_proj"], also_train=ENDS)
    model = policy(policy_folder, quantization="4bit", lora=lora).load()
    check_model(model)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad and "lora_" not in name}
    assert {name.split(".")[-2] for name in trained} == set(ENDS)


@pytest.mark.parametrize("kind", ["tied", "untied"])
def test_adapters_on_embeddings_are_trained_and_read_by_plain_peft(kind, bases, tmp_path):
    """They ended in a traceback before step 1. Those of tied embeddings leave the head as it is (peft#2972)."""
    lora = LoRA(r=4, alpha=8, target_modules=["embed_tokens", "q_proj"])
    model = model_of(fit(PolicyConfig(source=str(bases / kind), lora=lora), tmp_path, 4))
    ids = (9, 11, 12)
    plain = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    log_probs = plain(torch.tensor([[5, 6, 7, 9, *ids]])).logits[0].detach().float().log_softmax(-1)
    expected = sum(log_probs[3 + at, number] for at, number in enumerate(ids))
    torch.testing.assert_close(score(model, row_of(ids)).sums.detach()[0], expected, rtol=1e-5, atol=1e-5)
    with plain.disable_adapter():
        before = plain(torch.tensor([[5, 6, 7, 9, *ids]])).logits[0].detach().float().log_softmax(-1)
    assert not torch.allclose(before, log_probs, atol=1e-3)


@pytest.mark.parametrize("lora", [None, {"target_modules": ["embed_tokens"]}, {"modules_to_save": ["embed_tokens"]}])
def test_a_tokenizer_of_another_model_is_refused(lora, policy_folder):
    config = PolicyConfig(source=str(policy_folder))
    model = config.load()
    check_vocabulary(
        model if lora is None else get_peft_model(model, LoraConfig(**lora)), config.prompt_format().tokenizer
    )
    with pytest.raises(ValueError, match="below the model's 50 embeddings"):
        check_vocabulary(tiny_model("Llama", vocab_size=50), config.prompt_format().tokenizer)
