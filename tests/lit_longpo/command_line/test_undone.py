"""Reports: geti#2884 and Lightning#15256 (a list of callbacks in a later file replaces the one before); PrefEval#10."""

import shlex

import pytest
import yaml
from jsonargparse import Namespace
from support.command_line import CONFIGS, parse

from lit_longpo.cli import LongPOCLI
from lit_longpo.command_line.undone import undone

REAL = ("--config", CONFIGS / "real" / "dpo.yaml")
QWEN = ("--policy", CONFIGS / "model" / "qwen2.5_0.5b.yaml")


def test_a_model_behind_a_recipe_with_adapters_takes_them_and_says_so(caplog):
    values = parse(*REAL, *QWEN)
    assert values.policy.lora is None
    assert "`policy.lora` is null, where chat.yaml has {r: 16, alpha: 16, dropout: 0.0" in caplog.text
    _, _, advice = caplog.text.partition("--policy.lora '")
    again = parse(*REAL, *QWEN, "--policy.lora", advice.partition("'")[0])
    assert again.policy.lora == parse(*REAL).policy.lora


def test_what_to_type_parses_where_a_setting_has_quotes(caplog, tmp_path):
    lora = {"r": 4, "target_modules": "*no: 'q'", "exclude_modules": ["[ab]", "c"]}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"policy": {"lora": lora}}))
    values = Namespace(optimization=None, **{"policy.lora": None})
    [said] = undone(values, [], [tmp_path / "mine.yaml"])
    words = shlex.split(said.partition("type ")[2].partition(" to train")[0])
    assert words[0] == "--policy.lora"
    assert yaml.safe_load(words[1]) == lora


def test_of_two_recipes_the_later_ones_adapters_count(caplog):
    parse("--config", CONFIGS / "sft.yaml", *REAL)
    assert "lora" not in caplog.text
    parse(*REAL, "--config", CONFIGS / "sft.yaml")
    assert caplog.text.count("`policy.lora` is null") == 1


def test_adapters_that_are_typed_away_are_not_named(caplog):
    parse(*REAL, *QWEN, "--policy.lora", "null")
    parse(*REAL)
    assert "lora" not in caplog.text


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("trainer:\n  callbacks:\n  - class_path: EarlyStopping\n    init_args: {monitor: val/loss}\n")
    return path


def test_callbacks_that_a_later_list_takes_out_are_named(mine, caplog):
    given = (("--config", mine), ("--trainer.callbacks", "EarlyStopping", "--trainer.callbacks.monitor", "val/loss"))
    for words in given:
        caplog.clear()
        left = [one.class_path.rpartition(".")[2] for one in parse(*REAL, *words).trainer.callbacks]
        assert left == ["EarlyStopping"]
        message = "is EarlyStopping in place of the list before, without TQDMProgressBar, ThroughputCallback, "
        assert message + "NonFiniteGuard, ModelCheckpoint, QACallback, SavePretrained;" in caplog.text


@pytest.mark.parametrize(
    "words",
    [
        ("--trainer.callbacks+", "EarlyStopping", "--trainer.callbacks.monitor", "val/loss"),
        ("--config", CONFIGS / "overlays" / "benchmark.yaml"),
        ("--trainer", CONFIGS / "trainer" / "laptop.yaml"),  # another trainer is asked for
        ("--trainer.callbacks", "null"),
    ],
)
def test_lists_that_grow_and_whole_trainers_are_not(words, caplog):
    parse(*REAL, *words)
    assert "callbacks" not in caplog.text


def test_a_list_with_all_that_was_there_before_is_not(tmp_path, caplog):
    path = tmp_path / "all.yaml"
    names = "TQDMProgressBar ThroughputCallback NonFiniteGuard ModelCheckpoint QACallback SavePretrained HostMemory"
    path.write_text("trainer:\n  callbacks:\n" + "".join(f"  - class_path: {name}\n" for name in names.split()))
    parse(*REAL, "--config", path)
    assert "callbacks" not in caplog.text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--seed_everything", "7"), True),
        (("--seed_everything=7",), True),
        (("--seed_everything", "7", "--data.seed", "7"), False),
        (("--seed_everything", "7", "--data.init_args.seed", "3"), False),
        (("--seed_everything", "42"), False),  # as the data's
        (("--seed_everything", "true"), False),
        ((), False),
    ],
)
def test_a_seed_that_leaves_the_order_of_examples_is_told(words, said, caplog):
    """Runs "of other seeds" saw the same rows in the same order, without a word (PrefEval#10)."""
    parse(*REAL, *words)
    assert ("`data.init_args.seed: 42` has them" in caplog.text) == said


def test_a_command_says_it_once(caplog):
    """Its own parser runs inside that of all commands."""

    class Parsed(LongPOCLI):
        def before_instantiate_classes(self):
            raise StopIteration

    with pytest.raises(StopIteration):
        Parsed(args=["fit", *map(str, REAL), "--seed_everything", "7"])
    assert caplog.text.count("type --data.seed 7") == 1
