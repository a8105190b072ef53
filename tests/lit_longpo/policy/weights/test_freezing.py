"""Freezing by name: what moves in a run, what a checkpoint holds, and what a plan counts."""

import pytest
import torch
from safetensors.torch import load_file
from support.ranks import run_ranks
from support.small_fit import fit, model_of
from support.tiny_models import tiny_config, tiny_model
from support.word_tokenizer import word_tokenizer
from support.zero3 import needs_deepspeed

from lit_longpo.objectives import DPO
from lit_longpo.planning.sizes import count
from lit_longpo.planning.tracing.model import ModelPlan
from lit_longpo.policy import LoRA, PolicyConfig
from lit_longpo.policy.trainable import check_training


def policy(folder, **options):
    return PolicyConfig(source=str(folder), **options)


def trained(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.fixture(scope="module")
def tied(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tied")
    tiny_model("Qwen2", tie_word_embeddings=True).save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    return folder


CASES = {
    "only": ({"train_only": ["self_attn"]}, lambda name: "self_attn" in name),
    "all but": ({"freeze": ["embed_tokens", "norm"]}, lambda name: "embed" not in name and "norm" not in name),
    "both": ({"train_only": ["mlp"], "freeze": ["layers.0"]}, lambda name: "layers.1.mlp" in name),
    "a star": ({"train_only": ["layers.*.mlp"]}, lambda name: ".mlp." in name),
}


@pytest.mark.parametrize("case", CASES)
def test_names_decide_what_is_trained(case, policy_folder):
    options, wanted = CASES[case]
    model = policy(policy_folder, **options).load()
    assert trained(model) == {name for name, _ in model.named_parameters() if wanted(name)} != set()


def test_tied_weights_are_one_by_either_name(tied):
    assert "model.embed_tokens.weight" not in trained(policy(tied, freeze=["lm_head"]).load())
    assert trained(policy(tied, train_only=["lm_head"]).load()) == {"model.embed_tokens.weight"}


def test_what_is_no_name_and_what_leaves_nothing_is_refused(policy_folder):
    with pytest.raises(ValueError, match=r"`policy\.freeze` to hold parts .*got 'embed_token_s'; did you mean"):
        policy(policy_folder, freeze=["embed_token_s"]).load()
    with pytest.raises(ValueError, match=r"`policy\.train_only` to hold .*got 'layers\.2'"):
        policy(policy_folder, train_only=["layers.2"]).load()
    with pytest.raises(ValueError, match=r"expected weights to train, got .*which leave none"):
        policy(policy_folder, freeze=["weight"]).load()
    with pytest.raises(ValueError, match=r"`policy\.freeze` without adapters, .*`policy\.lora\.also_train`"):
        check_training(policy(policy_folder, freeze=["norm"], lora=LoRA()))


MAPS = ("gate", "up", "down")


@pytest.mark.parametrize("checkpointing", [False, True])
def test_only_what_is_named_moves_and_is_in_the_checkpoint(checkpointing, policy_folder, tmp_path):
    options = {"train_only": ["lm_head", "layers.1.mlp"], "gradient_checkpointing": checkpointing}
    model = model_of(fit(policy(policy_folder, **options), tmp_path, 4))
    before, after = (load_file(path / "model.safetensors") for path in (policy_folder, tmp_path / "model"))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == trained(model) == {"lm_head.weight", *(f"model.layers.1.mlp.{n}_proj.weight" for n in MAPS)}
    stored = torch.load(tmp_path / "step=2.ckpt", weights_only=True)["state_dict"]
    assert set(stored) == {f"model.{name}" for name in moved}
    fit(policy(policy_folder, **options), tmp_path / "resumed", 4, resume=tmp_path / "step=2.ckpt")
    torch.testing.assert_close(load_file(tmp_path / "resumed/model/model.safetensors"), after, rtol=0, atol=0)


def test_another_choice_is_refused_on_resume(policy_folder, tmp_path):
    fit(policy(policy_folder, freeze=["norm"]), tmp_path)
    with pytest.raises(ValueError, match=r"`policy\.freeze` '\[.*norm.*\]', now '\[\]'"):
        fit(policy(policy_folder), tmp_path / "other", 4, resume=tmp_path / "step=2.ckpt")


def test_a_part_of_the_weights_is_no_start_for_another_source(policy_folder, tmp_path):
    fit(policy(policy_folder, train_only=["mlp"]), tmp_path)
    tiny_model("Llama", seed=1).save_pretrained(tmp_path / "other")
    word_tokenizer().save_pretrained(tmp_path / "other")
    module = DPO(policy=policy(tmp_path / "other", train_only=["mlp"]))
    module.initial_weights = tmp_path / "step=2.ckpt"
    with pytest.raises(ValueError, match=r"expected `policy\.source: .*which mean another model otherwise"):
        module.configure_model()


@needs_deepspeed
@pytest.mark.parametrize("strategy", ["zero3", pytest.param("fsdp2", marks=pytest.mark.slow)])
def test_ranks_train_the_same_part(strategy, tied, tmp_path):
    asked = policy(tied, freeze=["embed_tokens", "layers.0"])
    run_ranks(fit, asked, tmp_path / "two", 2, strategy)
    fit(asked, tmp_path / "one")
    one, two, before = (
        load_file(path / "model.safetensors") for path in (tmp_path / "one/model", tmp_path / "two/model", tied)
    )
    torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-5)
    assert {name for name in before if not torch.equal(before[name], two[name])} == {
        name for name in before if ".layers.1." in name or name == "model.norm.weight"
    }


def test_plan_counts_what_is_trained():
    config = tiny_config("Llama")
    sizes = count(ModelPlan(config, torch.float32, train_only=("self_attn",)))
    assert sizes.num_trained == 2 * (2 * 32 * 32 + 2 * 32 * 16)
    assert sizes.trained_linear == sizes.num_trained
    assert not sizes.head_trained
    assert count(ModelPlan(config, torch.float32, frozen=("lm_head",))).untied_head_bytes == 0
