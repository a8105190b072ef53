import json
from dataclasses import replace
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import reports
from support.byte_tokenizer import CHAT, byte_tokenizer
from support.official_data import official
from support.reports import rows_of, summary, table_of
from support.tiny_models import tiny_model

from evaluation.benchmark import Benchmark
from evaluation.benchmarks.lveval import LVEval
from evaluation.benchmarks.lveval.config import load_config
from evaluation.benchmarks.official_files import OfficialFileError, parse_literals
from evaluation.metrics.lveval import LEVELS
from evaluation.running.drawing import shuffled, subset
from evaluation.running.responses import Responses
from evaluation.running.runner import Runner
from evaluation.running.settings import RunSettings
from lit_longpo.policy import PromptFormat, PromptTemplate

chat = PromptFormat(byte_tokenizer(chat_template=CHAT), PromptTemplate())
# The documented schema; no official record is available offline.
RECORD = {
    "input": "Who founded it?",
    "context": "### Passage 1\nBeethoven did.",
    "answers": ["Beethoven", "Ludwig"],
    "length": 12000,
    "dataset": "factrecall_en",
    "language": "en",
    "answer_keywords": "Beethoven",
    "confusing_facts": None,
}
CONFIG = {
    "DATASET_PROMPT": {"factrecall_en": "A: {context}\nQ: {input}", "loogle_SD_mixup": "L: {context}\nQ: {input}"},
    "DATASET_MAXGEN": {"factrecall_en": 16, "loogle_SD_mixup": 64},
    "DATASET_SELECTED": ["factrecall_en", "loogle_SD_mixup"],
    "DATASET_LENGTH_LEVEL": ["16k", "32k"],
}


@pytest.fixture
def folder(tmp_path):
    """The official layout with a configuration of our own."""
    lines = ["from metrics import missing_module", "raise SystemExit('executed')"]
    lines += [f"{name} = {value!r}" for name, value in CONFIG.items()]
    (tmp_path / "config.py").write_text("\n".join([*lines, "DATASET_METRIC = {'factrecall_en': missing_module}"]))
    (tmp_path / "data").mkdir()
    for task in ("factrecall_en_16k", "factrecall_en_32k", "loogle_SD_mixup_16k"):
        (tmp_path / "data" / f"{task}.jsonl").write_text(json.dumps(RECORD) + "\n")
    return tmp_path


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_part_of_the_questions_is_the_same_at_every_level(folder, seed):
    """Each level was asked questions of its own draw, so that levels differed by their questions, too."""
    rows = [RECORD | {"input": f"Who founded {number}?"} for number in range(30)]
    for level, order in (("16k", rows), ("32k", rows[::-1])):
        text = "".join(json.dumps(row | {"context": f"{level} {row['input']}"}) + "\n" for row in order)
        (folder / "data" / f"loogle_SD_mixup_{level}.jsonl").write_text(text)
    bench, settings = LVEval(folder), RunSettings(limit=8, seed=seed)
    asked, ordered = [], []
    for level in ("16k", "32k"):
        task = f"loogle_SD_mixup_{level}"
        drawn_with = bench.drawn_with(task)
        chosen, _ = subset(bench.examples(task), task, settings, drawn_with=drawn_with)
        asked.append({example.question for example in chosen})
        in_order = shuffled(list(bench.examples(task)), f"{seed}-{drawn_with}", alike=True)
        ordered.append([example.question for example in in_order])
    assert len(asked[0]) == 8
    assert asked[0] == asked[1]
    assert ordered[0] == ordered[1] != sorted(ordered[0])


