"""A run goes on from a checkpoint of its own kind, or says why not; through the real command line."""

import csv
import shlex
import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model
from support.command_line import CONFIGS
from transformers import AutoModelForCausalLM

from lit_longpo import __main__ as command
from lit_longpo.checkpoints import newest_whole, read_record, read_weights
from lit_longpo.policy import PolicyConfig

SMALL = (
    *("--data.init_args.num_train", "16", "--data.init_args.num_val", "0", "--data.init_args.max_tokens", "1024"),
    *("--data.init_args.long_words", "[32,48]", "--data.init_args.short_words", "16"),
    *("--trainer.callbacks", "[{class_path: ModelCheckpoint, init_args: {every_n_train_steps: 1, save_last: true}}]"),
    *("--trainer.logger", "false", "--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"),
    *("--trainer.accumulate_grad_batches", "1", "--trainer.max_epochs", "-1"),
)


def fit(folder, *arguments, objective="dpo", steps=2):
    where = ("--trainer.default_root_dir", folder, "--trainer.max_steps", steps)
    words = ("fit", "--config", CONFIGS / f"{objective}.yaml", *SMALL, *where, *arguments)
    command.main([str(word) for word in words])


def refusal(folder, *arguments, **options):
    with pytest.raises(SystemExit, match=r"^error: ") as stopped:
        fit(folder, *arguments, **options)
    message = str(stopped.value)
    assert len(message.splitlines()) == 1
    return message


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two steps of DPO, and the checkpoint of their end."""
    folder = tmp_path_factory.mktemp("trained")
    fit(folder)
    return folder, folder / "checkpoints/last.ckpt"


@pytest.fixture
def again(trained, tmp_path):
    """A copy, for runs that write."""
    shutil.copytree(trained[0], tmp_path / "runs")
    return tmp_path / "runs", tmp_path / "runs/checkpoints/last.ckpt"


def test_the_record_says_what_was_trained(trained):
    settings = read_record(trained[1])["settings"]
    assert settings["model"] == "DPO"
    assert (settings["model.beta"], settings["model.context"]) == (0.1, "long")
    assert (settings["optimization.optimizer.lr"], settings["optimization.schedule"]) == (1e-3, "cosine")
    assert (settings["policy.source"], settings["policy.lora"]) == ("embedded", None)
    assert settings["data.max_tokens"] == 1024


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--optimization.optimizer.lr", "1e-5"], "`optimization.optimizer.lr` 0.001, now 1e-05"),
        (["--optimization.schedule", "linear"], "`optimization.schedule` cosine, now linear"),
        (["--model.beta", "0.3"], "`model.beta` 0.1, now 0.3"),
        (["--policy.lora.r", "4"], "`policy.lora` null, now LoRA"),
        (["--policy.rope.theta", "1e6"], "`policy.rope` null, now RoPE"),
        (["--data.num_workers", "1"], "`data.num_workers` 0, now 1"),  # the loader's place cannot be taken over
        (["--reference.policy.source", "embedded"], "`reference.policy` null, now PolicyConfig"),
    ],
)
def test_what_changes_the_training_is_refused(trained, arguments, words):
    folder, checkpoint = trained
    message = refusal(folder, "--ckpt_path", checkpoint, *arguments, steps=3)
    assert words in message
    name, then = words.split("`")[1], words.split("` ")[1].split(",")[0]
    assert f"type --{name} {then}, or start anew" in message
    assert f"--initial_weights {checkpoint}" in message


def test_another_objective_is_refused_by_its_name_alone(trained):
    message = refusal(trained[0], "--ckpt_path", trained[1], objective="simpo", steps=3)
    assert "`model` DPO, now SimPO" in message
    assert "beta" not in message


def test_other_data_are_refused(trained):
    arguments = ("--ckpt_path", trained[1], "--data.init_args.num_train", "20")
    assert "expected the training data of" in refusal(trained[0], *arguments, steps=3)


def test_other_weights_at_the_old_place_are_refused(tmp_path):
    source, runs = tmp_path / "source", tmp_path / "runs"
    model = PolicyConfig().load_base()
    shutil.copytree(PolicyConfig().files.folder, source)
    fit(runs, "--policy.source", source)
    shutil.move(source, tmp_path / "moved")
    checkpoint = ("--ckpt_path", runs / "checkpoints/last.ckpt")
    fit(runs, *checkpoint, "--policy.source", tmp_path / "moved", steps=3)
    with torch.no_grad():
        model.get_input_embeddings().weight += 0.01
    model.save_pretrained(tmp_path / "moved")
    message = refusal(runs, *checkpoint, "--policy.source", tmp_path / "moved", steps=4)
    assert "policy.source" in message


def test_another_reference_at_the_old_place_is_refused(tmp_path):
    source, runs = tmp_path / "source", tmp_path / "runs"
    shutil.copytree(PolicyConfig().files.folder, source)
    fit(runs, "--reference.policy.source", source, steps=1)
    shutil.move(source, tmp_path / "moved")
    checkpoint = ("--ckpt_path", runs / "checkpoints/last.ckpt", "--reference.policy.source", tmp_path / "moved")
    fit(runs, *checkpoint, steps=2)
    model = PolicyConfig().load_base()
    with torch.no_grad():
        model.get_input_embeddings().weight += 0.01
    model.save_pretrained(tmp_path / "moved")
    assert "`reference.policy.source`" in refusal(runs, *checkpoint, steps=3)


@pytest.mark.parametrize(
    "how",
    [pytest.param(("--policy.adapters", "merge", "--policy.lora.r", "2"), marks=pytest.mark.slow), ()],
    ids=["merged", "continued"],
)
def test_other_adapters_on_the_same_base_are_refused(how, tmp_path):
    """Elsewhere or at the old place; the same ones may move."""
    for seed, name in enumerate(("one", "two")):
        torch.manual_seed(seed)
        base = AutoModelForCausalLM.from_pretrained(PolicyConfig().files.folder)
        settings = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
        get_peft_model(base, settings).save_pretrained(tmp_path / name)
    runs = tmp_path / "runs"
    fit(runs, "--policy.source", tmp_path / "one", *how, steps=1)
    checkpoint = ("--ckpt_path", runs / "checkpoints/last.ckpt", *how)
    message = refusal(runs, *checkpoint, "--policy.source", tmp_path / "two", steps=2)
    assert f"type --policy.source {tmp_path / 'one'}, or start anew" in message
    shutil.move(tmp_path / "one", tmp_path / "moved")
    shutil.copytree(tmp_path / "two", tmp_path / "one")
    assert "policy.source" in refusal(runs, *checkpoint, "--policy.source", tmp_path / "one", steps=2)
    fit(runs, *checkpoint, "--policy.source", tmp_path / "moved", steps=2)
    assert read_record(newest_whole(runs))["step"] == 2


def test_the_rate_ends_with_the_training_whatever_a_step_was_before(tmp_path, caplog):
    """With half the steps left it had ended before them: they were trained at a rate of 0, that rose again."""
    epoch = (
        "--data.max_examples",
        "2",
        "--trainer.max_epochs",
        "1",
        "--optimization.schedule",
        "linear",
        "--optimization.warmup_fraction",
        "0",
    )
    fit(tmp_path, *epoch, steps=2)
    checkpoint = newest_whole(tmp_path)
    assert read_record(checkpoint)["schedule_steps"] == 2
    fit(tmp_path, *epoch, "--ckpt_path", checkpoint, "--trainer.accumulate_grad_batches", "2", steps=-1)
    record = read_record(newest_whole(tmp_path))
    assert record["schedule_steps"] == record["step"] == 2 + 6 / 2
    assert "over 5 steps, until here over 2" in caplog.text


def test_the_first_step_behind_a_checkpoint_has_the_rate_of_the_longer_schedule(tmp_path):
    """It had the rate with which the shorter one ended, so a finished training that went on had a step at 0."""
    rates = ("--optimization.schedule", "linear", "--optimization.warmup_fraction", "0")
    fit(tmp_path, *rates, steps=2)
    logged = ("--trainer.logger", "CSVLogger", "--trainer.log_every_n_steps", "1")
    fit(tmp_path, *rates, *logged, "--ckpt_path", newest_whole(tmp_path), steps=4)
    (file,) = tmp_path.rglob("metrics.csv")
    rows = list(csv.DictReader(file.open()))
    read = {int(row["step"]): float(row["train/learning_rate"]) for row in rows if row["train/learning_rate"]}
    assert read == pytest.approx({2: 1e-3 * 2 / 4, 3: 1e-3 * 1 / 4})


def test_what_does_not_change_the_training_passes(again, caplog):
    folder, checkpoint = again
    arguments = ("--policy.gradient_checkpointing", "true", "--policy.tile_tokens", "16")
    clipping = ("--trainer.gradient_clip_val", "0.5", "--trainer.gradient_clip_algorithm", "value")
    fit(folder, "--ckpt_path", checkpoint, *arguments, *clipping, "--trainer.limit_train_batches", "5", steps=3)
    assert read_record(newest_whole(folder))["step"] == 3
    said = next(record.getMessage() for record in caplog.records if "changed settings" in record.getMessage())
    assert said == (
        "going on with changed settings: `trainer.gradient_clip_val` 1.0, now 0.5, "
        "`trainer.gradient_clip_algorithm` null, now value, `trainer.limit_train_batches` 1.0, now 5"
    )
    assert "the learning rate now follows its schedule over 3 steps, until here over 2" in caplog.text


def test_last_is_no_checkpoint_of_another_seed(again, caplog):
    """A finished run of one seed was the next one's result: nothing was trained, and its model written once more."""
    folder, checkpoint = again
    before = read_weights(checkpoint)
    fit(folder, "--seed_everything", "7", "--ckpt_path", "last", steps=1)
    assert "last.ckpt: it was trained with `seed_everything` 42, now 7" in caplog.text
    assert "starting at step 0" in caplog.text
    assert read_record(newest_whole(folder))["step"] == 1
    assert any(not torch.equal(value, before[name]) for name, value in read_weights(newest_whole(folder)).items())
    fit(folder, "--seed_everything", "7", "--ckpt_path", checkpoint, steps=3)  # named, it may go on
    assert "going on with changed settings: `seed_everything` 42, now 7" in caplog.text


