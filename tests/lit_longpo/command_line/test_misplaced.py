"""What is said of keys in the wrong section of a YAML file; through the whole command line, as a user meets it."""

import pytest

from lit_longpo.__main__ import register_classes
from lit_longpo.cli import LongPOCLI
from lit_longpo.command_line.misplaced import meant_place


def error_of(capsys, *arguments):
    register_classes()
    with pytest.raises(SystemExit):
        LongPOCLI(args=["fit", "--config", "configs/dpo.yaml", *arguments])
    return capsys.readouterr().err.splitlines()[0]


@pytest.mark.parametrize(
    ("written", "place", "meant"),
    [
        ("policy: {lora: {r: 8, template: {user: 'x'}}}", "policy.lora.template.user", "policy.template.user"),
        ("policy: {lora: {r: 8, template: null}}", "policy.lora.template", "policy.template"),
        (
            "data: {class_path: SyntheticDataModule, init_args: {trainer: {max_steps: 3}}}",
            "data.init_args.trainer.max_steps",
            "trainer.max_steps",
        ),
        ("optimization: {trainer: {max_steps: 3}}", "optimization.trainer.max_steps", "trainer.max_steps"),
    ],
)
def test_a_key_one_section_too_deep_is_named_where_it_should_stand(written, place, meant, capsys, tmp_path):
    """`policy` and `policy.rope` were suggested for `policy.lora.template`, or nothing."""
    (tmp_path / "mine.yaml").write_text(written + "\n")
    error = error_of(capsys, "--config", str(tmp_path / "mine.yaml"))
    assert place in error
    assert error.endswith(f"did you mean {meant}? Mind the indentation")


def test_an_argument_that_a_class_does_not_have_is_named_with_its_place(capsys, tmp_path):
    """The rate of the optimizer has the same name, and is right."""
    optimizer = "optimization: {optimizer: {class_path: FusedAdamW, init_args: {lr: 1e-5, weight_decay: 0.0}}}"
    (tmp_path / "mine.yaml").write_text(
        f"model: {{class_path: DPO, init_args: {{beta: 0.1, lr: 1e-4}}}}\n{optimizer}\n"
    )
    error = error_of(capsys, "--config", str(tmp_path / "mine.yaml"))
    assert error.endswith(f"got model.init_args.lr in {tmp_path / 'mine.yaml'}")


@pytest.mark.parametrize(
    ("written", "section", "key"),
    [
        ("model: {class_path: DPO, beta: 0.3}", "model", "beta"),
        ("data: {class_path: SyntheticDataModule, init_args: {}, policy: {source: x}}", "data", "policy"),
        ("trainer: {callbacks: [{class_path: NonFiniteGuard, limit: 3}]}", "trainer.callbacks[0]", "limit"),
    ],
)
def test_keys_beside_a_class_are_named(written, section, key, capsys, tmp_path):
    (tmp_path / "mine.yaml").write_text(written + "\n")
    error = error_of(capsys, "--config", str(tmp_path / "mine.yaml"))
    assert f"`class_path` and `init_args` in `{section}` of" in error
    assert error.endswith(f"got {key} beside them")


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("objective/dpo", "model"),
        ("data/pairs", "data"),
        ("optimization/lora", "optimization"),
        ("trainer/real", "trainer"),
        ("model/chat", "policy"),
    ],
)
def test_a_file_of_one_section_is_sent_to_its_option(name, option, capsys):
    """It was "does not accept option 'lora.r'", or "did you mean xPath?", a class of pytest's."""
    error = error_of(capsys, "--config", name)
    assert "got the settings of one" in error
    assert f"type --{option} " in error


@pytest.mark.parametrize(
    ("place", "meant"),
    [("a.b.c", "a.c"), ("a.b.c.d", "a.c.d"), ("x.y.z", None), ("b.c", None), ("q.a.c", "a.c")],
)
def test_as_few_sections_are_left_out_as_can_be(place, meant):
    assert meant_place(place, {"a.c", "a.c.d", "c.d"}) == meant


def test_a_fragment_without_its_suffix_is_told_to_have_one(capsys, tmp_path):
    """On the command line `--policy model/tiny` is enough."""
    (tmp_path / "mine.yaml").write_text("policy: model/tiny\n")
    assert "type model/tiny.yaml" in error_of(capsys, "--config", str(tmp_path / "mine.yaml"))
