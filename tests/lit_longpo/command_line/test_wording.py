"""Errors of the parser are one line: what was expected, what came, where."""

from pathlib import Path

import pytest

from lit_longpo.__main__ import main
from lit_longpo.command_line.parser import SuggestingParser
from lit_longpo.command_line.wording import in_one_line
from lit_longpo.objectives import PreferenceModule
from lit_longpo.optimization import Optimization
from lit_longpo.policy import PolicyConfig


def parser():
    parser = SuggestingParser()
    parser.add_argument("--config", action="config")
    parser.add_argument("--precision", type=int | float | None)
    parser.add_argument("--paths", type=tuple[str, ...] | list[str])
    parser.add_argument("--switch", action="store_true")
    parser.add_class_arguments(Optimization, "optimization")
    parser.add_class_arguments(PolicyConfig, "policy")
    parser.add_subclass_arguments(PreferenceModule, "model")
    return parser


def error(capsys, *words):
    with pytest.raises(SystemExit, match="2"):
        parser().parse_args(list(words))
    message, where = capsys.readouterr().err.splitlines()
    assert where.startswith("every option: ")
    return message.removeprefix("error: ")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            "policy:\n  source: x\n optimization: [1\n",
            "expected YAML in {file}, got something else at line 3, column 2",
        ),
        ("", "expected sections in {file} (`model:`, `data:`, `trainer:`, ...), got nothing"),
        ("- 1\n- 2\n", "expected sections in {file} (`model:`, `data:`, `trainer:`, ...), got a list"),
        ("hello there", "expected sections in {file} (`model:`, `data:`, `trainer:`, ...), got a text"),
        (b"\xff\xfe\x00", "expected YAML in {file}, got bytes that are no UTF-8; save it as UTF-8"),
        ("policy: {sorce: x}\n", "'policy.sorce'; did you mean policy.source"),
        ("optimization: {warmup_fraction: much}\n", "expected `optimization.warmup_fraction` to be a number, got much"),
        ("policy: {dtype: bf16}\n", "to be one of 'float32', 'bfloat16', 'float16', got bf16; did you mean bfloat16?"),
        (
            "policy: {source: x}\npaths: [a]\npolicy: {dtype: float32}\n",
            "of {file}, got `policy` at line 1 and again at line 3",
        ),
        (
            "policy:\n  source: x\n  dtype: float32\n  source: y\n",
            "`source` at line 2 and again at line 4; take",
        ),
        ("policy: twice.yaml\n", "in a section of {folder}/twice.yaml, got `source` at line 1 and again at line 2"),
        ("policy: inner.yaml\n", "expected YAML in {folder}/inner.yaml, got something else at line 2"),
    ],
)
def test_a_file_that_is_wrong(content, expected, tmp_path, capsys):
    file = tmp_path / "mine.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    (tmp_path / "inner.yaml").write_text("source: [1\n")
    (tmp_path / "twice.yaml").write_text("source: a\nsource: b\n")
    assert expected.format(file=file, folder=tmp_path) in error(capsys, "--config", str(file))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["mine.yaml"], "expected --config before a file, got mine.yaml alone; type --config mine.yaml"),
        (["real/dpo"], "expected --config before a file, got real/dpo alone; type --config real/dpo"),
        (["--switch", "true"], "expected no value behind --switch, got true; type --switch alone, or leave it out"),
        (["last.ckpt", "out"], "expected the name of an option before every value, got last.ckpt out alone"),
        (["--paths", "a b.jsonl"], "expected `paths` to be a list, got a b.jsonl; type --paths '[a b.jsonl]'"),
        (["--model", "dpo"], "expected `model` to name one of "),
        (["--model", "dpo"], ", got dpo; did you mean DPO?"),
        (["--model", "solo"], "did you mean SoLoPO?"),
        (["--policy.dtype", "fp32"], "'float32', 'bfloat16', 'float16', got fp32; did you mean float32?"),
        (["--policy.dtype", "half"], "got half; did you mean float16?"),
        (["--policy.dtype", "int3"], "'float16', got int3\n"),
        (["--policy.attention", "flash_attention_2"], "got flash_attention_2; did you mean flash?"),
        (["--model", "DPO", "--model.loss_type", "ipo"], "got --model.loss_type; here it is called --model IPO"),
        (["--model", "DPO", "--model.loss_type", "ipo"], "arguments of `model` (beta, context), got"),
        (["--model", "DPO", "--model.lr", "2e-6"], "here it is called --optimization.optimizer.lr 2e-6"),
        (
            ["--model", "SFT", "--model.beta", "2"],
            "(context, sequence_weight), got --model.beta\n",
        ),
        (["--policy.lora.rank", "8"], "expected one of the arguments of `policy.lora` (r, alpha, "),
        (["--policy.lora", "yes please"], "expected settings of `policy.lora` (r, alpha, "),
        (["--model", "transformers.AutoModel"], "expected `model` to name one of "),
        (["--optimization.lr", "1"], "here it is called --optimization.optimizer.lr"),
        (["--nothing.like.it", "1"], "unrecognized arguments: --nothing.like.it"),
        (["--precision", "half"], "expected `precision` to be a whole number or a number or null, got half"),
    ],
)
def test_words_that_are_wrong(words, expected, capsys):
    assert expected in error(capsys, *words) + "\n"