def test_last_is_no_checkpoint_of_other_initial_weights(again, caplog):
    """As with seeds: what started from one stage's weights was the result of a start from another's, finished."""
    folder, checkpoint = again
    fit(folder / "other", "--seed_everything", "7", steps=1)
    one, other = folder / "one.ckpt", folder / "other.ckpt"
    shutil.copy(checkpoint, one)
    shutil.copy(folder / "other/checkpoints/last.ckpt", other)
    for start in (one, other):
        fit(folder / "next", "--initial_weights", start, "--ckpt_path", "last", steps=1)
    assert f"it was trained with `initial_weights` {one}, now {other}" in caplog.text
    assert "going on from" not in caplog.text
    fit(folder / "next", "--initial_weights", other, "--ckpt_path", "last", steps=2)
    assert "going on from" in caplog.text
    last = newest_whole(folder / "next")
    fit(folder / "next", "--initial_weights", one, "--ckpt_path", last, steps=3)  # named, it may go on
    assert f"going on with changed settings: `initial_weights` {other}, now {one}" in caplog.text
    fit(folder / "next", "--ckpt_path", "last", steps=1)
    assert "now null" in caplog.text


def test_initial_weights_are_told_apart_by_what_they_hold(again, caplog):
    """A first stage that was trained anew into the same place was taken for the one that the second began with."""
    folder, checkpoint = again
    fit(folder / "next", "--initial_weights", checkpoint, "--ckpt_path", "last", steps=1)
    moved = checkpoint.rename(folder / "moved.ckpt")
    fit(folder / "next", "--initial_weights", moved, "--ckpt_path", "last", steps=2)
    assert "going on from" in caplog.text
    caplog.clear()
    fit(folder / "anew", "--seed_everything", "7", steps=2)
    shutil.copy(folder / "anew/checkpoints/last.ckpt", moved)
    fit(folder / "next", "--initial_weights", moved, "--ckpt_path", "last", steps=1)
    assert (
        f"it was trained with `initial_weights` {moved}, now {shlex.quote(f'{moved} with other files')}" in caplog.text
    )
    assert "going on from" not in caplog.text


