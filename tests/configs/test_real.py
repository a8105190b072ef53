"""Recipes for real chat models, as shipped, on a tiny one; and what `plan` says about Qwen2.5-7B on one GPU."""

import random
import re
from dataclasses import replace

import peft
import pytest
import torch
import yaml
from support.chat_formats import chat_tokenizer
from support.command_line import CONFIGS, build
from support.tiny_models import tiny_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from data_modules.records import PreferencePair, write_pairs
from evaluation import QACallback
from lit_longpo.callbacks import SavePretrained
from lit_longpo.planning.command import PlanCLI, plan_for
from lit_longpo.planning.conflicts import conflicts
from lit_longpo.planning.inputs.architecture import find_config
from lit_longpo.planning.inputs.configuration import read_configuration
from lit_longpo.planning.plan import GIB

REAL = sorted((CONFIGS / "real").glob("*.yaml"))
RATES = {"sft": 2e-4, "orpo": 8e-5, "solopo": 8e-5, "simpo": 1e-5, "dpo": 5e-6, "longpo": 5e-6, "logo": 5e-6}


def words(count, draw):
    return " ".join(f"word{draw.randrange(40)}" for _ in range(count))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny chat model and a file of pairs."""
    root = tmp_path_factory.mktemp("own")
    tokenizer = chat_tokenizer("chatml")
    tiny_model("Llama", vocab_size=len(tokenizer)).save_pretrained(root / "model")
    tokenizer.save_pretrained(root / "model")
    draw = random.Random(0)
    pairs = [
        PreferencePair(f"p{n}", "word1 word2", words(5, draw), words(20, draw), "word3", ("word4",), ("word3",))
        for n in range(20)
    ]
    write_pairs(root / "pairs.jsonl", pairs)
    return root


def test_there_is_one_for_each_method():
    assert {path.stem for path in REAL} == RATES.keys()


@pytest.mark.parametrize("recipe", REAL, ids=lambda path: path.stem)
@pytest.mark.usefixtures("blank_pictures")
def test_every_recipe_trains_evaluates_and_saves_a_tiny_model(recipe, folder, tmp_path):
    cli = build(
        *("--config", recipe, "--policy.source", folder / "model", "--policy.dtype", "float32"),
        *("--data.path", folder / "pairs.jsonl", "--trainer.accelerator", "cpu"),
        *("--trainer.default_root_dir", tmp_path, "--trainer.accumulate_grad_batches", 1, "--trainer.max_steps", 2),
        *("--trainer.limit_val_batches", 1, "--data.init_args.max_tokens", 2048),
    )
    [asked] = [item for item in cli.trainer.callbacks if isinstance(item, QACallback)]
    asked.benchmark = replace(asked.benchmark, max_new_tokens=3)  # quick
    cli.trainer.fit(cli.model, cli.datamodule)
    assert [report.step for report in asked.reports] == [0, 2]
    assert len(asked.reports[1].predictions) == 2  # a tenth of the pairs
    assert sum(isinstance(item, SavePretrained) for item in cli.trainer.callbacks) == 1
    [saved] = tmp_path.rglob("adapter_model.safetensors")
    restored = peft.PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(folder / "model"), saved.parent
    ).eval()
    ids = AutoTokenizer.from_pretrained(saved.parent)("word1 word2", return_tensors="pt").input_ids
    trained = {name: value for name, value in restored.state_dict().items() if "lora_B" in name}
    assert trained
    assert any(value.abs().max() > 0 for value in trained.values())
    assert torch.isfinite(restored(input_ids=ids).logits).all()


def test_one_pair_is_trained_on_where_none_is_held_out_and_nothing_is_asked(folder, tmp_path, caplog):
    """`--data.val_fraction 0` is all that has to be typed."""
    (tmp_path / "one.jsonl").write_text((folder / "pairs.jsonl").read_text().splitlines()[0] + "\n")
    cli = build(
        *("--config", CONFIGS / "real" / "dpo.yaml", "--policy.source", folder / "model", "--policy.dtype", "float32"),
        *("--data.path", tmp_path / "one.jsonl", "--data.val_fraction", 0, "--data.max_tokens", 2048),
        *("--trainer.accelerator", "cpu", "--trainer.default_root_dir", tmp_path),
    )
    cli.trainer.fit(cli.model, cli.datamodule)
    assert cli.trainer.global_step == 1
    assert (
        "qa: nothing is asked, as `val_fraction: 0` leaves no validation pairs; to ask a file of yours" in caplog.text
    )
    assert not list(tmp_path.rglob("benchmarks"))
    assert list(tmp_path.rglob("adapter_model.safetensors"))


@pytest.mark.parametrize("recipe", REAL, ids=lambda path: path.stem)
def test_every_recipe_trains_on_what_the_build_in_its_head_writes(recipe):
    head, settings = recipe.read_text(), yaml.safe_load(recipe.read_text())
    [named] = re.findall(r"build --config configs/(build/\w+\.yaml)", head)
    output = yaml.safe_load((CONFIGS / named).read_text())["output"]
    assert settings["data"]["init_args"]["path"] == f"{output}/pairs.jsonl"
    assert settings["data"]["init_args"]["rows_by"] == "all_views"


@pytest.mark.parametrize("recipe", REAL, ids=lambda path: path.stem)
def test_settings_are_those_of_their_sources_and_cancel_nothing(recipe):
    run = read_configuration(PlanCLI(args=["--config", str(recipe)]).config)
    assert run.optimization.defaults["lr"] == RATES[recipe.stem]
    assert (run.dtype, run.flash, run.policy.lora.r) == (torch.bfloat16, True, 16)
    assert (run.policy.template.chat, run.data.max_examples, run.accumulate) == (True, 2, 8)
    config, _ = find_config(run.policy, None)
    assert (config.model_type, config.hidden_size) == ("qwen2", 3584)
    assert conflicts(run, config) == []
    stated = recipe.read_text()
    assert f"configs/real/{recipe.name} --policy.source MODEL" in stated
    assert "--data.path PAIRS.jsonl" in stated


@pytest.mark.slow  # traces a 7B model for each: minutes
@pytest.mark.parametrize("recipe", REAL, ids=lambda path: path.stem)
def test_every_recipe_fits_one_gpu(recipe):
    made = plan_for(["--config", str(recipe)])
    assert made.fits
    flops = made.rows_per_step * made.flops.model
    counted = f"{made.memory[made.mode].peak / GIB:.2f} GiB of 80 a device, {made.tokens_per_step:,} tokens"
    assert f"{counted} and {flops:.2e} FLOPs a step" in recipe.read_text()
    assert made.warnings == []
