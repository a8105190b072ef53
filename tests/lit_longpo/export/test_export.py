"""Every strategy's checkpoint becomes a folder that transformers alone loads, with the trained policy's logits."""

import json
import re
import shutil
import subprocess
import sys
from functools import cache

import pytest
import torch
import yaml
from peft import PeftModel
from safetensors.torch import load_file
from support.command_line import CONFIGS
from support.plain_transformers import plain_logits
from support.ranks import run_command
from support.resume_worker import logits
from support.small_fit import fit
from support.zero3 import needs_deepspeed
from transformers import AutoModelForCausalLM

from lit_longpo.errors import InputError
from lit_longpo.export.command import export_checkpoint
from lit_longpo.policy import LoRA, PolicyConfig

FSDP2 = pytest.param("fsdp2", marks=pytest.mark.slow)
ZERO2 = pytest.param("zero2", marks=[needs_deepspeed, pytest.mark.slow])
STRATEGIES = ["single", "ddp", FSDP2, ZERO2, pytest.param("zero3", marks=needs_deepspeed)]
# name of the folder: policy, merge_adapters
WAYS = {"full": ("full", None), "lora": ("lora", None), "merged": ("lora", True)}


@pytest.fixture(scope="module")
def exported(resumed_run, tmp_path_factory):
    """The folder that a strategy's last checkpoint became, and the logits of the trained policy."""
    root = tmp_path_factory.mktemp("exported")

    @cache
    def export(strategy, way):
        (folder, result), (policy, merge) = resumed_run(strategy), WAYS[way]
        output = root / strategy / way
        export_checkpoint(str(folder / policy / "checkpoints/last.ckpt"), str(output), merge_adapters=merge)
        return output, logits(policy, result[policy]["whole"]["weights"])

    return export


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("way", WAYS)
def test_transformers_alone_gives_the_trained_policys_logits(strategy, way, exported):
    folder, wanted = exported(strategy, way)
    check(folder, plain_logits(str(folder)), wanted, way)


@pytest.mark.slow
def test_a_process_without_lit_longpo_gives_the_trained_policys_logits(exported, tmp_path):
    script = f"{__file__.rpartition('lit_longpo')[0]}support/plain_transformers.py"
    made = {str(folder): wanted for folder, wanted in (exported("single", way) for way in WAYS)}
    command = [sys.executable, script, str(tmp_path / "logits.pt"), *made]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]
    for folder, found in torch.load(tmp_path / "logits.pt", weights_only=True).items():
        assert (found - made[folder]).abs().max() < 1e-5 * made[folder].abs().max()


def check(folder, logits, wanted, way):
    assert (logits - wanted).abs().max() < 1e-5 * wanted.abs().max()
    adapters = (folder / "adapter_config.json").is_file()
    assert adapters == (way == "lora")
    assert list(folder.glob("*.safetensors"))
    assert (folder / "generation_config.json").is_file()
    assert not list(folder.glob("*.bin"))


def test_training_changed_the_logits(exported):
    assert not torch.allclose(exported("single", "full")[1], exported("single", "lora")[1], atol=1e-2)


def test_changed_rotary_positions_are_in_the_exported_configuration(exported):
    config = json.loads((exported("single", "full")[0] / "config.json").read_text())
    assert config["rope_parameters"]["rope_theta"] == 20000.0


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_card_says_what_was_trained_on_what(strategy, exported):
    card = (exported(strategy, "merged")[0] / "README.md").read_text()
    header = yaml.safe_load(card.split("---")[1])
    assert header["tags"] == ["lit_longpo", "solopo"]
    for line in ("| objective | SoLoPO |", '"base": "DPO"', "| base model | embedded |", "| optimizer steps | 6 |"):
        assert line in card
    assert f"| processes | {1 if strategy == 'single' else 2} |" in card
    hashes = [row for row in card.splitlines() if row.startswith("| hash of the tokenised")]
    assert len(hashes[0].split("|")[2].strip()) == 32
    assert "| train/rewards/margins |" in card


