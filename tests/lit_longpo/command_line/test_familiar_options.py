"""Options of other projects are answered with ours, and those exist."""

import shlex

import pytest
from support.command_line import parse

from lit_longpo.command_line.familiar_options import (
    _BEST,
    _FAMILIAR,
    _MEANING,
    _SAVING,
    _STOPPING,
    familiar,
    not_offered,
)
from lit_longpo.command_line.parser import SuggestingParser
from lit_longpo.objectives import SoLoPO
from lit_longpo.optimization import Optimization
from lit_longpo.policy import PolicyConfig

ANY = {"policy", "trainer", "data", "model", "optimization", "reference", "config", "ckpt_path", "seed_everything"}


def test_every_option_that_is_named_exists():
    """All on one command line, which would not be parsed otherwise."""
    named = {option.ours[0] for option in _FAMILIAR.values()} - {"--model DPO"}
    values = " ".join(named).replace("FOLDER_OR_HUB_NAME", "x").replace("FOLDER", "x").replace("FILE", "x")
    values = values.replace("--ckpt_path last", "")  # of `fit`, which is not parsed to its end here
    for callback in (_SAVING, _BEST, _STOPPING):  # their own test
        values = values.replace(callback, "")
    simpo = ["--config", "simpo", "--model.gamma", "0.5"]
    parsed = parse(*simpo, *[word for word in shlex.split(values) if word not in ("--model.gamma", "0.5")])
    assert parsed.optimization.optimizer.init_args.lr == 1e-6
    assert parsed.trainer.devices in (8, "8")


@pytest.mark.parametrize(
    ("word", "ours"),
    [
        ("lr", "--optimization.optimizer.lr"),
        ("learning-rate", "--optimization.optimizer.lr"),
        ("per_device_train_batch_size", "--data.max_examples"),
        ("gradient_accumulation_steps", "--trainer.accumulate_grad_batches"),
        ("num_train_epochs", "--trainer.max_epochs"),
        ("max_prompt_length", "--data.max_length"),
        ("model_name_or_path", "--policy.source"),
        ("output_dir", "--trainer.default_root_dir"),
    ],
)
def test_names_of_trl_and_llama_factory(word, ours):
    assert familiar(word, ANY).split()[0] == ours


def test_a_command_names_only_what_it_has():
    assert familiar("batch_size", {"batching", "policy"}).startswith("--batching.max_batch_tokens 16384 ")
    assert familiar("output_dir", {"output"}) == "--output FOLDER"
    assert familiar("lr", {"policy"}) is None
    assert familiar("policy", ANY) is None


@pytest.mark.parametrize(
    ("word", "typed", "ours"),
    [
        ("loss_type", "ipo", "--model IPO --model.per_token true"),
        ("loss_type", "sigmoid", "--model DPO"),
        ("loss_type", "['ipo']", "--model IPO --model.per_token true"),  # DPOConfig has a list
        ("rl", "simpo", "--model SimPO"),
        ("learning_rate", "1e-5", "--optimization.optimizer.lr 1e-5"),
        ("optimization.lr", "3e-6", "--optimization.optimizer.lr 3e-6"),
        ("beta", "0.2", "--model.beta 0.2"),
        ("lora_r", "8", "--policy.lora.r 8"),
        (
            *("lora_rank", "8"),
            "--policy.lora.r 8 (without lora_alpha LLaMA-Factory's is twice it, here 32 or the recipe's)",
        ),
        ("lr_scheduler_type", "linear", "--optimization.schedule linear"),
        ("num_train_epochs", "3.0", "--trainer.max_epochs 3"),
        ("bf16", "True", "--policy.dtype bfloat16"),
        ("lora_target", "q_proj,v_proj", "--policy.lora.target_modules '[q_proj,v_proj]'"),
        ("lora_target", "all", "--policy.lora.target_modules all-linear"),
        ("lora_target_linear", "True", "--policy.lora.target_modules all-linear"),
        ("lora_target_modules", "[all-linear]", "--policy.lora.target_modules all-linear"),  # a list in TRL's YAML
        ("per_device_train_batch_size", "4", "--data.max_examples 4"),  # as the table of docs/start.md
        ("datasets", "[{'path': 'my.jsonl', 'type': 'chatml.intel'}]", "--data data/pairs --data.path FILE"),
        ("load_in_4bit", "true", "--policy.quantization 4bit"),
        ("dataset_name", "My Pairs.jsonl", "--data data/pairs --data.path 'My Pairs.jsonl'"),
        ("dataset", "mine", "--data data/pairs --data.path mine (a file, not its name in dataset_info.json)"),
        ("create_new_adapter", "true", "--policy.adapters merge"),
        ("max_samples", "1000", "--data.first 1000"),
        ("resume_from_checkpoint", "Runs/A.ckpt", "--ckpt_path Runs/A.ckpt"),
        ("router_aux_loss_coef", "0.01", "--optimization.router_loss 0.01"),
        ("save_steps", "50", "--trainer.callbacks+ ModelCheckpoint --trainer.callbacks.every_n_train_steps 50"),
        (
            *("early_stopping_patience", "2"),
            "--trainer.callbacks+ EarlyStopping --trainer.callbacks.monitor val/loss --trainer.callbacks.patience 2",
        ),
        ("use_dora", "true", "--policy.lora.use_dora true"),
        ("data_seed", "3", "--data.seed 3"),
        ("bf16", "False", "--policy.dtype float32"),
        ("fp16", "false", "--policy.dtype float16, and is off unless it is typed"),  # beside bf16: true in many files
        ("lora_target_linear", "false", "--policy.lora.target_modules '[NAMES]'"),  # of lora_target_modules beside it
        ("flash_attention", "false", "--policy.attention sdpa"),
        ("activation_offloading", "False", "--policy.gradient_checkpointing offload, and is off unless it is typed"),
        ("use_peft", "false", "--policy.lora.r 16, and is off unless it is typed"),
        ("resume_from_checkpoint", "false", "--ckpt_path last, and is off unless it is typed"),
    ],
)
def test_the_typed_value_is_carried_over(word, typed, ours):
    """Who copies the answer trains what was meant."""
    assert familiar(word, ANY, typed) == ours


