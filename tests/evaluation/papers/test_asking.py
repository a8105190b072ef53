import json
import shutil
from statistics import fmean

import pytest
from support import official_layout
from support.byte_tokenizer import byte_model
from support.command_line import COMMANDS, CONFIGS
from support.official_data import official

from evaluation.command import parse_evaluation
from evaluation.papers.paper import SIZES
from evaluation.reports.reading import load_report
from lit_longpo.errors import UserError

PAPERS = ("logo", "longpo", "solopo")


def given(name, *more):
    return ["--config", str(CONFIGS / "eval" / "papers" / f"{name}.yaml"), *map(str, more), "--accelerator", "cpu"]


@pytest.fixture(scope="module")
def books(tmp_path_factory):
    return official_layout.infinitebench(tmp_path_factory.mktemp("infinitebench"), 3)


@pytest.fixture(scope="module")
def v2(tmp_path_factory):
    return official_layout.longbench_v2(tmp_path_factory.mktemp("v2"), 3)


def options(name, books, v2):
    """Files made up in the official layouts, what is missing left out."""
    none = ["--paper.longbench", "null"]
    return {
        "logo": [*none, "--paper.infinitebench", books, "--paper.lveval", "null"],
        "longpo": ["--paper.infinitebench", books],
        "solopo": [*none, "--paper.longbench_v2", v2],
    }[name]


@pytest.mark.parametrize("name", PAPERS)
def test_every_configuration_is_asked_by_one_command_at_either_size(name, books, v2):
    for size in ("paper", "cpu"):
        asked, _ = parse_evaluation(given(name, *options(name, books, v2), "--paper.size", size, "--prepare_data"))
        [part] = asked.parts.values()
        expected = SIZES[size]
        assert (part.settings.limit, part.settings.max_length) == (expected.limit, expected.max_length)
    head = (CONFIGS / "eval" / "papers" / f"{name}.yaml").read_text().splitlines()[0]
    assert "arXiv" in head
    assert asked.paper.left_out  # and how to get them


def test_typed_limits_go_before_those_of_the_size(books, v2):
    typed = ("--paper.size", "cpu", "--limit", 1, "--max_length", 99, "--prepare_data")
    asked, _ = parse_evaluation(given("longpo", *options("longpo", books, v2), *typed))
    assert (asked.parts["infinitebench"].settings.limit, asked.parts["infinitebench"].settings.max_length) == (1, 99)
    asked, _ = parse_evaluation(given("longpo", *options("longpo", books, v2), "--tasks", "[vt]", "--prepare_data"))
    with pytest.raises(UserError, match="expected no `tasks`, which longpo_paper chooses"):
        _ = asked.parts


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--paper.longbench", "null", "--paper.lveval", "null"], "type --paper.longbench FOLDER"),
        (
            ["--benchmark", "LongBench"],
            "expected one of --benchmark, --paper, --short_context, got benchmark and paper",
        ),
    ],
)
def test_nothing_to_ask_and_too_much_are_one_line(more, told, capsys):
    with pytest.raises((UserError, SystemExit)) as caught:
        parse_evaluation(given("logo", *more, "--prepare_data"))
    assert told in f"{caught.value} {capsys.readouterr().err}"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return byte_model(tmp_path_factory.mktemp("model"), max_position_embeddings=2048)


def test_logos_tables_over_real_records_are_the_means_of_their_reports(books, model, tmp_path):
    """Also of answers that are right: a stored one is put right, and `--rescore` makes the tables again."""
    shared, folder = official("longbench"), tmp_path / "longbench"
    shutil.copytree(shared, folder)
    limits = folder / "config" / "dataset2maxlen.json"
    limits.chmod(0o644)
    limits.write_text(json.dumps(dict.fromkeys(json.loads(limits.read_text()), 3)))
    more = ("--paper.longbench", folder, "--paper.infinitebench", books, "--paper.lveval", "null")
    more = given("logo", *more, "--model", model, "--output", tmp_path, "--max_length", 64, "--limit", 1)
    COMMANDS["evaluate"](more)
    path = tmp_path / "longbench" / "predictions" / "longbench" / "musique.jsonl"
    row = json.loads(path.read_text())
    report = load_report(tmp_path / "longbench" / "longbench-step0.json")
    [asked] = [item for item in report.predictions if item.task == "musique"]
    path.write_text(json.dumps({**row, "response": f"Say {asked.answers[0]}", "crc": None}) + "\n")
    COMMANDS["evaluate"]([*more, "--rescore"])
    sheet = json.loads((tmp_path / "logo_paper.json").read_text())
    tables = {item["title"]: {row[0]: row[2] for row in item["rows"]} for item in sheet["sections"]}
    report = load_report(tmp_path / "longbench" / "longbench-step0.json")
    numbers = {task: table["score"] for task, table in report.tables.items()}
    assert len(numbers) == 14
    pair = [numbers["hotpotqa"], numbers["2wikimqa"], numbers["musique"]]
    assert tables["LongBench"]["M-Doc QA"] == f"{fmean(pair):.2f}"
    assert numbers["musique"] > 0
    assert tables["Sub-EM"]["MuSiQue"] == "100.00"
    assert tables["Sub-EM"]["avg"] == f"{(100 + sum(float(tables['Sub-EM'][name]) for name in ('En.QA', '2WikiMQA', 'NarrativeQA', 'MFQA-en'))) / 5:.2f}"  # fmt: skip  # noqa: E501
    assert tables["LV-Eval"] == {}
    assert sheet["head"]["command"].startswith("python -m lit_longpo evaluate --config")
    assert "--paper.lveval FOLDER" in sheet["head"]["not here"]
    page = (tmp_path / "logo_paper.html").read_text()
    assert "S-Doc QA" in page
    assert "Sample predictions" not in page
