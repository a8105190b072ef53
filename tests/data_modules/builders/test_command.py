"""The build configurations parse, run offline, and `fit` reads what they make."""

import json

import pytest
from support.chat_formats import chat_bpe_tokenizer
from support.command_line import COMMANDS, CONFIGS, build
from support.tiny_models import tiny_config
from transformers import AutoModelForCausalLM

from data_modules.builders.command import build_parser, parse_build
from data_modules.records import read_pairs

FILES = sorted((CONFIGS / "build").glob("*.yaml"))
OFFLINE = {"solopo": 20, "longpo": 4, "logo": 12}


def test_there_is_something_to_test():
    assert {path.stem for path in FILES} >= OFFLINE.keys()
    assert "build" in COMMANDS


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_configuration_parses(path):
    values = build_parser().parse_args(["--config", str(path)])
    assert values.recipe.class_path.startswith("data_modules.builders.")
    assert values.output == f"runs/build/{path.stem}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_print_config_prints_is_a_configuration(path, tmp_path, capsys):
    """Default filters were printed as "Unable to serialize instance TooShort(...)", which no build takes."""
    with pytest.raises(SystemExit):
        COMMANDS["build"](["--config", str(path), "--print_config"])
    (tmp_path / "printed.yaml").write_text(capsys.readouterr().out)
    read = build_parser().parse_args(["--config", str(tmp_path / "printed.yaml")])
    assert read.recipe == build_parser().parse_args(["--config", str(path)]).recipe


@pytest.mark.parametrize(("name", "limit"), OFFLINE.items(), ids=OFFLINE)
def test_offline_recipes_make_pairs_that_fit_reads(name, limit, tmp_path):
    arguments = ["--config", str(CONFIGS / "build" / f"{name}.yaml"), "--output", str(tmp_path / "out")]
    COMMANDS["build"]([*arguments, "--limit", str(limit)])
    pairs = read_pairs(tmp_path / "out" / "pairs.jsonl")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["records"] == limit == sum(report["statuses"].values())
    assert report["statuses"]["pair"] == len(pairs)
    cli = build(
        *("--config", CONFIGS / f"{name}.yaml", "--data", CONFIGS / "data" / "pairs.yaml"),
        *("--data.path", tmp_path / "out" / "pairs.jsonl", "--data.val_fraction", 0.0),
        *("--trainer.default_root_dir", tmp_path / "fit", "--trainer.max_steps", 1, "--trainer.callbacks", "null"),
        *("--trainer.limit_val_batches", 0, "--trainer.enable_progress_bar", "false"),
    )
    cli.trainer.fit(cli.model, cli.datamodule)
    assert cli.trainer.global_step == 1


def test_a_dry_run_prints_and_builds_nothing(tmp_path, capsys):
    arguments = ["--config", str(CONFIGS / "build" / "longpo.yaml"), "--output", str(tmp_path / "out")]
    COMMANDS["build"]([*arguments, "--dry-run"])
    printed = capsys.readouterr().out
    assert printed.count("--- prompt") == printed.count("\n<bos> ") == 3  # as the policy reads them
    assert "requests" in printed
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--recipe.sampels", "3"], "samples"),
        (["--generator", "NoSuchGenerator"], "NoSuchGenerator"),
        (["--limit", "many"], "limit"),
    ],
)
def test_mistakes_are_named_without_pages_of_usage(arguments, hint, capsys):
    with pytest.raises(SystemExit):
        parse_build(["--config", str(CONFIGS / "build" / "solopo.yaml"), *arguments])
    printed = capsys.readouterr().err
    assert hint in printed
    assert "lit_longpo build --help" in printed


def test_a_build_without_a_recipe_is_told_where_to_start(capsys):
    with pytest.raises(SystemExit, match="2"):
        parse_build(["--output", "x"])
    said = capsys.readouterr().err.splitlines()[0]
    assert said.endswith("`generator`, `recipe` and `source`, got none; start from a recipe: --config solopo")


def test_your_own_questions_and_your_own_chat_model(tmp_path):
    """The README's command for both."""
    tokenizer = chat_bpe_tokenizer("chatml")
    config = tiny_config("Llama", vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id)
    for part in (tokenizer, AutoModelForCausalLM.from_config(config)):
        part.save_pretrained(tmp_path / "model")
    rows = [{"question": f"Where is {n}?", "context": f"{n} is in Town{n}.", "answers": [f"Town{n}"]} for n in range(4)]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["--config", "build/solopo_chat", "--policy.source", str(tmp_path / "model"), "--policy.dtype", "float32"]
    words += ["--source.paths", f"[{tmp_path / 'own.jsonl'}]", "--output", str(tmp_path / "out")]
    quick = ["--recipe.samples", "1", "--recipe.without_right", "gold", "--recipe.decoding.max_new_tokens", "4"]
    COMMANDS["build"]([*words, *quick])
    pairs = read_pairs(tmp_path / "out/pairs.jsonl")
    assert [pair.chosen for pair in pairs] == [f"Town{n}" for n in range(4)]
    assert all(f"{n} is in Town{n}." in pair.short_context for n, pair in enumerate(pairs))
    assert all(len(pair.long_context.split("\n\n")) == 4 for pair in pairs)
