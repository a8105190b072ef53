"""Typed values win over files, wherever they stand; through the real command line."""

import pytest
import yaml
from support.command_line import CONFIGS, parse

from lit_longpo import __main__ as command
from lit_longpo.command_line.precedence import typed_last, with_negative_values

DPO = ("--config", CONFIGS / "dpo.yaml")
OPTIMIZATION = "optimizer: {class_path: FusedAdamW, init_args: {lr: 1.0e-4}}\nschedule: linear\n"


@pytest.fixture
def files(tmp_path):
    contents = {
        "trainer": "max_steps: 40\nmax_epochs: -1\n",
        "optimization": OPTIMIZATION,
        "model": "{class_path: DPO, init_args: {beta: 0.5}}\n",
        "overlay": "trainer: {max_steps: 40}\nmodel: {init_args: {beta: 0.5}}\n",
    }
    for name, text in contents.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    return {name: tmp_path / f"{name}.yaml" for name in contents}


def test_a_typed_value_wins_over_a_file_that_comes_later(files):
    steps, rate = ("--trainer.max_steps", 7), ("--optimization.optimizer.lr", "1e-6")
    config = parse(*DPO, *steps, *rate, "--trainer", files["trainer"], "--optimization", files["optimization"])
    assert (config.trainer.max_steps, config.trainer.max_epochs) == (7, -1)
    assert (config.optimization.optimizer.init_args.lr, config.optimization.schedule) == (1e-6, "linear")
    assert parse(*steps, *DPO).trainer.max_steps == 7
    assert parse(*DPO, *steps, "--config", files["overlay"]).trainer.max_steps == 7
    assert parse(*DPO, "--model.beta=0.3", f"--model={files['model']}").model.init_args.beta == 0.3
    assert parse(*DPO, "--model.init_args.beta", 0.3, "--model", files["model"]).model.init_args.beta == 0.3


def test_of_two_files_and_of_two_typed_values_the_later_wins(files):
    assert parse(*DPO, "--trainer", files["trainer"], "--config", CONFIGS / "dpo.yaml").trainer.max_epochs == 1
    assert parse(*DPO, "--trainer.max_steps", 7, "--trainer.max_steps", 8).trainer.max_steps == 8


def test_a_changed_class_takes_its_own_defaults_and_says_so(caplog):
    for arguments in ((*DPO, "--model", "SimPO"), ("--model", "SimPO", *DPO)):
        model = parse(*arguments).model
        assert (model.class_path, model.init_args.beta) == ("lit_longpo.objectives.SimPO", 2.0)
    assert "SimPO instead of DPO starts from its own defaults, not from beta: 0.1, context: long" in caplog.text
    assert parse("--model.beta", 0.7, *DPO, "--model", "SimPO").model.init_args.beta == 0.7


@pytest.mark.parametrize(
    ("arguments", "section", "name", "default"),
    [
        (["--data", "PreferenceDataModule", "--data.path", "pairs.jsonl"], "data", "max_examples", None),
        (["--optimization.optimizer", "torch.optim.SGD"], "optimization.optimizer", "lr", 1e-3),
        (["--optimization.optimizer", "torch.optim.AdamW"], "optimization.optimizer", "betas", (0.9, 0.999)),
    ],
)
def test_so_does_every_other_class(arguments, section, name, default):
    assert parse(*DPO, *arguments)[section].init_args[name] == default


def test_so_does_the_base_of_solopo(files, tmp_path):
    (tmp_path / "base.yaml").write_text("model: {init_args: {base: {class_path: DPO, init_args: {beta: 0.5}}}}\n")
    solopo = ("--config", CONFIGS / "solopo.yaml", "--config", tmp_path / "base.yaml")
    assert parse(*solopo).model.init_args.base.init_args.beta == 0.5
    assert parse(*solopo, "--model.base", "SimPO").model.init_args.base.init_args.beta == 2.0
    assert parse(*solopo, "--model.base.beta", 0.7, "--model.base", "SimPO").model.init_args.base.init_args.beta == 0.7


def test_the_same_class_keeps_what_files_say(caplog):
    assert parse(*DPO, "--model.beta", 0.3, "--model", "DPO").model.init_args.beta == 0.3
    assert parse(*DPO, "--config", CONFIGS / "simpo.yaml").model.init_args.beta == 2.0
    assert "own defaults" not in caplog.text  # simpo.yaml states every argument