def test_the_configuration_is_looked_for_and_can_be_given(resumed_run, tmp_path):
    folder, _ = resumed_run("single")
    lonely = tmp_path / "a/b/c/d/e/last.ckpt"
    lonely.parent.mkdir(parents=True)
    lonely.write_bytes((folder / "full/checkpoints/last.ckpt").read_bytes())
    with pytest.raises(FileNotFoundError, match=r"expected the run's config.yaml in .*type: --config"):
        export_checkpoint(str(lonely), str(tmp_path / "out"))
    export_checkpoint(str(lonely), str(tmp_path / "out"), run_config=str(folder / "full/config.yaml"))
    assert (tmp_path / "out/model.safetensors").is_file()
    with pytest.raises(ValueError, match=r"does not hold the policy of its config.yaml: .* missing and .* unknown"):
        export_checkpoint(str(lonely), str(tmp_path / "other"), run_config=str(folder / "lora/config.yaml"))
    assert not (tmp_path / "other").exists()


def test_a_folder_in_use_is_not_touched_without_being_told(resumed_run, tmp_path):
    checkpoint = str(resumed_run("single")[0] / "full/checkpoints/last.ckpt")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"got notes\.txt, which would be deleted"):
        export_checkpoint(checkpoint, str(tmp_path), overwrite=True)
    export_checkpoint(checkpoint, str(tmp_path / "model"))
    (tmp_path / "model/old.txt").write_text("old")
    with pytest.raises(ValueError, match="or --overwrite"):
        export_checkpoint(checkpoint, str(tmp_path / "model"))
    export_checkpoint(checkpoint, str(tmp_path / "model"), overwrite=True)
    assert not (tmp_path / "model/old.txt").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "notes.txt"]


def test_only_a_model_that_the_run_did_not_start_from_is_overwritten(policy_folder, tmp_path):
    """Adapters took the place of the base that they name; a trainer's checkpoints went with the model above them."""
    start, reference, other = (shutil.copytree(policy_folder, tmp_path / name) for name in ("start", "ref", "other"))
    fit(PolicyConfig(source=str(start), lora=LoRA(r=2)), tmp_path / "run")
    [checkpoint] = (tmp_path / "run").glob("*.ckpt")
    config = {"policy": {"source": str(start), "lora": {"r": 2}}, "reference": {"policy": {"source": str(reference)}}}
    (tmp_path / "run/config.yaml").write_text(yaml.safe_dump(config))
    (other / "checkpoint-500").mkdir()
    before = sorted(tmp_path.rglob("*"))
    kept = "the run did not start from"
    for folder, said in ((start, kept), (reference, kept), (other, "got checkpoint-500, which would be deleted")):
        with pytest.raises(InputError, match=said):
            export_checkpoint(str(checkpoint), str(folder), overwrite=True)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_broken_checkpoint_is_refused(resumed_run, tmp_path):
    broken = tmp_path / "last.ckpt"
    broken.write_bytes((resumed_run("single")[0] / "full/checkpoints/last.ckpt").read_bytes()[:5000])
    with pytest.raises(ValueError, match="cut off; set --checkpoint"):
        export_checkpoint(str(broken), str(tmp_path / "out"))


@pytest.mark.slow
@needs_deepspeed
def test_the_printed_way_from_a_zero3_checkpoint_to_its_validation(tmp_path):
    """Every command as a user types it; the metrics are those that the training ended with."""
    save = {"class_path": "ModelCheckpoint", "init_args": {"save_last": True, "filename": "end"}}
    where = ("--trainer.default_root_dir", tmp_path, "--trainer.enable_progress_bar", "false")
    recipe = ("--config", "configs/solopo.yaml", "--config", "configs/overlays/deepspeed_zero3.yaml", *where)
    small = ("--data.init_args.num_train", 48, "--data.init_args.num_val", 3, "--model.init_args.base", "DPO")
    small = (*small, "--policy.lora.r", 2, "--trainer.callbacks", json.dumps([save]))
    run_command("fit", *recipe, *small, num_ranks=2)
    [checkpoint] = tmp_path.rglob("last.ckpt")
    with pytest.raises(AssertionError, match="DeepSpeed cannot read") as refused:
        run_command("validate", *recipe, *small, "--ckpt_path", checkpoint, num_ranks=2)
    typed = re.search(
        r"type: python -m lit_longpo (export .*), then run this again with (.*) instead", str(refused.value)
    )
    folder = str(tmp_path / "whole")
    run_command(*typed[1].replace("FOLDER", folder).split())
    again = (*recipe, *small, *typed[2].replace("FOLDER", folder).split(), "--reference.policy.source", "embedded")
    shown = dict(re.findall(r"(val/\S+) +│ +(\S+)", run_command("validate", *again, num_ranks=2)))
    trained = dict(re.findall(r"\| (val/\S+) \| (\S+) \|", (tmp_path / "whole/README.md").read_text()))
    assert len(trained) > 8
    assert abs(float(trained["val/rewards/margins"])) > 5e-4
    for name, value in trained.items():
        assert float(shown[name]) == pytest.approx(float(value), rel=1e-3, abs=1e-5), name


