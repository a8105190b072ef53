"""What `SavePretrained` leaves, read by plain transformers and peft."""

import importlib
import json
import re
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from peft import PeftConfig, PeftModel
from support.chat_formats import chat_tokenizer
from support.groups import random_groups
from support.preference_data import RandomPairs
from support.quiet_cpu import QUIET_CPU
from support.tiny_models import tiny_model
from support.word_tokenizer import word_tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from lit_longpo.callbacks import SavePretrained, save_pretrained
from lit_longpo.checkpoints import ResumableTrainer
from lit_longpo.engine import base_model, pack, score
from lit_longpo.errors import InputError
from lit_longpo.export import save_policy
from lit_longpo.objectives import ORPO
from lit_longpo.optimization import FusedAdamW, Optimization
from lit_longpo.policy import LoRA, PolicyConfig, RoPE

ROW = pack(random_groups([(40, [2, 3])]))


def fit(folder, source, *, steps=3, directory=None, options=None, **policy):
    seed_everything(0, verbose=False)
    optimization = Optimization(lambda params: FusedAdamW(params, lr=2e-2), schedule="constant", warmup_fraction=0.0)
    module = ORPO(policy=PolicyConfig(source=str(source), **policy), optimization=optimization)
    trainer = Trainer(
        max_steps=steps,
        **QUIET_CPU,
        default_root_dir=folder,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        callbacks=[SavePretrained(str(directory or folder / "model"))],
        **(options or {}),
    )
    trainer.fit(module, datamodule=RandomPairs(module.views))
    return module


def sums(model):
    with torch.no_grad():
        return score(model.eval(), ROW).sums


def loaded(folder):
    """As a user loads it; the attention is chosen only to score the same packed row."""
    return AutoModelForCausalLM.from_pretrained(folder, attn_implementation="prefix_shared", dtype=torch.float32)


