import json

import pytest
import torch
from support.byte_tokenizer import byte_model
from support.tiny_models import tiny_model
from support.word_tokenizer import word_tokenizer

from evaluation.asking.command import ask as run_ask
from evaluation.asking.command import ask_parser, with_lists
from lit_longpo import __main__ as command
from lit_longpo.errors import UserError
from lit_longpo.policy import PolicyConfig

DOCUMENT = "Pour Ada tea . Show Ben Oslo . Cook Cora soup . Lend Dan cellos ."


@pytest.fixture
def document(tmp_path):
    path = tmp_path / "doc.txt"
    path.write_text(DOCUMENT)
    return str(path)


def ask(*words):
    command.main(["ask", "--accelerator", "cpu", *map(str, words)])


def test_the_embedded_model_answers_several_questions(document, tmp_path, capsys):
    file = tmp_path / "said.json"
    ask("--model", "embedded", "--document", document, "--question", "Pour Ada", "--answers", "tea", "milk",
        "--question", "Show Ben", "--answers", "Oslo", "--json", file)  # fmt: skip
    said = json.loads(file.read_text())["questions"]
    assert [item["replies"]["model"]["text"] for item in said] == ["tea", "Oslo"]
    assert said[0]["replies"]["model"]["margin"] > 5
    shown = capsys.readouterr().out
    assert shown.count("tea") >= 2
    assert "margin of the first" in shown


def test_a_folder_in_place_of_the_file_is_said_before_a_model_is_loaded(document, tmp_path, monkeypatch):
    """It was said when everything was answered."""
    monkeypatch.setattr(PolicyConfig, "load_base", lambda *_: pytest.fail("loaded"))
    with pytest.raises(UserError, match=r"expected a file for --json, got the folder .*; type --json"):
        run_ask(["--model", "embedded", "--document", document, "--question", "Pour Ada", "--json", str(tmp_path)])


def test_two_models_side_by_side_and_the_base_gets_the_same_prompt(policy_folder, tmp_path, document, caplog):
    (tmp_path / "doc.txt").write_text("word1 word2 word3")
    other = tmp_path / "other"
    tiny_model("Llama", seed=1).save_pretrained(other)
    word_tokenizer().save_pretrained(other)
    file = tmp_path / "said.json"
    with caplog.at_level("INFO"):
        ask("--model", other, "--base", policy_folder, "--document", document, "--question", "word4", "word5",
            "--policy.template.user", "{context} . {question}", "--max_new_tokens", 4, "--json", file)  # fmt: skip
    said = json.loads(file.read_text())
    assert [said["models"][role]["name"] for role in ("base", "trained")] == [str(policy_folder), str(other)]
    assert len(said["questions"]) == 2
    first = said["questions"][0]["replies"]
    assert first["base"]["text"] != first["trained"]["text"]
    assert first["base"]["prompt_tokens"] == first["trained"]["prompt_tokens"] == 6
    assert caplog.text.count('as "{context} . {question}" in plain text') == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--question", "x"], "expected a document to ask about, got none"),
        (["--document", "DOC"], "expected questions, got"),
        (["--document", "DOC", "--question", "x"], "expected a model to ask, got none; type --model"),
        (["--document", "gone.txt", "--question", "x"], "expected a document at .*gone.txt, found none"),
        (["--document", "DOC", "--question", "x", "--model", "./gone"], "expected a model folder at gone"),
        (["--document", "DOC", "--question"], "expected a value behind --question, got none"),
        (["--document", "DOC", "--question", "a", "b", "--answers", "c", "--model", "embedded"], "got 1 lists"),
        (["--document", "DOC", "--question", "dog cat the old", "--model", "embedded", "--base", "none"], None),
    ],
)
def test_mistakes_are_one_line_before_a_model_is_loaded(words, said, document, monkeypatch):
    loads = []
    monkeypatch.setattr(PolicyConfig, "load_base", lambda self: loads.append(1) or pytest.fail("loaded"))
    words = [document if word == "DOC" else word for word in words]
    if said is None:  # four unknown words of a prompt of 27 are a warning
        with pytest.raises(pytest.fail.Exception, match="loaded"):
            ask(*words)
        return
    with pytest.raises(SystemExit, match=f"^error: .*{said}[^\n]*$"):
        ask(*words)
    assert not loads


@pytest.mark.parametrize(("typed", "dtype"), [((), "bfloat16"), (("--policy.dtype", "float32"), "float32")])
def test_a_model_of_others_is_read_in_its_own_precision_as_evaluate_reads_it(
    typed, dtype, document, tmp_path, monkeypatch
):
    """It was read in fp32 whatever its files have: twice the memory, and other answers than `evaluate` gives."""
    loads = []
    monkeypatch.setattr(PolicyConfig, "load_base", lambda self: loads.append(self.dtype) or pytest.fail("loaded"))
    model = byte_model(tmp_path, dtype=torch.bfloat16)
    with pytest.raises(pytest.fail.Exception, match="loaded"):
        ask("--model", model, "--document", document, "--question", "x", *typed)
    assert loads == [dtype]


def test_lists_grow_in_the_order_typed():
    words = ["--question", "a", "--answers", "x", "-5", "--max_length", "7", "--question=b c", "--answers", "y"]
    found = with_lists([*words, "--document", "d", "e"])
    values = ask_parser().parse_args(found)
    assert (values.question, values.answers) == (["a", "b c"], [["x", "-5"], ["y"]])
    assert (values.document, values.max_length) == (["d", "e"], 7)