def test_as_a_command(files, capsys):
    words = ("fit", *DPO, "--trainer.max_steps", "7", "--print_config", "--trainer", files["trainer"])
    with pytest.raises(SystemExit):
        command.main([str(word) for word in words])
    assert yaml.safe_load(capsys.readouterr().out)["trainer"]["max_steps"] == 7


def test_other_commands_too(tmp_path, capsys):
    (tmp_path / "eval.yaml").write_text("limit: 40\n")
    words = ("evaluate", "--limit", "7", "--print_config", "--config", str(tmp_path / "eval.yaml"))
    with pytest.raises(SystemExit):
        command.main(list(words))
    assert yaml.safe_load(capsys.readouterr().out)["limit"] == 7


def test_what_grows_step_by_step_keeps_its_order():
    words = ["--a.list+", "One", "--a.list.x", "1", "--a.list+", "Two", "--a.list.x", "-1"]
    assert typed_last(words) == words
    assert typed_last(["--a.b", "-1", "fit", "--a.b", "-2", "--config", "x"], {"fit"}) == [
        *("--a.b", "-1", "fit"),
        *("--config", "x", "--a.b", "-2"),
    ]


@pytest.mark.parametrize("number", ["-1e-4", "-3", "-0.5", "-.inf", "-1E+2"])
def test_a_negative_number_is_a_value(number):
    assert with_negative_values(["--lr", number, "--x", "1"]) == [f"--lr={number}", "--x", "1"]


def test_options_and_further_values_stay_apart():
    words = ["fit", "-c", "file", "--a", "1", "-2", "--b=3", "-4", "--e1"]
    assert with_negative_values(words) == words


CALLBACK = ("--trainer.callbacks+", "QACallback", "--trainer.callbacks.path", "q.jsonl")
DATA = ("--data", "PreferenceDataModule", "--data.path")


def test_numbers_that_are_typed_are_decimal():
    """`--trainer.max_steps 010` was 10, and in a list or section 8; 1:30 was 90."""
    config = parse(*DPO, "--trainer", "{max_steps: 010}", "--data.long_words", "[020, 0x40]")
    assert (config.trainer.max_steps, config.data.init_args.long_words) == (10, (20, 64))
    with pytest.raises(SystemExit):
        parse(*DPO, "--trainer.max_steps", "1:30")
    with pytest.raises(SystemExit):
        parse(*DPO, "--trainer.gradient_clip_val", "1:30.5")
    assert parse(*DPO, "--trainer.max_time", "1:12:00:00").trainer.max_time == "1:12:00:00"
    assert yaml.safe_load("010") == 8  # other readers' numbers are as they were


def test_a_text_for_an_argument_of_a_class_stays_text():
    texts = ("--trainer.callbacks.question_template", "Q: {question}", *DATA, "pairs: a.jsonl")
    config = parse(*DPO, *CALLBACK, *texts, "--data.token_cache", "- cache")
    assert config.trainer.callbacks[-1].init_args.question_template == "Q: {question}"
    assert (config.data.init_args.path, config.data.init_args.token_cache) == ("pairs: a.jsonl", "- cache")


@pytest.mark.parametrize("word", ["null", "~"])
def test_null_within_a_section_of_a_class_is_null(word, capsys):
    """jsonargparse makes the text "None" of it, which `build` would send as the system's prompt."""
    words = ("build", "--config", CONFIGS / "build/solopo_smollm2.yaml", "--print_config")
    with pytest.raises(SystemExit):
        command.main([*map(str, words), "--recipe.instruction.system", word, "--recipe.instruction.user", "{question}"])
    instruction = yaml.safe_load(capsys.readouterr().out)["recipe"]["init_args"]["instruction"]
    assert (instruction["system"], instruction["user"]) == (None, "{question}")


def test_what_fits_otherwise_is_read_as_yaml():
    """Mappings, lists and numbers stay what they are; what fits nothing is told as before."""
    columns = (*DATA, "x", "--data.columns", "long_context: doc")
    config = parse(*DPO, *columns, "--optimization.optimizer.betas", "[0.9, 0.99]")
    assert config.data.init_args.columns == {"long_context": "doc"}
    assert tuple(config.optimization.optimizer.init_args.betas) == (0.9, 0.99)
    with pytest.raises(SystemExit):
        parse(*DPO, "--model.beta", "a: b")