@pytest.mark.parametrize(
    ("word", "typed", "note"),
    [
        ("loss_type", "hinge", "hinge is not offered"),
        ("loss_type", "[sigmoid,sft]", "[sigmoid,sft] is not offered"),
        ("metric_for_best_model", "eval_loss", "val/loss"),
        ("lr_scheduler_type", "polynomial", "polynomial is not offered"),
        ("warmup_steps", "100", "share"),
        ("per_device_eval_batch_size", "2", "tokens of a batch"),
        ("val_size", "100", "100 is not offered"),
    ],
)
def test_values_that_mean_something_else_are_examples(word, typed, note):
    answer = familiar(word, ANY, typed)
    assert "(for example: " in answer
    assert note in answer


def test_what_is_meant_here_is_said_of_options_that_are_named():
    assert {*_MEANING} <= {ours.rsplit(" ", 1)[0] for option in _FAMILIAR.values() for ours in option.ours}


def test_what_is_not_offered_is_said():
    assert "not offered" in not_offered("label_smoothing")
    assert "--policy.lora null" in not_offered("finetuning_type")
    assert "--model SFT for sft" in not_offered("stage")  # whatever stood there, DPO was named
    assert "(LoRA+) is not offered" in not_offered("loraplus_lr_ratio")
    assert "the model's own chat template is used, leave it out" in not_offered(
        "template"
    )  # a message's text was shown
    assert "made with peft" in not_offered("init_lora_weights")
    assert "--model SimPO and --model ORPO have none" in not_offered("reference_free")  # "did you mean reference?"
    assert "type their product: --model.beta 2.0 --model.gamma 1.0 (for 0.5)" in not_offered("gamma_beta_ratio")
    assert "--model ORPO" in not_offered("loss_weights")
    assert "not offered" in not_offered("f_divergence_type")
    assert not_offered("lr") is None


def test_what_adapters_are_told_elsewhere_is_called_otherwise_here():
    assert familiar("modules_to_save", ANY).startswith("--policy.lora.also_train")
    assert familiar("trainable_token_indices", ANY).startswith("--policy.added_tokens")


@pytest.mark.parametrize(
    ("options", "argument", "value"),
    [(_SAVING, "every_n_train_steps", 100), (_BEST, "monitor", "val/loss"), (_STOPPING, "patience", 3)],
)
def test_callbacks_that_are_named_are_parsed(options, argument, value):
    """Each by itself: options behind `callbacks+` are of the last one."""
    parsed = parse("--config", "real/dpo", *options.split())
    assert parsed.trainer.callbacks[-1].init_args[argument] == value


@pytest.mark.parametrize("words", [["--lr", "1e-5"], ["--lr=1e-5", "--model_name_or_path", "x"]])
def test_the_answer_is_one_line(words, capsys):
    parser = SuggestingParser()
    parser.add_class_arguments(Optimization, "optimization")
    parser.add_class_arguments(PolicyConfig, "policy")
    parser.add_subclass_arguments(SoLoPO, "model")
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(words)
    error, _ = capsys.readouterr().err.splitlines()
    assert "here it is called --optimization.optimizer.lr 1e-5" in error
    assert ("--model_name_or_path: here it is called --policy.source x" in error) == (len(words) > 2)


