import json
from dataclasses import replace

import pytest
from support import official_layout
from support.byte_tokenizer import CHAT, byte_model, byte_tokenizer
from support.command_line import CONFIGS
from support.official_data import official

from evaluation import InfiniteBench
from evaluation.benchmarks.infinitebench import FAMILIES
from evaluation.benchmarks.infinitebench.templates import find_prompts
from evaluation.benchmarks.official_files import OfficialFileError
from evaluation.metrics import aggregate
from evaluation.metrics.infinitebench import TASKS
from evaluation.reports.reading import load_report
from evaluation.reports.report import BenchmarkReport, Prediction
from lit_longpo import __main__ as command_line
from lit_longpo.errors import MissingFileError
from lit_longpo.policy import PromptFormat, PromptTemplate

chat = PromptFormat(byte_tokenizer(chat_template=CHAT), PromptTemplate())


@pytest.fixture
def folder(tmp_path):
    return official_layout.infinitebench(tmp_path, 2)


def asked(bench, task, max_length=10**6):
    prompt = bench.prompt(next(bench.examples(task)), chat, max_length)
    return chat.tokenizer.decode(list(prompt.ids))


def test_templates_are_filled_and_never_run(folder):
    bench = InfiniteBench(str(folder))
    context = json.loads((folder / "passkey.jsonl").read_text().splitlines()[0])["context"]
    expected = {
        "passkey": f"{context}\nWhat is the pass key?",
        "longbook_choice_eng": f"{context}\nQ: Who came?\nA. Oslo B. Bergen C. Greta D. Bergen",
        "code_run": f"func_3 is in {context}: func_3(-7)",
        "math_find": f"What is the second largest number in the following list?\n{context}\nYou should answer with "
        "only one number. The second largest number of the list is:",
        "longdialogue_qa_eng": f"{context}\n",
    }
    for task, text in expected.items():
        assert asked(bench, task) == f"<bos>[user]{text}<end>[assistant]"


def test_texts_to_be_continued_know_no_chat_template(folder):
    bench = InfiniteBench(str(folder), templates="yarn_mistral")
    whole, cut = asked(bench, "passkey"), asked(bench, "passkey", 20)
    assert "[user]" not in whole
    assert cut == whole[: len("<bos>") + 9] + whole[-10:]  # 20 tokens, a beginning among them


@pytest.mark.parametrize(
    ("task", "right", "wrong"),
    [
        ("passkey", "It is 71432.", "1. 71432"),
        ("kv_retrieval", '"b-2"', "b-2x"),  # the file's list is unwrapped
        ("longbook_qa_eng", "Greta", "Oslo"),
        ("longbook_qa_chn", "\u96ea\u5c71", "\u798f"),
        ("longbook_choice_eng", "B", "D"),  # the first option with the text
        ("longdialogue_qa_eng", "Ace", "Bee"),
        ("code_debug", "A. Oslo", "Oslo"),
        ("code_run", "The value is 12", "12 is it"),
        ("math_find", "88", "88.0"),
        pytest.param("longbook_sum_eng", "greta came", "Nobody", marks=pytest.mark.slow),  # rouge_score takes seconds
    ],
)
def test_labels_become_those_of_the_official_results(folder, task, right, wrong):
    bench = InfiniteBench(str(folder))
    example = next(bench.examples(task))
    assert bench.score(example, right) == pytest.approx(1.0)
    assert bench.score(example, wrong) == 0.0


def test_labels_may_be_plain_or_complete(folder):
    bench = InfiniteBench(str(folder))
    second = {task: list(bench.examples(task))[1] for task in bench.tasks}
    assert second["longbook_choice_eng"].answers == ("Greta", "C")
    assert second["code_debug"].answers == ("Greta", "C")
    assert bench.score(second["code_run"], "-5") == 1.0  # a text in the file
    assert bench.score(second["math_find"], "4.5") == 1.0


