from dataclasses import replace

from support import reports

from evaluation.reports.grouping import by_group, by_length, is_grid
from evaluation.reports.intervals import Estimate
from evaluation.reports.pages import Page
from evaluation.reports.samples import sample_table, samples
from evaluation.reports.table import Section, change_rows, escape, interval
from evaluation.reports.tables import head, sections, task_table, truncation_table


def rows(section):
    return {row[0]: dict(zip(section.header[1:], row[1:], strict=True)) for row in section.rows}


def test_the_task_table_has_official_numbers_means_and_empty_responses():
    report = reports.longbench(tasks=("qasper", "trec"), count=6)
    found = rows(task_table(report))
    assert list(found) == ["qasper", "trec", "mean of tasks", "all examples"]
    assert found["trec"]["score"] == f"{report.tables['trec']['score']:.2f}"
    assert found["trec"]["mean score"] == found["trec"]["score"]
    assert found["trec"]["empty responses"] == "1"
    assert found["all examples"]["examples"] == "12"


def test_empty_responses_leave_the_means_of_longbench_v2_as_in_its_table():
    report = reports.longbench_v2()
    found = rows(task_table(report))["longbench_v2"]
    assert found["examples"] == "20"  # 4 of 24 are empty
    assert f"{float(found['mean score']):.1f}" == f"{report.tables['longbench_v2']['Overall']:.1f}"
    assert "4 empty responses are left out" in task_table(report).note
    hard = next(rows(section) for section in sections(report) if section.title == "Group: difficulty")["hard"]
    assert f"{float(hard['mean']):.1f}" == f"{report.tables['longbench_v2']['Hard']:.1f}"


def test_truncation_is_counted_by_task():
    found = rows(truncation_table(reports.longbench(tasks=("qasper",), count=4)))["qasper"]
    assert (found["cut"], found["tokens lost"], found["tokens"]) == ("2", "1,000", "12,006")


def test_uncounted_tokens_are_said_to_be_uncounted():
    report = reports.needle()
    plain = replace(report, predictions=tuple(replace(item, num_tokens=0) for item in report.predictions))
    assert "not counted" in truncation_table(plain).note
    assert not truncation_table(plain).rows


def test_chosen_lengths_stay_and_found_ones_become_ranges():
    grid, texts = reports.needle(), reports.longbench()
    assert is_grid(grid.predictions)
    assert list(by_length(grid)) == ["512", "1,024"]
    assert not is_grid(texts.predictions)
    ranges = by_length(texts)
    assert next(iter(ranges)) == "0-1,024"
    for name, items in ranges.items():
        low, high = (int(end.replace(",", "")) for end in name.split("-"))
        assert all(low <= item.length < high for item in items)
    assert sum(map(len, ranges.values())) == len(texts.predictions)


def test_levels_are_sorted_by_number():
    assert list(by_group(reports.lveval(levels=("128k", "16k", "32k")))["level"]) == ["16k", "32k", "128k"]


def test_samples_are_the_worst_the_middle_and_the_best_of_every_task():
    report = reports.longbench(tasks=("qasper", "trec"), count=7)
    chosen = [sample.item.score for sample in samples(report) if sample.task == "trec"]
    scores = sorted(item.score for item in report.predictions if item.task == "trec")
    assert chosen == [scores[0], scores[3], scores[6]]
    assert len(samples(reports.longbench(tasks=("trec",), count=1))) == 1


def test_long_and_unprintable_responses_are_shortened_and_shown():
    report = reports.longbench(tasks=("trec",), count=1)
    item = replace(report.predictions[0], prediction="\x1b[31m" + "x" * 5000)
    (sample,) = samples(replace(report, predictions=(item,)))
    assert sample.texts["response"].startswith("\u241b[31mxxx")
    assert sample.texts["response"].endswith("x ... (3,005 more characters, see the JSON file)")


def test_the_head_states_everything_that_was_set():
    facts = dict(head(reports.longbench()))
    assert facts["model"] == "models/<small>"
    assert facts["protocol"] == "owner/repository 0123"
    assert facts["deviations"] == "tasks left out: none"
    assert facts["max_length"] == "3500"


def test_markdown_shows_texts_as_they_are_in_one_cell():
    assert escape("a|b\n<i> `c` [d](e) *f*") == "a\\|b &lt;i&gt; \\`c\\` \\[d\\](e) \\*f\\*"
    assert escape("_a_ max_length __b__") == "\\_a\\_ max_length \\__b_\\_"
    page = Page("t", [("a|<b>_", "x")], [])
    assert "- a\\|&lt;b&gt;\\_: x" in page.markdown()
    lines = Section("T", ("a", "b"), [("1", "x|y\nz")], "note").markdown().splitlines()
    assert lines[-1] == "| 1 | x\\|y z |"
    report = reports.longbench(tasks=("trec",))
    width = len(sample_table(samples(report)).header)
    body = [line for line in sample_table(samples(report)).markdown().splitlines() if line.startswith("|")]
    assert all(line.replace("\\|", "").count("|") == width + 1 for line in body)


def test_every_mean_has_an_interval_around_it():
    for make in reports.EVERY:
        for section in sections(make()):
            if "interval" in section.header:
                place = section.header.index("interval")
                for row in section.rows:
                    if row[place - 2] == "1":
                        assert row[place] == "-"
                        continue
                    low, high = (float(end) for end in row[place].split(" to "))
                    assert low <= float(row[place - 1]) <= high


def test_a_setting_that_is_not_set_is_none_in_words():
    report = replace(reports.needle(), settings={"limit": None, "seed": 0})
    assert head(report)[-2:] == [("limit", "none"), ("seed", "0")]


def test_nothing_is_shown_as_less_than_nothing():
    """ "-0.00" beside an equal score (opencompass#1402)."""
    assert change_rows({"benchmark/a/b": 0.1 + 0.2}, {"benchmark/a/b": 0.3}) == [("b", "30.00", "30.00", "+0.00")]
    assert interval(Estimate(0.0, -1e-9, 1e-9, 3)) == "0.00 to 0.00"