def test_initial_weights_are_said_not_to_be_the_references(again, caplog):
    """DPO from a first stage's weights began at a loss of 0.04, not ln 2; a page alone said why."""
    folder, checkpoint = again
    said = "the reference stays embedded, not these weights"
    fit(folder / "next", "--initial_weights", checkpoint, steps=1)
    assert said in caplog.text
    caplog.clear()
    fit(folder / "simpo", "--initial_weights", checkpoint, objective="simpo", steps=1)
    assert "initial weights: those of" in caplog.text
    assert said not in caplog.text


def test_a_training_that_ends_before_the_checkpoint_is_refused(again):
    """Nothing was trained, and a model of more steps, or of another number of epochs, was called finished."""
    folder, checkpoint = again
    for named in ("last", checkpoint):
        said = refusal(folder, "--ckpt_path", named, steps=1)
        assert f"ends behind {checkpoint} (step 2, 1 epochs begun), got `trainer.max_steps: 1`; type " in said
        assert "type --trainer.max_steps 3 or more to go on" in said
    fit(folder, "--ckpt_path", checkpoint, steps=4)
    said = refusal(folder, "--ckpt_path", "last", "--trainer.max_epochs", "1", steps=-1)
    assert "(step 4, 2 epochs begun), got `trainer.max_epochs: 1`; type --trainer.max_epochs 3 or more" in said
    said = refusal(folder, "--ckpt_path", "last", "--trainer.max_epochs", "1", steps=3)
    assert "got `trainer.max_steps: 3` and `trainer.max_epochs: 1`; type --trainer.max_steps 5 --trainer.max_ep" in said