@pytest.mark.parametrize(
    "overlay", ["fsdp2", pytest.param("deepspeed_zero3", marks=[needs_deepspeed, pytest.mark.slow])]
)
def test_a_split_policy_is_saved_after_a_validation_as_it_is_exported(overlay, tmp_path):
    """A validation leaves parameters gathered."""
    save = {"class_path": "ModelCheckpoint", "init_args": {"save_last": True}}
    write = {"class_path": "SavePretrained", "init_args": {"directory": str(tmp_path / "saved")}}
    small = ("--data.init_args.num_train", 8, "--data.init_args.num_val", 2, "--trainer.val_check_interval", 1.0)
    small += ("--data.init_args.short_words", 16, "--data.init_args.long_words", "[24,48]")
    where = ("--trainer.default_root_dir", tmp_path, "--trainer.callbacks", json.dumps([save, write]))
    recipe = ("--config", "configs/solopo.yaml", "--config", f"configs/overlays/{overlay}.yaml")
    run_command("fit", *recipe, *small, *where, num_ranks=2)
    [checkpoint] = tmp_path.rglob("last.ckpt")
    export_checkpoint(str(checkpoint), str(tmp_path / "exported"))
    saved, exported = (load_file(tmp_path / name / "model.safetensors") for name in ("saved", "exported"))
    assert saved.keys() == exported.keys()
    assert all(torch.equal(saved[name], weight) for name, weight in exported.items())


def round_of(folder, source, *arguments):
    """The last checkpoint of a run through the command line."""
    run_command(
        *("fit", "--config", CONFIGS / "sft.yaml", "--policy.source", source, "--trainer.default_root_dir", folder),
        *("--trainer.max_steps", 2, "--trainer.enable_progress_bar", "false", "--trainer.limit_val_batches", 0),
        *("--data.init_args.num_train", 16, "--data.init_args.num_val", 0, "--data.init_args.max_tokens", 1024),
        *("--data.init_args.long_words", "[32,48]", "--data.init_args.short_words", 16),
        *("--optimization.warmup_fraction", 0, "--optimization.optimizer.lr", 1e-2, *arguments),
        *("--trainer.callbacks", "[{class_path: ModelCheckpoint, init_args: {save_last: true}}]"),
    )
    [checkpoint] = folder.rglob("last.ckpt")
    return checkpoint


@pytest.mark.slow
def test_a_round_on_continued_adapters_is_exported_as_adapters_of_their_base(tmp_path):
    """Plain peft on the base that the first round had; nothing names the folder in between."""
    base = PolicyConfig().files.folder
    first = round_of(tmp_path / "1", base, "--policy.lora.r", 4)
    export_checkpoint(str(first), str(tmp_path / "one"))
    second = round_of(tmp_path / "2", tmp_path / "one")
    export_checkpoint(str(second), str(tmp_path / "two"))
    export_checkpoint(str(second), str(tmp_path / "whole"), merge_adapters=True)
    settings = json.loads((tmp_path / "two/adapter_config.json").read_text())
    assert (settings["base_model_name_or_path"], settings["r"]) == (str(base), 4)
    probe = torch.arange(5, 45).unsqueeze(0)
    made = {}
    for name in ("one", "two"):
        plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / name).eval()
        made[name] = plain(probe).logits.detach()
    stored = torch.load(second, weights_only=False)["state_dict"]
    written = load_file(tmp_path / "two/adapter_model.safetensors")
    assert written
    for name, tensor in written.items():
        [kept] = [value for key, value in stored.items() if key.replace(".default", "").endswith(name)]
        assert torch.equal(tensor, kept)
    assert (made["one"] - made["two"]).abs().max() > 1e-3
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "whole").eval()(probe).logits
    torch.testing.assert_close(whole, made["two"], rtol=1e-4, atol=1e-4)