YAML = {
    "learning_rate: 1.0e-5": "--optimization.optimizer.lr 1.0e-5",
    "optimization:\n  learning_rate: 3e-6": "--optimization.optimizer.lr 3e-6",
    "optimization:\n  scheduler: polynomial": "--optimization.schedule cosine (for example: polynomial is not offered)",
    "optimization:\n  lr:": "--optimization.optimizer.lr 1e-6 (for example)",
    "lora_target: [q_proj, v_proj]": "--policy.lora.target_modules '[q_proj,v_proj]'",
    "gradient_checkpointing: true": "--policy.gradient_checkpointing true",
}


@pytest.mark.parametrize("content", YAML)
def test_in_yaml_too(content, tmp_path, capsys):
    """With the value that stands there."""
    (tmp_path / "theirs.yaml").write_text(f"{content}\n")
    parser = SuggestingParser()
    parser.add_argument("--config", action="config")
    parser.add_class_arguments(Optimization, "optimization")
    parser.add_class_arguments(PolicyConfig, "policy")
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(["--config", str(tmp_path / "theirs.yaml")])
    error, _ = capsys.readouterr().err.splitlines()
    assert error.endswith(f"here it is called {YAML[content]}")


@pytest.mark.parametrize("recipe", [(), ("--config", "real/dpo")])
def test_a_whole_file_of_another_project_is_answered(recipe, tmp_path, capsys):
    """Alone it gives no objective, and it may ask to run code: neither is what is wrong with it."""
    file = tmp_path / "theirs.yaml"
    file.write_text("model_name_or_path: x\ntrust_remote_code: true\nstage: dpo\nlearning_rate: 1.0e-5\n")
    with pytest.raises(SystemExit, match="2"):
        parse(*recipe, "--config", file)
    error = capsys.readouterr().err.splitlines()[0]
    assert f"in {file}, got model_name_or_path: --policy.source x; trust_remote_code: " in error
    assert error.endswith("; learning_rate: --optimization.optimizer.lr 1.0e-5")


LLAMA_FACTORY = """
model_name_or_path: meta-llama/Meta-Llama-3-8B-Instruct
adapter_name_or_path: saves/llama3-8b/lora/sft
trust_remote_code: true
stage: dpo
do_train: true
finetuning_type: lora
lora_rank: 8
lora_target: all
pref_beta: 2.5
pref_loss: simpo
simpo_gamma: 1.0
dataset: my_pairs
template: llama3
cutoff_len: 2048
max_samples: 1000
overwrite_cache: true
preprocessing_num_workers: 16
dataloader_num_workers: 4
output_dir: saves/llama3-8b/lora/simpo
logging_steps: 10
save_steps: 500
plot_loss: true
overwrite_output_dir: true
save_only_model: false
report_to: none
per_device_train_batch_size: 1
gradient_accumulation_steps: 8
learning_rate: 5.0e-6
num_train_epochs: 3.0
lr_scheduler_type: cosine
warmup_ratio: 0.1
bf16: true
ddp_timeout: 180000000
resume_from_checkpoint: null
val_size: 0.1
per_device_eval_batch_size: 1
eval_strategy: steps
eval_steps: 500
"""


def test_nothing_is_cut_from_the_answer_to_a_whole_file(tmp_path, capsys):
    """Every word came twice, so the middle was left out: there stood the loss, the data and the length."""
    file = tmp_path / "theirs.yaml"
    file.write_text(LLAMA_FACTORY)
    with pytest.raises(SystemExit, match="2"):
        parse("--config", file)
    error = capsys.readouterr().err.splitlines()[0]
    assert "characters) ..." not in error
    for line in LLAMA_FACTORY.strip().splitlines():
        word = line.partition(":")[0]
        assert f" {word}: " in error or f" {word}; " in error
    assert "pref_loss: --model SimPO; simpo_gamma: --model.gamma 1.0; dataset: --data data/pairs" in error
    assert "--policy.source saves/llama3-8b/lora/sft --policy.lora null" in error


@pytest.mark.parametrize("word", ["eval_strategy", "save_strategy", "my_strategy"])
def test_no_class_is_proposed_for_an_option(word, tmp_path, capsys):
    """Two of them stand in every YAML of TRL; they were answered with "did you mean XLAStrategy?"."""
    file = tmp_path / "theirs.yaml"
    file.write_text(f"learning_rate: 1.0e-5\n{word}: steps\n")
    with pytest.raises(SystemExit, match="2"):
        parse("--config", "real/dpo", "--config", file)
    assert "Strategy" not in capsys.readouterr().err