def test_a_training_that_is_over_says_that_nothing_is_trained(again, caplog):
    fit(again[0], "--ckpt_path", "last", steps=2)
    assert "nothing is trained: the checkpoint is the end of this training, at step 2;" in caplog.text
    assert "a larger --trainer.max_steps than 2" in caplog.text
    caplog.clear()
    fit(again[0], "--ckpt_path", "last", steps=3)
    assert "nothing is trained" not in caplog.text


def test_rows_that_are_dealt_otherwise_are_named_at_an_epochs_end(again, caplog):
    """In mid-epoch they are refused; from here on no row of before is left."""
    folder, checkpoint = again
    contents = torch.load(checkpoint, weights_only=True)
    assert contents["run"]["settings"]["data.share_prompts"] == "auto"
    fit(folder, "--ckpt_path", checkpoint, "--data.init_args.share_prompts", "null", steps=3)
    assert "going on with changed settings: `data.share_prompts` auto, now null" in caplog.text


def test_an_epoch_is_not_made_shorter_than_what_was_trained_of_it(tmp_path):
    """A row more was trained, and then records were "lost or doubled"."""
    fit(tmp_path, "--data.init_args.num_train", "32", steps=3)  # of four rows
    again = ("--data.init_args.num_train", "32", "--ckpt_path", tmp_path / "checkpoints/last.ckpt")
    for limit in (1, 2, 3):  # 1 is one row, 1.0 all
        said = refusal(tmp_path, *again, "--trainer.limit_train_batches", limit, steps=6)
        assert f"leave more than the 3 rows of this epoch that the checkpoint was trained on, got {limit};" in said


def test_rows_that_are_dealt_otherwise_in_mid_epoch_are_refused_and_named(tmp_path, caplog):
    fit(tmp_path, "--data.init_args.num_train", "32", steps=3)  # of four rows
    again = ("--data.init_args.num_train", "32", "--ckpt_path", tmp_path / "checkpoints/last.ckpt")
    said = refusal(tmp_path, *again, "--data.init_args.max_tokens", "800", steps=6)
    assert "type its value of what `going on with changed settings` names above" in said
    assert "going on with changed settings: `data.max_tokens` 1024, now 800" in caplog.text


