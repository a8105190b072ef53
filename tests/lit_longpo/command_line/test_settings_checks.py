"""What a new user gets wrong ends in one line before a model is loaded, through the real command line."""

import builtins
import os
import re
from pathlib import Path

import pytest
from lightning_utilities.core.imports import RequirementCache
from support.command_line import CONFIGS, build

from lit_longpo import __main__ as command
from lit_longpo.command_line.settings_checks import expand_homes
from lit_longpo.errors import message_for_user
from lit_longpo.policy import PolicyConfig

SMALL = ("--data.num_train", "8", "--data.num_val", "4", "--trainer.max_steps", "1")


@pytest.fixture(autouse=True)
def _nothing_is_loaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quiet.yaml").write_text("trainer: {callbacks: null, enable_progress_bar: false}\n")

    def load(policy):
        raise AssertionError("a model is being loaded")

    monkeypatch.setattr(PolicyConfig, "load", load)


def refused(*arguments):
    """The one line that `fit` ends with."""
    with pytest.raises(SystemExit) as stopped:
        command.main(["fit", "--config", "solopo", "--config", "quiet.yaml", *SMALL, *arguments])
    message = str(stopped.value)
    assert message.startswith("error: ")
    assert len(message.splitlines()) == 1
    return message


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--policy.source", "Some/Model-7B"], "no folder .*Some/Model-7B, and .*HF_HUB_OFFLINE"),
        (["--trainer.accelerator", "gpu"], "expected a GPU .* type --trainer.accelerator cpu"),
        (["--trainer.accelerator", "gpu", "--policy.dtype", "bfloat16"], "accelerator cpu --policy.dtype float32, or"),
        (["--policy.attention", "flash"], "expected a GPU for `policy.attention: flash`"),
        (["--optimization.optimizer.lr", "-1e-4"], r"got .*-0\.0001.*1e-6 is usual"),
        (
            ["--policy.template.user", r"{context}\n{question}"],
            r"line breaks in `policy.template.user`.* bash type \$'",
        ),
        (["--model.reference.mode", "online"], r"`model.init_args.reference`, whose .* type --reference in place of"),
        (["--trainer.accelerator", "tpu"], "expected a TPU .* type --trainer.accelerator cpu"),
        (["--trainer.accelerator", "gpus"], "`trainer.accelerator` to be one of auto, .* --trainer.accelerator gpu$"),
        (
            ["--trainer.min_epochs", "3", "--trainer.max_epochs", "2"],
            "`trainer.min_epochs` of at most `trainer.max_epochs: 2`, .* got 3; type --trainer.max_epochs 3, or",
        ),
        (
            ["--trainer.min_steps", "5", "--trainer.max_steps", "4"],
            "`trainer.min_steps` of at most `trainer.max_steps: 4`, .* got 5; type --trainer.max_steps 5, or",
        ),
        (["--trainer.devices", "0"], "`trainer.devices` to be a number from 1 or auto, got 0"),
        (["--trainer.devices", "[0,1]"], r"number from 1 or auto, got \[0, 1\]; type --trainer.devices 1"),
        (["--trainer.strategy", "fsdpp"], "settings of `trainer` that Lightning takes.*fsdpp"),
        (["--data.max_tokens", "10"], "max_tokens` to at least"),
        (["--data.max_length", "8", "--data.on_overlength", "skip"], "expected examples in the train split, got none"),
        (
            ["--data.share_prompts", "together", "--policy.rope.type", "dynamic", "--policy.rope.factor", "2"],
            "share_prompts auto",
        ),
        (
            ["--data.share_prompts", "together", "--data.rows_by", "all_views"],
            "type --data.init_args.rows_by objective",
        ),
        (["--trainer.max_epochs", "0"], r"got `trainer.max_epochs: 0`; type --trainer.max_epochs 1, or validate"),
        (["--trainer.max_steps", "0"], r"got `trainer.max_steps: 0`; type --trainer.max_steps 100"),
        (["--trainer.limit_train_batches", "0"], r"at least one step, got `trainer.limit_train_batches: 0"),
        (["--trainer.val_check_interval", "1000"], r"at most the \d+ rows of an epoch, got 1000; type --trainer"),
    ],
)
def test_a_mistake_is_one_line_before_a_model_is_loaded(arguments, expected, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    monkeypatch.setattr("lightning.fabric.accelerators.cuda.num_cuda_devices", lambda: 0)
    monkeypatch.setattr("lightning.fabric.accelerators.mps._get_all_available_mps_gpus", list)
    assert re.search(expected, refused(*arguments))
    assert not list(Path().glob("runs/lightning_logs/*"))  # the first run that trains is `version_0`


def test_a_rate_that_is_no_number_is_one_line(tmp_path):
    (tmp_path / "nan.yaml").write_text("optimization: {optimizer: {class_path: FusedAdamW, init_args: {lr: .nan}}}\n")
    assert "got others (Invalid learning rate: nan)" in refused("--config", "nan.yaml")


@pytest.mark.parametrize(
    ("package", "arguments"),
    [("wandb", ["--trainer.logger", "WandbLogger"]), ("deepspeed", ["--config", "overlays/deepspeed_zero2"])],
)
def test_a_missing_package_is_one_line(package, arguments, monkeypatch):
    plain = builtins.__import__

    def without(name, *rest, **options):
        if name.partition(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return plain(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr("lightning.pytorch.loggers.wandb._WANDB_AVAILABLE", RequirementCache("wandb>=999"))
    monkeypatch.setattr("lightning.pytorch.strategies.deepspeed._DEEPSPEED_AVAILABLE", False)
    assert f"pip install {package}" in refused(*arguments).replace("-U ", "")


def test_a_validation_over_epochs_may_be_far_apart():
    with pytest.raises(AssertionError, match="being loaded"):
        refused("--trainer.val_check_interval", "1000", "--trainer.check_val_every_n_epoch", "null")


def test_home_folders_of_yaml_are_the_users_and_variables_are_refused(monkeypatch, tmp_path):
    """Checkpoints went to a folder called `~`, or ended in an error behind the first step (Lightning#19059)."""
    monkeypatch.setenv("HOME", str(tmp_path))
    kept = '[{"class_path": "ModelCheckpoint", "init_args": {"dirpath": "~/kept"}}]'
    where = ("--trainer.default_root_dir=~/runs", "--trainer.logger", "CSVLogger", "--trainer.callbacks", kept)
    made = build("--config", CONFIGS / "orpo.yaml", *where, "--data.token_cache=~/tokens")
    assert made.trainer.logger.save_dir == f"{tmp_path}/runs"
    assert made.trainer.checkpoint_callback.dirpath == f"{tmp_path}/kept"
    assert made.datamodule.token_cache == f"{tmp_path}/tokens"
    assert "got '${HOME}/runs'; type the path" in refused("--trainer.default_root_dir", "${HOME}/runs")


def test_home_folders_of_others_are_theirs_and_of_nobody_a_line():
    """Runs went to a folder called `~root` in the current one."""
    root = os.path.expanduser("~root")
    assert expand_homes({"default_root_dir": "~root/runs"}) == {"default_root_dir": f"{root}/runs"}
    with pytest.raises(RuntimeError) as caught:
        expand_homes({"default_root_dir": "~nobody-here/runs"})
    assert "type the whole path" in message_for_user(caught.value)
    assert expand_homes({"instruction": "~half/half of them"}) == {"instruction": "~half/half of them"}
    assert expand_homes({"instruction": "~50/100"}) == {"instruction": "~50/100"}  # no user's name begins with a digit


def test_a_text_that_begins_with_a_price_names_no_variable():
    assert expand_homes({"instruction": "$5/hour is paid"}) == {"instruction": "$5/hour is paid"}
    assert expand_homes({"instruction": "$name/age of whom?"}) == {"instruction": "$name/age of whom?"}


def test_a_share_of_no_row_is_refused():
    """A line advised more epochs of no steps, and Lightning said so when all was loaded."""
    train, val = (refused(f"--trainer.limit_{split}_batches", "0.01") for split in ("train", "val"))
    assert "at least one row, got `trainer.limit_train_batches: 0.01` of " in train
    assert "at least one row, got `trainer.limit_val_batches: 0.01`; type --trainer.limit_val_batches 1" in val