@pytest.mark.parametrize(
    ("task", "change", "message"),
    [
        ("longbook_choice_eng", {"answer": "Paris"}, "field 'answer': expected one of the options, got 'Paris'"),
        ("longbook_choice_eng", {"options": ["x"]}, "field 'options': expected four texts"),
        (
            "longbook_choice_eng",
            {"answer": ["Oslo", "E"]},
            r"field 'answer': expected the right option, or \[option, letter\]",
        ),
        ("code_run", {"answer": "12."}, "field 'answer': expected a number, got '12.'"),
        ("code_run", {"input": "Run it"}, "field 'input': expected a question with a call"),
        ("math_find", {"input": "Which?"}, "field 'input': expected a question with"),
        ("passkey", {"answer": 71432}, "field 'answer': expected a list of texts, got 71432"),
        ("passkey", {"context": None}, "field 'context': expected text, got None"),
    ],
)
def test_malformed_records_name_file_line_and_field(folder, task, change, message):
    path = folder / f"{task}.jsonl"
    path.write_text(json.dumps(json.loads(path.read_text().splitlines()[0]) | change))
    with pytest.raises(OfficialFileError, match=rf"{task}\.jsonl:1: {message}"):
        list(InfiniteBench(str(folder)).examples(task))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folder": None}, "type --benchmark.folder FOLDER"),
        ({"tasks": ["math_calc"]}, "expected tasks of passkey, .* got math_calc"),
        ({"tasks": ["number_string"]}, "expected number_string.jsonl in .*; set `folder`"),
        ({"templates": "kimi"}, "expected templates of gpt4, yarn_mistral, got 'kimi'"),
        ({"new_tokens": {"math_find": 0}}, "expected `new_tokens` from 1"),
        ({"prompts": "nothing.py"}, "got no file nothing.py"),
    ],
)
def test_what_is_refused_before_a_model_is_loaded(folder, options, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        InfiniteBench(**{"folder": str(folder), **options})


@pytest.mark.parametrize("template", ["{input}", "{context} {question.x}", "{context} {", 3, "{context} {answer}"])
def test_malformed_templates_are_named(folder, template):
    path = folder / "prompts.json"
    path.write_text(json.dumps({"gpt4_templates": {"passkey": template}}))
    with pytest.raises(OfficialFileError, match=r"prompts\.json: gpt4_templates: passkey: expected a template with"):
        InfiniteBench(str(folder), str(path), tasks=["passkey"])


@pytest.mark.parametrize("family", FAMILIES)
def test_official_templates_are_filled_as_by_plain_replacement(folder, family):
    path = official("infinitebench") / "prompts.json"
    templates = json.loads(path.read_text(encoding="utf-8"))[f"{family}_templates"]
    bench = InfiniteBench(str(folder), str(path), templates=family)
    for task in bench.tasks:
        record = json.loads((folder / f"{task}.jsonl").read_text().splitlines()[0])
        values = {"input": record["input"], "question": record["input"], "func_call": "func_3(-7)", "func": "func_3"}
        values |= {f"OPTION_{letter}": option for letter, option in zip("ABCD", record["options"], strict=False)}
        values["prefix"] = "What is the second largest number in the following list?"
        expected = templates[task]
        for name, value in (*values.items(), ("context", record["context"])):
            expected = expected.replace(f"{{{name}}}", value or "")
        wrapped = f"<bos>[user]{expected}<end>[assistant]" if family == "gpt4" else f"<bos>{expected}"
        assert asked(bench, task) == wrapped


def test_templates_are_found_in_the_repository_or_copied_from_it(tmp_path):
    with pytest.raises(MissingFileError, match="expected InfiniteBench's prompt"):
        find_prompts(tmp_path)
    for name in ("prompts.json", "src/prompt.py", "prompt.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
        assert find_prompts(tmp_path) == tmp_path / name


def test_deviations(folder):
    prompts = str(official("infinitebench") / "prompts.json")
    bench = InfiniteBench(str(folder), prompts, templates="yarn_mistral", new_tokens={"math_find": 32})
    assert bench.deviations == (
        "other limits of new tokens than the official ones: math_find 32",
        "tasks left out: number_string, math_calc",
    )
    assert "prompts.json has other" not in str(InfiniteBench(str(folder), prompts).deviations)
    own = InfiniteBench(str(folder), templates="yarn_mistral")
    assert own.deviations[0] == "prompt.py has other yarn_mistral templates than the official file"
    assert own.official_counts["longbook_qa_eng"] == 351
    assert sum(task.count for task in TASKS.values()) == 3946


@pytest.mark.slow  # five seconds
def test_the_command_line_asks_a_tiny_model(folder, tmp_path):
    byte_model(tmp_path / "model", chat_template=CHAT, max_position_embeddings=1024)
    words = ["evaluate", "--config", CONFIGS / "eval" / "infinitebench.yaml", "--benchmark.folder", folder]
    words += ["--benchmark.new_tokens", '{"longbook_qa_eng": 8}', "--model", tmp_path / "model", "--tasks"]
    words += ["[longbook_qa_eng, longbook_choice_eng]"]
    command_line.main([*map(str, words), "--output", str(tmp_path / "out"), "--accelerator", "cpu"])
    report = load_report(tmp_path / "out" / "infinitebench-step0.json")
    assert len(report.predictions) == 4
    [qa] = [[item for item in report.predictions if item.task == "longbook_qa_eng"]]
    expected = aggregate("infinitebench", "longbook_qa_eng", [x.prediction for x in qa], [x.answers for x in qa])
    assert report.tables["longbook_qa_eng"] == {"score": expected}
    assert "prompts cut to" in str(report.deviations)
    assert "En.QA" in (tmp_path / "out" / "infinitebench-step0.md").read_text()


def test_the_average_of_longpo_needs_its_three_tasks():
    tasks = {"longbook_sum_eng": 10.0, "longbook_qa_eng": 20.0, "longbook_choice_eng": 60.0}
    rows = [Prediction(task, 1, None, "", (), "x", value / 100, task=task) for task, value in tasks.items()]
    tables = {task: {"score": value} for task, value in tasks.items()}
    report = BenchmarkReport("infinitebench", 0, tuple(rows), tables=tables)
    assert InfiniteBench.means(report)["average"]["LongPO"].value == pytest.approx(0.3)
    assert InfiniteBench.summary(report)[0].rows[1] == ("En.QA", "20.00")
    assert InfiniteBench.means(replace(report, predictions=tuple(rows[1:])))["average"] == {}
