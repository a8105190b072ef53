import json
import math
from dataclasses import replace
from statistics import fmean

import pytest
from support import reports
from support.byte_tokenizer import CHAT, byte_tokenizer
from support.official_data import official
from support.reports import averages, rows_of, summary, table_of

from evaluation.benchmark import Benchmark
from evaluation.benchmarks.longbench import E_TASKS, NO_CHAT, LongBench
from evaluation.benchmarks.official_files import OfficialFileError
from evaluation.metrics.longbench import TASKS
from evaluation.reports.reading import load_report
from evaluation.reports.report import BenchmarkReport
from evaluation.running.results import make_report
from evaluation.running.task_scores import TaskScores
from lit_longpo.policy import PromptFormat, PromptTemplate

chat = PromptFormat(byte_tokenizer(chat_template=CHAT), PromptTemplate())
RECORD = {
    "input": "Who? {context}",
    "context": "Oslo {input} {x}",
    "answers": ["Oslo"],
    "length": 4000,
    "dataset": "hotpotqa",
    "language": "en",
    "all_classes": None,
    "_id": "one",
}


@pytest.fixture
def folder(tmp_path):
    """The official layout with templates of our own and two tasks."""
    (tmp_path / "config").mkdir()
    (tmp_path / "data").mkdir()
    templates = dict.fromkeys(TASKS, "T: {context}\nQ: {input}\nA:") | {"samsum": "S: {context}"}
    (tmp_path / "config" / "dataset2prompt.json").write_text(json.dumps(templates))
    (tmp_path / "config" / "dataset2maxlen.json").write_text(json.dumps(dict.fromkeys(TASKS, 32) | {"samsum": 128}))
    write(tmp_path, "hotpotqa", RECORD, {**RECORD, "length": 3999})
    write(tmp_path, "samsum", {**RECORD, "dataset": "samsum", "answers": ["They met."]})
    write(tmp_path, "hotpotqa_e", RECORD, {**RECORD, "_id": "two", "length": 9000, "dataset": "hotpotqa_e"})
    return tmp_path