def test_a_limited_run_asks_the_same_questions_at_every_level(folder):
    rows = [RECORD | {"input": f"Who founded {number}?"} for number in range(9)]
    for level in ("16k", "32k"):
        (folder / "data" / f"loogle_SD_mixup_{level}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = tiny_model("Llama", vocab_size=260, max_position_embeddings=4096).eval()
    bench = LVEval(folder, datasets=["loogle_SD_mixup"])
    found = Runner(bench, model, chat, RunSettings(limit=3, max_length=64), Responses()).run()
    short, long = ({row.question for row in found.predictions if row.task.endswith(level)} for level in LEVELS[:2])
    assert short == long
    assert len(short) == 3


def test_the_configuration_is_read_and_not_executed(folder):
    from_python = load_config(folder)
    (folder / "config.py").unlink()
    (folder / "config").mkdir()
    (folder / "config" / "config.json").write_text(json.dumps(CONFIG))
    assert load_config(folder) == from_python
    assert from_python.levels == ("16k", "32k")


def test_prompts_limits_and_levels(folder):
    bench = LVEval(folder)
    assert isinstance(bench, Benchmark)
    assert bench.tasks == ("factrecall_en_16k", "factrecall_en_32k", "loogle_SD_mixup_16k")
    example = next(bench.examples("factrecall_en_32k"))
    prompt = bench.prompt(example, chat, 500)
    user = "A: ### Passage 1\nBeethoven did.\nQ: Who founded it?"
    assert chat.tokenizer.decode(list(prompt.ids)) == f"<bos>[user]{user}<end>[assistant]"
    assert prompt.max_new_tokens == 16
    assert (example.id, example.groups) == ("factrecall_en_32k/1", {"level": "32k"})
    cut = bench.prompt(example, chat, 21)
    assert cut.num_lost == cut.num_tokens - 20  # LongBench's rule: an odd length loses one more


def test_a_question_is_the_same_one_at_every_level(folder):
    """Intervals draw it with its answers at all levels; of factrecall, whose contexts have one question, each alone."""
    (folder / "data" / "loogle_SD_mixup_32k.jsonl").write_text(json.dumps(RECORD | {"context": "### Passage 1\nHe."}))
    bench = LVEval(folder)
    keys = {task: next(bench.examples(task)).context_key for task in bench.tasks}
    assert keys["loogle_SD_mixup_16k"] == keys["loogle_SD_mixup_32k"]
    assert len(set(keys.values())) == 2  # both records of factrecall have one context here


def with_json(folder, values):
    """Data sets as they are, the configuration as JSON."""
    (folder / "config.py").unlink(missing_ok=True)
    (folder / "config").mkdir(exist_ok=True)
    (folder / "config" / "config.json").write_text(json.dumps(values))
    return LVEval(folder)


def test_values_in_json_are_compared_with_the_official_ones(folder):
    assert "config/config.json has other values than the official config.py" in with_json(folder, CONFIG).deviations[0]
    values = json.loads((official("lveval") / "config" / "config.json").read_text(encoding="utf-8"))
    assert with_json(folder, dict(reversed(values.items()))).deviations[0].startswith("tasks left out")
    for name, change in (("DATASET_MAXGEN", 17), ("DATASET_PROMPT", "{context}")):
        changed = {**values, name: {**values[name], "factrecall_en": change}}
        assert "has other values" in with_json(folder, changed).deviations[0]


def test_a_part_can_be_chosen_and_what_is_missing_is_said(folder):
    assert LVEval(folder, datasets=["factrecall_en"], levels=["32k"]).tasks == ("factrecall_en_32k",)
    changed, left_out = LVEval(folder).deviations
    assert "config.py is not the official file" in changed
    assert left_out == "tasks left out: loogle_SD_mixup_32k"
    with pytest.raises(ValueError, match="got 1k; correct `levels`"):
        LVEval(folder, levels=["1k"])
    with pytest.raises(FileNotFoundError, match=r"data/loogle_SD_mixup_32k\.jsonl"):
        LVEval(folder, datasets=["loogle_SD_mixup"], levels=["32k"])


def test_keywords_reach_the_score(folder):
    bench = LVEval(folder)
    gated, plain = (next(bench.examples(task)) for task in ("loogle_SD_mixup_16k", "factrecall_en_16k"))
    assert gated.answer_keywords == "Beethoven"
    assert bench.score(plain, "Ludwig") == 0.0  # only the first answer counts
    assert table_of(bench, [gated, gated], ["Beethoven", "x"]) == {"score": 50.0}


@pytest.mark.parametrize("absent", [{"answer_keywords": None}, {"answer_keywords": ""}])
def test_keywords_may_be_absent(folder, absent):
    (folder / "data" / "loogle_SD_mixup_16k.jsonl").write_text(json.dumps(RECORD | absent))
    bench = LVEval(folder)
    assert bench.score(next(bench.examples("loogle_SD_mixup_16k")), "Beethoven it was") == 0.5


@pytest.mark.parametrize(("name", "value"), [("answer_keywords", ["x"]), ("answers", None), ("length", -1)])
def test_malformed_records_name_file_line_and_field(folder, name, value):
    (folder / "data" / "factrecall_en_16k.jsonl").write_text(json.dumps(RECORD | {name: value}))
    with pytest.raises(OfficialFileError, match=rf"factrecall_en_16k\.jsonl:1: field '{name}': expected"):
        list(LVEval(folder).examples("factrecall_en_16k"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("DATASET_MAXGEN = open('x')", r"config\.py:7: DATASET_MAXGEN: expected a literal, got \"open\('x'\)\""),
        ("DATASET_MAXGEN = {'factrecall_en': '16'}", "field 'DATASET_MAXGEN': expected an object of int values"),
        (
            "DATASET_MAXGEN = {'factrecall_en': 0, 'loogle_SD_mixup': 1}",
            "1 to 1,000,000 new tokens for factrecall_en, got 0",
        ),
        (
            "DATASET_MAXGEN = {'factrecall_en': 4, 'loogle_SD_mixup': -1}",
            "1 to 1,000,000 new tokens for loogle_SD_mixup",
        ),
        ("DATASET_PROMPT = {}", "field 'DATASET_SELECTED': expected known data sets with a prompt and a limit"),
        ("DATASET_MAXGEN = {}", "field 'DATASET_SELECTED': expected known data sets with a prompt and a limit"),
        ("DATASET_SELECTED = ['other']", "known data sets"),
        ("DATASET_LENGTH_LEVEL = None", "field 'DATASET_LENGTH_LEVEL': expected a list of texts"),
        ("DATASET_PROMPT = {'factrecall_en': '{x}', 'loogle_SD_mixup': '{x}'}", "to fill in, got {x}"),
        ("x = (", "expected Python"),
    ],
)
def test_malformed_configurations_are_named(folder, change, message):
    lines = (folder / "config.py").read_text().splitlines()[:6]
    (folder / "config.py").write_text("\n".join([*lines, change]))
    with pytest.raises(ValueError, match=message):
        load_config(folder)


@given(st.text(alphabet="DATASET_PROMPT= {}[]()'\"1,\n#:", max_size=60), st.sampled_from(["", "DATASET_PROMPT = "]))
def test_any_text_is_literals_or_refused(source, prefix):
    try:
        values = parse_literals(prefix + source, "config.py", CONFIG)
    except OfficialFileError:
        return
    assert set(values) <= set(CONFIG)


def test_the_official_configuration():
    config = load_config(official("lveval"))
    assert config.levels == ("16k", "32k", "64k", "128k", "256k")
    assert len(config.datasets) == 11
    assert {config.limits[name] for name in config.datasets} == {16, 64}


def test_lvevals_levels_are_plain_means_of_the_data_sets():
    report = reports.lveval()
    official, levels, datasets = summary(report)
    assert official.header == ("data set", "16k", "32k")
    expected = fmean(columns["score"] for task, columns in report.tables.items() if task.endswith("_16k"))
    assert float(rows_of(levels)["16k"][1]) == pytest.approx(expected, abs=0.0051)
    cells = rows_of(official)["cmrc_mixup"]
    assert float(rows_of(datasets)["cmrc_mixup"][1]) == pytest.approx(fmean(map(float, cells)), abs=0.0051)
    assert "leaderboard" not in levels.note


def test_an_incomplete_level_is_not_called_the_leaderboards():
    _, levels, _ = summary(reports.lveval(datasets=("cmrc_mixup", "factrecall_en")))
    assert "Not the leaderboard's" in levels.note
    assert "dureader_mixup" in levels.note


def without(report, *tasks):
    kept = tuple(item for item in report.predictions if item.task not in tasks)
    tables = {task: table for task, table in report.tables.items() if task not in tasks}
    return replace(report, predictions=kept, tables=tables)


def test_each_level_says_what_it_lacks():
    _, levels, datasets = summary(without(reports.lveval(), "cmrc_mixup_32k", "factrecall_en_32k"))
    assert levels.note.endswith("leaderboard's, as not everything was run: 32k without factrecall_en, cmrc_mixup.")
    assert "factrecall_en, cmrc_mixup without 32k, 64k, 128k, 256k" in datasets.note
    complete = summary(reports.lveval(levels=LEVELS))
    assert [section.note for section in complete[1:]] == ["Plain mean of the data sets.", "Plain mean of the levels."]


def test_plain_means_of_the_table():
    report = reports.lveval(datasets=("factrecall_en", "factrecall_zh"))
    tables = {"factrecall_en_16k": 10.0, "factrecall_en_32k": 20.0, "factrecall_zh_16k": 30.0}
    means = LVEval.means(replace(report, tables={task: {"score": value} for task, value in tables.items()}))
    assert {name: 100 * mean.value for name, mean in means["level"].items()} == {"16k": 20.0, "32k": 20.0}
    assert {name: 100 * mean.value for name, mean in means["dataset"].items()} == {
        "factrecall_en": 15.0,
        "factrecall_zh": 30.0,
    }