def test_weights_only_start_anew_with_other_settings(again, caplog):
    folder, checkpoint = again
    before = read_weights(checkpoint)
    fit(folder / "anew", "--initial_weights", checkpoint, "--optimization.optimizer.lr", "1e-9", steps=1)
    after, record = (read(folder / "anew/checkpoints/last.ckpt") for read in (read_weights, read_record))
    assert record["step"] == 1
    assert f"initial weights: those of {checkpoint}" in caplog.text
    for name, weight in before.items():
        torch.testing.assert_close(after[name], weight, rtol=0, atol=1e-7)


def test_weights_that_are_not_there_are_told_before_the_model_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(PolicyConfig, "load", lambda self: pytest.fail("the model was loaded"))
    message = refusal(tmp_path, "--initial_weights", tmp_path / "lost.ckpt")
    assert f"expected a whole checkpoint at {tmp_path / 'lost.ckpt'}, but it is not there" in message


def test_weights_of_other_adapters_are_refused(tmp_path):
    lora = ("--policy.lora.r", "2", "--policy.lora.alpha")
    fit(tmp_path, *lora, "4", steps=1)
    message = refusal(tmp_path, *lora, "8", "--initial_weights", tmp_path / "checkpoints/last.ckpt")
    assert "expected `policy.lora.alpha: 4" in message


def test_a_checkpoint_that_says_nothing_is_gone_on_from_with_a_word(again, caplog):
    folder, checkpoint = again
    contents = torch.load(checkpoint, weights_only=True)
    del contents["run"]["settings"]
    torch.save(contents, checkpoint)
    fit(folder, "--ckpt_path", checkpoint, steps=3)
    assert "does not say what it was trained with" in caplog.text
    assert read_record(newest_whole(folder))["step"] == 3


def test_last_is_that_of_this_objective_and_data(again, caplog):
    folder, checkpoint = again
    fit(folder / "sft", objective="sft", steps=3)
    fit(folder / "other data", "--data.init_args.num_train", "20", steps=3)
    shutil.copy(newest_whole(folder / "sft"), folder / "newer.ckpt")
    caplog.clear()
    fit(folder, "--ckpt_path", "last", steps=3)
    passed = [record.message for record in caplog.records if record.message.startswith("passing over")]
    assert len(passed) == 2  # one for all of other settings, one for all of other data
    assert "more like it)" not in passed[0]  # the one in `sft` is older than one that was looked at
    assert f"going on from {checkpoint}" in caplog.text
    assert "`model` SFT, now DPO" in caplog.text
    assert "other data/checkpoints/last.ckpt: it was trained on other data" in caplog.text
    assert read_record(newest_whole(folder))["step"] == 3


def test_no_checkpoint_of_this_kind_means_step_0(again, caplog):
    folder, _ = again
    fit(folder, "--ckpt_path", "last", objective="simpo", steps=1)
    assert "starting at step 0" in caplog.text
    record = read_record(newest_whole(folder))
    assert (record["objective"], record["step"]) == ("SimPO", 1)


@pytest.mark.parametrize("bar", [pytest.param("RichProgressBar", marks=pytest.mark.slow), "TQDMProgressBar"])
def test_a_run_that_ended_before_its_model_was_written_writes_it(bar, tmp_path):
    kinds = ("ThroughputCallback", "NonFiniteGuard", "SavePretrained", bar)
    others = ", ".join(f"{{class_path: {kind}}}" for kind in kinds)
    save = "{class_path: ModelCheckpoint, init_args: {every_n_train_steps: 1, save_last: true}}"
    more = ("--trainer.callbacks", f"[{save}, {others}]", "--trainer.enable_progress_bar", "true")
    fit(tmp_path, *more, "--data.num_val", "4")
    shutil.rmtree(tmp_path / "model")
    fit(tmp_path, *more, "--data.num_val", "4", "--ckpt_path", "last")
    card = (tmp_path / "model/README.md").read_text()
    assert "| what | value |\n| --- | --- |\n\n" not in card
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    for name, weight in read_weights(newest_whole(tmp_path)).items():
        torch.testing.assert_close(model.state_dict()[name], weight)