def write(folder, task, *records):
    lines = [json.dumps(record, ensure_ascii=False) for record in records]
    (folder / "data" / f"{task}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_prompts_are_filled_once(folder):
    """Braces inside the record stay what they are."""
    bench = LongBench(folder)
    assert isinstance(bench, Benchmark)
    example = next(bench.examples("hotpotqa"))
    prompt = bench.prompt(example, chat, 500)
    text = chat.tokenizer.decode(list(prompt.ids))
    user = "T: Oslo {input} {x}\nQ: Who? {context}\nA:"
    assert text == f"<bos>[user]{user}<end>[assistant]"
    assert (prompt.max_new_tokens, prompt.min_new_tokens) == (32, 0)


def test_prompts_are_cut_in_the_middle_to_the_length_of_the_official_script(folder):
    """Head and tail of the filled template, half of the tokens each; 3500 of a window of 4K, 31500 of one of 32K."""
    bench = LongBench(folder)
    plain = PromptFormat(byte_tokenizer(), PromptTemplate())
    cut = bench.prompt(next(bench.examples("hotpotqa")), plain, 11)
    assert plain.tokenizer.decode(list(cut.ids)) == "<bos>T: O" + "xt}\nA:"[-5:]
    assert [bench.official_length(window) for window in (2048, 4096, 32_768, 131_072)] == [3500, 3500, 31_500, 127_500]


def test_samsum_stops_at_a_newline_and_goes_without_the_chat_template(folder):
    bench = LongBench(folder)
    prompt = bench.prompt(next(bench.examples("samsum")), chat, 500)
    assert chat.tokenizer.decode(list(prompt.ids)) == "<bos>S: Oslo {input} {x}"
    assert chat.tokenizer.encode("\n", add_special_tokens=False)[0] in prompt.stop_ids
    assert (prompt.max_new_tokens, prompt.min_new_tokens) == (128, 1)


def test_six_tasks_go_without_the_chat_template(folder):
    bench = LongBench(folder)
    assert {task for task in TASKS if not bench.rules(task).chat} == NO_CHAT
    assert {task for task in TASKS if bench.rules(task).stop_at_newline} == {"samsum"}
    extended = LongBench(folder, extended=True)
    assert not extended.rules("trec_e").chat
    assert extended.rules("samsum_e").stop_at_newline


def test_repeated_ids_become_unique_and_left_out_tasks_are_said(folder):
    bench = LongBench(folder)
    assert [example.id for example in bench.examples("hotpotqa")] == ["hotpotqa/one", "hotpotqa/one#2"]
    assert bench.tasks == ("hotpotqa", "samsum")
    changed, _, left_out = bench.deviations
    assert "dataset2prompt.json is not the official file" in changed
    assert "narrativeqa" in left_out
    assert LongBench(folder, tasks=["samsum"]).tasks == ("samsum",)


def test_buckets_of_longbench_e(folder):
    bench = LongBench(folder, extended=True)
    assert (bench.name, bench.tasks) == ("longbench_e", ("hotpotqa_e",))
    examples = list(bench.examples("hotpotqa_e"))
    assert [example.groups["length"] for example in examples] == ["4-8k", "8k+"]
    table = table_of(bench, examples, ["Oslo", "Bergen"])
    assert math.isnan(table.pop("0-4k"))
    assert table == {"4-8k": 100.0, "8k+": 0.0}


def test_the_last_records_class_names_hold_for_the_file(folder):
    """With its own names the first record would score 1/2."""
    records = [RECORD | {"dataset": "trec", "answers": ["a"], "all_classes": names} for names in (["a", "b"], ["a"])]
    write(folder, "trec", *records)
    bench = LongBench(folder)
    assert table_of(bench, list(bench.examples("trec")), ["a b", "a"]) == {"score": 100.0}


def test_a_classification_without_class_names_is_refused_before_it_is_asked(folder):
    write(folder, "trec", RECORD | {"dataset": "trec"})
    with pytest.raises(OfficialFileError, match=r"trec\.jsonl:1: field 'all_classes': expected a list of texts"):
        list(LongBench(folder).examples("trec"))


def test_answers_become_a_report(folder, tmp_path):
    bench = LongBench(folder)
    examples = list(bench.examples("hotpotqa"))
    rows = [example.answered("Oslo", bench.score(example, "Oslo")) for example in examples]
    report = BenchmarkReport(bench.name, 0, tuple(rows))
    assert report.by_length() == {3999: 1.0, 4000: 1.0}
    report.save(tmp_path / "report.json")
    assert load_report(tmp_path / "report.json") == report
    assert table_of(bench, examples, ["Oslo", "x"]) == {"score": 50.0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answers": "Oslo"}, "field 'answers': expected a list of texts, got 'Oslo'"),
        ({"answers": []}, "field 'answers'"),
        ({"length": "4000"}, "field 'length': expected a whole number"),
        ({"context": None}, "field 'context': expected text"),
        ({"dataset": "qasper"}, "field 'dataset': expected one of hotpotqa"),
        ({"all_classes": "x"}, "field 'all_classes'"),
    ],
)
def test_malformed_records_name_file_line_and_field(folder, change, message):
    write(folder, "hotpotqa", RECORD, RECORD | change)
    with pytest.raises(OfficialFileError, match=rf"hotpotqa\.jsonl:2: {message}"):
        list(LongBench(folder).examples("hotpotqa"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("dataset2prompt.json", {}, "field 'narrativeqa': expected str"),
        ("dataset2maxlen.json", dict.fromkeys(TASKS, True), "field 'narrativeqa': expected int"),
        ("dataset2maxlen.json", dict.fromkeys(TASKS, 0), "expected int"),
        ("dataset2prompt.json", dict.fromkeys(TASKS, "{context.__class__}"), "perhaps {input} to fill in"),
        ("dataset2prompt.json", [], "a JSON object"),
    ],
)
def test_malformed_configurations_name_the_file(folder, name, content, message):
    (folder / "config" / name).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"{name}.*{message}"):
        LongBench(folder)


def test_missing_things_are_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="set `folder`"):
        LongBench(tmp_path / "none")
    with pytest.raises(ValueError, match="got hotpot; correct `tasks`"):
        LongBench(folder, tasks=["hotpot"])
    for path in (folder / "data").iterdir():
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"data/narrativeqa\.jsonl"):
        LongBench(folder)