def test_what_a_file_calls_otherwise_is_said_before_what_was_typed(tmp_path, capsys):
    (tmp_path / "mine.yaml").write_text("model: DPO\nlearning_rate: 1e-5\n")
    words = ("--config", str(tmp_path / "mine.yaml"), "--data.path", "x.jsonl")
    expected = "mine.yaml, got learning_rate; here it is called --optimization.optimizer.lr 1e-5"
    assert expected in of_fit(capsys, *words)
    (tmp_path / "mine.yaml").write_text("model: DPO\n")
    assert of_fit(capsys, *words) == (
        "error: expected a class for `data` in front of --data.path, got none; type --data data/pairs --data.path ...\n"
    )
    named = of_fit(capsys, "--config", "solopo", "--data.path", "x.jsonl")
    assert named.endswith("got --data.path; for files of yours type --data data/pairs --data.path ...\n")
    named = of_fit(capsys, "--config", "real/dpo", "--data.pth", "x.jsonl")
    assert "expected one of the arguments of `data` (path, " in named


@pytest.mark.parametrize("words", [(), ("--trainer.max_steps", "3")])
def test_a_start_without_a_recipe_is_told_one(words, capsys):
    assert of_fit(capsys, *words) == (
        "error: expected settings of `model`, got null; start from a recipe: --config solopo, or type --model DPO\n"
    )
    of_data = "error: expected settings of `data`, got null; start from a recipe: --config solopo, or type --data data/"
    assert of_fit(capsys, *words, "--model", "DPO").startswith(of_data)


@pytest.mark.parametrize("words", [["fit", "--data", "data/pairs", "--model"], ["evaluate", "--benchmark"]])
def test_a_class_from_a_file_that_is_no_yaml_is_told_by_its_line(words, capsys, tmp_path):
    """The parser tries what else the word may be, a list or a class path, and its errors are about the last try."""
    path = tmp_path / "mine.yaml"
    path.write_text("class_path: SimPO\ninit_args: {beta: 2.0\n")
    with pytest.raises(SystemExit, match="2"):
        main([*words, str(path)])
    assert f"error: expected YAML in {path}, got something else at line 3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("seed_everything: 2024-13-45\n", ": month must be in 1..12; correct that line"),
        ("policy: !!python/object/apply:os.getcwd []\n", " at line 1, column 9: could not determine a constructor"),
    ],
)
def test_yaml_that_means_no_plain_values_is_one_line(text, problem, capsys, tmp_path):
    (tmp_path / "mine.yaml").write_text(text)
    said = of_fit(capsys, "--config", "dpo", "--config", str(tmp_path / "mine.yaml"))
    assert said.startswith(f"error: expected YAML in {tmp_path / 'mine.yaml'}, got something else{problem}")


def of_fit(capsys, *words):
    """The first line of what the command says."""
    with pytest.raises(SystemExit, match="2"):
        main(["fit", *words])
    return capsys.readouterr().err.splitlines(keepends=True)[0]


def test_what_is_missing_is_named():
    required = "the following arguments are required: {}"
    assert in_one_line(required.format("fit.data, fit.model")).endswith(
        "got none; start from a recipe: --config solopo"
    )
    assert in_one_line(required.format("source, output")).endswith("start from a recipe: --config solopo")
    assert in_one_line(required.format("benchmark, output")).endswith("start from a recipe: --config needle")
    assert in_one_line(required.format("checkpoint, output")).endswith("type --checkpoint ... --output ...")


def test_other_messages_lose_their_line_breaks():
    assert in_one_line("first:\n  - second\n\n  third") == "first:; second; third"
    assert in_one_line("Problems parsing config: x", files=[Path(__file__)]).startswith("expected YAML in")


@pytest.mark.parametrize("section", ["policy", "policy: {template", "optimization"])
def test_a_section_that_is_null(section, tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text(f"{section}: null{'}' * section.count('{')}\n")
    name = section.replace(": {", ".")
    assert f"expected settings of `{name}`, got null; give it some, or take" in error(capsys, "--config", str(path))
    path.write_text("policy: true\n")
    assert "expected settings of `policy`, got True; give" in error(capsys, "--config", str(path))


def test_a_word_that_fills_pages_is_shortened():
    said = in_one_line(f'Parser key "verifiers":\n  Expected a dot import path string: {"[" * 3000}')
    assert said.startswith('Parser key "verifiers":; Expected a dot import path string: [[[')
    assert len(said) < 500


def test_a_section_of_a_class_that_is_null(capsys):
    said = "expected settings of `recipe.init_args.decoding`, got null; give it some, or take that line out"
    with pytest.raises(SystemExit):
        main(["build", "--config", "build/solopo", "--recipe.init_args.decoding", "null"])
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("paths:\n- " + "[" * 3000, "at most 100 sections or lists inside each other in {path}, got more at line 2"),
        ("policy: " + "{a: " * 200 + "\n x", "at most 100 sections or lists"),
        ("precision: 1" + "0" * 5000, "got one of 5,001 digits at line 1"),
        ('paths: [a]\npolicy: {source: "a\\0b"}', "expected texts in {path}, got a NUL character at line 2"),
    ],
)
def test_what_libraries_stumble_over_is_refused_before_they_read_it(text, said, tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    assert said.format(path=path) in error(capsys, "--config", str(path))