def test_one_directory_may_hold_adapters_then_a_model_then_adapters(policy_folder, tmp_path, caplog):
    for number, policy in enumerate(({"lora": LoRA(r=2)}, {}, {"lora": LoRA(r=2)})):
        module = fit(tmp_path, policy_folder, **policy)
        assert caplog.text.count(f"{tmp_path / 'model'} holds an earlier model, which this run will replace") == number
        files = {path.name for path in (tmp_path / "model").iterdir()}
        assert ("adapter_config.json" in files) == ("config.json" not in files) == bool(policy)
        torch.testing.assert_close(sums(loaded(tmp_path / "model")), sums(module.model), rtol=1e-4, atol=1e-4)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_dry_run_tries_to_save_and_keeps_nothing(policy_folder, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    tried = []
    monkeypatch.setattr(
        save_pretrained, "save_policy", lambda *words: (save_policy(*words), tried.append(sorted(words[2].iterdir())))
    )
    tiny_model("Llama", seed=5).save_pretrained(tmp_path / "model")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    fit(tmp_path, policy_folder, options={"fast_dev_run": True})
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert "model.safetensors" in [path.name for path in tried[0]]
    assert "the model was saved as a test and deleted" in caplog.text


def test_a_model_that_cannot_be_written_leaves_no_half(policy_folder, tmp_path, monkeypatch):
    def fail(*words):
        (words[2] / "half").touch()
        raise OSError("disk full")

    monkeypatch.setattr(save_pretrained, "save_policy", fail)
    with pytest.raises(OSError, match="disk full"):
        fit(tmp_path, policy_folder)
    assert not list(tmp_path.iterdir())


KINDS = [{"use_rslora": True}, {"use_dora": True}, {"use_dora": True, "use_rslora": True}, {"also_train": ["norm"]}]


@pytest.mark.parametrize("lora", [{}, *KINDS], ids=str)
def test_the_way_that_the_card_names_reads_what_was_trained(lora, tmp_path):
    """Every kind of adapter, and a whole model where they were merged, on a model with a tied head."""
    tiny_model("Qwen2", tie_word_embeddings=True).save_pretrained(tmp_path / "base")
    word_tokenizer().save_pretrained(tmp_path / "base")
    module = fit(tmp_path, tmp_path / "base", lora=LoRA(r=4, **lora))
    [library, reader] = re.findall(r"^`(\w+)\.(\w+)\.from_pretrained\(FOLDER\)`", card(tmp_path), re.M)[0]
    model = getattr(importlib.import_module(library), reader).from_pretrained(tmp_path / "model").eval()
    base_model(model).set_attn_implementation("prefix_shared")  # only to score the same packed row
    torch.testing.assert_close(sums(model), sums(module.model), rtol=1e-6, atol=1e-5)
    assert (sums(model) - sums(loaded(tmp_path / "base"))).abs().max() > 0.1


def card(folder):
    return (folder / "model/README.md").read_text()


def test_old_shards_do_not_stay(policy_folder, tmp_path):
    tiny_model("Llama", seed=5).save_pretrained(tmp_path / "model", max_shard_size="20KB")
    module = fit(tmp_path, policy_folder)
    assert len(list((tmp_path / "model").glob("*.safetensors*"))) == 1
    torch.testing.assert_close(sums(loaded(tmp_path / "model")), sums(module.model), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["notes.pdf", "checkpoints/last.ckpt", "config.yaml", "data.json"])
def test_what_is_no_model_is_not_replaced_and_that_is_said_before_the_training(name, policy_folder, tmp_path):
    path = tmp_path / "model" / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(ValueError, match=f"got {name.partition('/')[0]}, which would be deleted"):
        fit(tmp_path, policy_folder, steps=10**9)
    assert path.read_text() == "mine"


def test_a_model_with_several_chat_templates_is_replaced(tmp_path):
    """transformers stores all but the first in a folder of their own."""
    base, _ = chat_base(tmp_path / "base")
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = {"default": tokenizer.chat_template, "tool_use": "another"}
    tokenizer.save_pretrained(base)
    for _ in range(2):
        fit(tmp_path, base)
    assert AutoTokenizer.from_pretrained(tmp_path / "model").chat_template == tokenizer.chat_template


def test_the_start_is_not_overwritten(policy_folder, tmp_path):
    with pytest.raises(ValueError, match="that the run does not start from"):
        fit(tmp_path, policy_folder, lora=LoRA(r=2), directory=policy_folder)
    fit(tmp_path, policy_folder, lora=LoRA(r=2))
    with pytest.raises(ValueError, match="that the run does not start from"):
        fit(tmp_path, tmp_path / "model")


@pytest.mark.parametrize("rope", [RoPE(theta=500.0), RoPE(type="yarn", factor=4.0, max_length=2048)])
def test_adapters_on_other_rotary_positions_are_merged_with_a_word(rope, policy_folder, tmp_path, caplog):
    caplog.set_level("INFO")
    module = fit(tmp_path, policy_folder, lora=LoRA(r=2), rope=rope)
    assert "adapters are merged, in fp32: the base has other rotary positions" in caplog.text
    torch.testing.assert_close(sums(loaded(tmp_path / "model")), sums(module.model), rtol=1e-4, atol=1e-4)
    assert loaded(tmp_path / "model").config.max_position_embeddings == (rope.max_length or 512)


def test_a_merge_that_nobody_asked_for_keeps_what_bf16_would_round_away(policy_folder, tmp_path, caplog):
    module = fit(tmp_path, policy_folder, lora=LoRA(r=2), rope=RoPE(theta=500.0), dtype="bfloat16")
    assert "rounds away" not in caplog.text
    assert json.loads((tmp_path / "model/config.json").read_text())["dtype"] == "float32"
    assert "| dtype | bfloat16 |\n| dtype of the files | float32 |" in card(tmp_path)
    layer = base_model(module.model).get_submodule("model.layers.0.self_attn.q_proj")
    [(up, down, scale)] = [
        (layer.lora_B[key].weight, layer.lora_A[key].weight, layer.scaling[key]) for key in layer.lora_A
    ]
    exact = layer.base_layer.weight.float() + scale * up.float() @ down.float()
    assert not torch.equal(exact, exact.bfloat16().float())
    [saved] = [value for name, value in loaded(tmp_path / "model").named_parameters() if "layers.0.self_attn.q" in name]
    torch.testing.assert_close(saved, exact, rtol=0, atol=1e-7)


def test_a_base_is_named_by_its_absolute_folder(policy_folder, tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    (tmp_path / "base").symlink_to(policy_folder)
    module = fit(tmp_path, "../base", lora=LoRA(r=2))
    monkeypatch.chdir("/")
    assert Path(PeftConfig.from_pretrained(tmp_path / "model").base_model_name_or_path) == policy_folder
    torch.testing.assert_close(sums(loaded(tmp_path / "model")), sums(module.model), rtol=1e-4, atol=1e-4)


def hub_model(cache, name, commits):
    """A model on the hub as its client keeps it: one folder for every commit; `main` is the last of them."""
    folder = cache / f"models--{name.replace('/', '--')}"
    for seed, commit in enumerate(commits):
        tiny_model("Llama", seed=seed).save_pretrained(folder / "snapshots" / commit)
        word_tokenizer().save_pretrained(folder / "snapshots" / commit)
        GenerationConfig(min_new_tokens=seed, eos_token_id=2).save_pretrained(folder / "snapshots" / commit)
    (folder / "refs").mkdir(exist_ok=True)
    (folder / "refs/main").write_text(commits[-1])
    return [folder / "snapshots" / commit for commit in commits]


@pytest.mark.parametrize("name", ["owner/base", "base"])  # gpt2 and others have no owner
def test_a_base_on_the_hub_is_named_with_the_commit_that_was_trained_on(name, tmp_path, monkeypatch):
    """What the base's owner uploads later changes neither the folder's model nor the next round's."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    old, new = "a" * 40, "b" * 40
    [snapshot] = hub_model(tmp_path / "hub", name, [old])
    module = fit(tmp_path / "1", name, lora=LoRA(r=2))
    hub_model(tmp_path / "hub", name, [old, new])
    settings = PeftConfig.from_pretrained(tmp_path / "1/model")
    assert (settings.base_model_name_or_path, settings.revision) == (name, old)
    base = AutoModelForCausalLM.from_pretrained(snapshot, attn_implementation="prefix_shared", dtype=torch.float32)
    plain = PeftModel.from_pretrained(base, tmp_path / "1/model")
    torch.testing.assert_close(sums(plain), sums(module.model), rtol=1e-4, atol=1e-4)
    again = PolicyConfig(source=str(tmp_path / "1/model"))
    assert again.files.generation().min_new_tokens == 0  # of the first commit
    torch.testing.assert_close(sums(again.load()), sums(plain), rtol=1e-4, atol=1e-4)
    second = fit(tmp_path / "2", tmp_path / "1/model")
    settings = PeftConfig.from_pretrained(tmp_path / "2/model")
    assert (settings.base_model_name_or_path, settings.revision) == (name, old)
    plain = PeftModel.from_pretrained(
        base.from_pretrained(snapshot, attn_implementation="prefix_shared", dtype=torch.float32), tmp_path / "2/model"
    )
    torch.testing.assert_close(sums(plain), sums(second.model), rtol=1e-4, atol=1e-4)


def test_round_after_round_is_what_was_trained(policy_folder, tmp_path):
    """Adapters continued keep naming their base; merged ones end in a whole model."""
    fit(tmp_path / "1", policy_folder, lora=LoRA(r=2))
    second = fit(tmp_path / "2", tmp_path / "1/model")
    assert Path(PeftConfig.from_pretrained(tmp_path / "2/model").base_model_name_or_path) == policy_folder
    torch.testing.assert_close(sums(loaded(tmp_path / "2/model")), sums(second.model), rtol=1e-4, atol=1e-4)
    third = fit(tmp_path / "3", tmp_path / "2/model", lora=LoRA(r=3), adapters="merge")
    assert (tmp_path / "3/model/config.json").is_file()
    torch.testing.assert_close(sums(loaded(tmp_path / "3/model")), sums(third.model), rtol=1e-4, atol=1e-4)
    fourth = fit(tmp_path / "4", tmp_path / "2/model", adapters="merge")
    torch.testing.assert_close(sums(loaded(tmp_path / "4/model")), sums(fourth.model), rtol=1e-4, atol=1e-4)


def chat_base(folder, **settings):
    """A base model whose end of text is not the end of a turn in its template."""
    tokenizer = chat_tokenizer("chatml")
    tokenizer.eos_token = "<eos>"
    tiny_model("Llama", vocab_size=len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    stored = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps({**stored, **settings}))
    return folder, tokenizer.convert_tokens_to_ids("<|im_end|>")


@pytest.mark.parametrize("policy", [{}, {"lora": LoRA(r=2, also_train=["norm"])}], ids=["full", "merged"])
def test_generation_stops_at_the_trained_end(policy, tmp_path):
    base, end = chat_base(tmp_path / "base", temperature=0.7, top_p=0.8, do_sample=False, repetition_penalty=1.1)
    fit(tmp_path, base, **policy)
    settings = GenerationConfig.from_pretrained(tmp_path / "model")
    assert settings.eos_token_id == [2, end]
    assert (settings.temperature, settings.top_p, settings.repetition_penalty) == (0.7, 0.8, 1.1)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    model.lm_head = torch.nn.Linear(32, model.config.vocab_size)  # whatever it reads, it says the end of a turn
    torch.nn.init.zeros_(model.lm_head.weight)
    model.lm_head.bias.data = torch.nn.functional.one_hot(torch.tensor(end), model.config.vocab_size).float()
    out = model.generate(torch.tensor([[5, 6, 7]]), attention_mask=torch.ones(1, 3), max_new_tokens=20, do_sample=False)
    assert out[0].tolist() == [5, 6, 7, end]


def test_settings_of_adapters_lie_beside_them_and_the_user_is_told(tmp_path, caplog):
    base, end = chat_base(tmp_path / "base", temperature=0.7)
    fit(tmp_path, base, lora=LoRA(r=2))
    assert GenerationConfig.from_pretrained(tmp_path / "model").eos_token_id == [2, end]
    assert "GenerationConfig.from_pretrained(FOLDER)" in caplog.text
    assert "GenerationConfig.from_pretrained(FOLDER)" in (tmp_path / "model/README.md").read_text()
    assert AutoTokenizer.from_pretrained(tmp_path / "model").eos_token == "<eos>"


def test_one_known_end_stays_one(policy_folder, tmp_path):
    fit(tmp_path, policy_folder)
    assert GenerationConfig.from_pretrained(tmp_path / "model").eos_token_id == 2


def averaged(folder, source, callbacks, *, ckpt_path=None, **policy):
    """Four steps whose weights are averaged."""
    seed_everything(0, verbose=False)
    optimization = Optimization(lambda params: FusedAdamW(params, lr=2e-2), schedule="constant", warmup_fraction=0.0)
    module = ORPO(policy=PolicyConfig(source=str(source), **policy), optimization=optimization)
    trainer = ResumableTrainer(
        max_steps=4,
        **QUIET_CPU,
        default_root_dir=folder,
        limit_val_batches=0,
        use_distributed_sampler=False,
        callbacks=callbacks,
    )
    trainer.fit(module, datamodule=RandomPairs(module.views), ckpt_path=ckpt_path)
    return module


def test_averaged_weights_are_written_or_refused(policy_folder, tmp_path):
    """Lightning puts them in place when training ends, one callback after the other (Lightning#20545)."""
    save, average = SavePretrained(str(tmp_path / "model")), EMAWeightAveraging(decay=0.5)
    with pytest.raises(ValueError, match=r"^expected EMAWeightAveraging before SavePretrained in `trainer\.callbacks`"):
        averaged(tmp_path, policy_folder, [save, average])
    module = averaged(tmp_path, policy_folder, [average, save])
    torch.testing.assert_close(sums(loaded(tmp_path / "model")), sums(module.model))


def test_averaged_adapters_go_on_as_if_never_stopped(policy_folder, tmp_path):
    def run(folder, **options):
        steps = ModelCheckpoint(tmp_path / folder, "{step}", every_n_train_steps=2, save_top_k=-1)
        callbacks = [EMAWeightAveraging(decay=0.5), steps]
        return sums(averaged(tmp_path / folder, policy_folder, callbacks, lora=LoRA(r=2), **options).model)

    expected = run("whole")
    actual = run("resumed", ckpt_path=tmp_path / "whole" / "step=2.ckpt")
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


def test_an_average_is_not_trained_on(policy_folder, tmp_path):
    """Its optimizer's states belong to the weights beside it (schnetpack#785, anemoi-core#1373)."""
    steps = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=2, save_top_k=-1)
    averaged(tmp_path, policy_folder, [EMAWeightAveraging(decay=0.5), steps], lora=LoRA(r=2))
    with pytest.raises(InputError, match=r"^expected EMAWeightAveraging .*; add it again, or .*--initial_weights"):
        averaged(tmp_path / "on", policy_folder, [], lora=LoRA(r=2), ckpt_path=tmp_path / "step=2.ckpt")