def test_the_official_files_are_read_and_their_records_counted():
    bench = LongBench(official("longbench"))
    assert bench.tasks == tuple(TASKS)
    assert bench.deviations == ()  # of the configuration; the records are a sample
    count = len(list(bench.examples("hotpotqa")))
    report = make_report(bench, {"hotpotqa": TaskScores((), {}, count, count)})
    assert f"records: hotpotqa {count} of 200 official ones" in report.deviations
    limits = {task: bench.rules(task).max_new_tokens for task in ("gov_report", "samsum", "lcc", "hotpotqa")}
    assert limits == {"gov_report": 512, "samsum": 128, "lcc": 64, "hotpotqa": 32}
    assert len(E_TASKS) == 13


@pytest.mark.parametrize("task", TASKS)
def test_every_official_record_is_prompted_and_its_answer_is_right(task):
    """A copied answer scores 1: whole percent, whole numbers and ROUGE's 1e-8 included."""
    bench = LongBench(official("longbench"))
    examples = list(bench.examples(task))
    prompts = [bench.prompt(example, chat, 2000) for example in examples]
    assert all(prompt.uses_chat != (task in NO_CHAT) for prompt in prompts)
    assert any(prompt.num_lost for prompt in prompts)
    perfect = [example.answers[0] for example in examples]
    if task in ("gov_report", "multi_news", "vcsum", "qmsum"):  # slow: one is enough
        assert bench.score(examples[0], perfect[0]) > 0.99
    else:
        assert table_of(bench, examples, perfect)["score"] > 99.0


def test_longbenchs_categories_are_the_papers_means():
    report = reports.longbench()
    scores = {task: columns["score"] for task, columns in report.tables.items()}
    for section, language in zip(summary(report), ("en", "zh"), strict=True):
        shown = {name: float(cells[1]) for name, cells in rows_of(section).items()}
        assert shown == pytest.approx(averages(scores, language), abs=0.0051)


def test_a_category_without_all_of_its_tasks_is_left_out_and_named():
    report = reports.longbench(tasks=("qasper", "narrativeqa", "multifieldqa_en", "trec", "lcc", "repobench-p"))
    english, chinese = summary(report)
    assert set(rows_of(english)) == {"single-document QA", "code"}
    assert "hotpotqa" in english.note
    assert "triviaqa" in english.note
    assert set(rows_of(chinese)) == {"code"}


def test_the_averages_of_one_language_do_not_need_the_other():
    english = tuple(name for name, task in TASKS.items() if "en" in task.languages)
    sections = summary(reports.longbench(tasks=english))
    assert "average" in rows_of(sections[0])
    assert "Incomplete" not in sections[0].note
    assert "average" not in rows_of(sections[1])


def test_longbench_e_has_the_mean_of_its_buckets_and_skips_empty_ones():
    report = reports.longbench_e()
    (section,) = summary(report)
    rows = rows_of(section)
    assert set(rows) == {"0-4k", "4-8k"}  # nothing beyond 8,000 words
    expected = fmean(report.tables[task]["4-8k"] for task in ("qasper_e", "trec_e"))
    assert float(rows["4-8k"][1]) == pytest.approx(expected, abs=0.0051)


def test_the_papers_averages():
    """GPT-3.5-Turbo-16k's published rows give 44.0 and 44.5."""
    english = dict(zip(
        ("narrativeqa", "qasper", "multifieldqa_en", "hotpotqa", "2wikimqa", "musique", "gov_report", "qmsum",
         "multi_news", "trec", "triviaqa", "samsum", "passage_count", "passage_retrieval_en", "lcc", "repobench-p"),
        (23.6, 43.3, 52.3, 51.6, 37.7, 26.9, 29.5, 23.4, 26.7, 68.0, 91.4, 41.7, 4.5, 71.0, 54.7, 53.6),
        strict=True,
    ))  # fmt: skip
    chinese = {"multifieldqa_zh": 61.2, "dureader": 28.7, "vcsum": 16.0, "lsht": 29.2, "passage_retrieval_zh": 77.5}
    assert set(english) | set(chinese) == set(TASKS)
    published = {task: {"score": value} for task, value in (english | chinese).items()}
    means = LongBench.means(replace(reports.longbench(), tables=published))
    assert 100 * means["category"]["average"].value == pytest.approx(44.0, abs=0.05)
    assert 100 * means["category_zh"]["average"].value == pytest.approx(44.5, abs=0.05)
    del published["qasper"]
    means = LongBench.means(replace(reports.longbench(), tables=published))
    assert "average" not in means["category"]
    assert "single-document QA" not in means["category"]
    assert "average" in means["category_zh"]
