from dataclasses import replace
from statistics import fmean

import pytest
from support import reports

from evaluation.metrics.longbench import TASKS, averages
from evaluation.metrics.lveval import LEVELS
from evaluation.reports.official import official_sections
from evaluation.reports.tables import sections


def table(section):
    return {row[0]: row[1:] for row in section.rows}


def test_longbenchs_categories_are_the_papers_means():
    report = reports.longbench()
    scores = {task: columns["score"] for task, columns in report.tables.items()}
    for section, language in zip(official_sections(report), ("en", "zh"), strict=True):
        shown = {name: float(cells[1]) for name, cells in table(section).items()}
        assert shown == pytest.approx(averages(scores, language), abs=0.0051)


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


def test_a_category_without_all_of_its_tasks_is_left_out_and_named():
    report = reports.longbench(tasks=("qasper", "narrativeqa", "multifieldqa_en", "trec", "lcc", "repobench-p"))
    english, chinese = official_sections(report)
    assert set(table(english)) == {"single-document QA", "code"}
    assert "hotpotqa" in english.note
    assert "triviaqa" in english.note
    assert set(table(chinese)) == {"code"}


def test_the_averages_of_one_language_do_not_need_the_other():
    english = tuple(name for name, task in TASKS.items() if "en" in task.languages)
    sections = official_sections(reports.longbench(tasks=english))
    assert "average" in table(sections[0])
    assert "Incomplete" not in sections[0].note
    assert "average" not in table(sections[1])


def test_longbench_e_has_the_mean_of_its_buckets_and_skips_empty_ones():
    report = reports.longbench_e()
    (section,) = official_sections(report)
    rows = table(section)
    assert set(rows) == {"0-4k", "4-8k"}  # nothing beyond 8,000 words
    expected = fmean(report.tables[task]["4-8k"] for task in ("qasper_e", "trec_e"))
    assert float(rows["4-8k"][1]) == pytest.approx(expected, abs=0.0051)


def test_lvevals_levels_are_plain_means_of_the_data_sets():
    report = reports.lveval()
    official, levels, datasets = official_sections(report)
    assert official.header == ("data set", "16k", "32k")
    expected = fmean(columns["score"] for task, columns in report.tables.items() if task.endswith("_16k"))
    assert float(table(levels)["16k"][1]) == pytest.approx(expected, abs=0.0051)
    cells = table(official)["cmrc_mixup"]
    assert float(table(datasets)["cmrc_mixup"][1]) == pytest.approx(fmean(map(float, cells)), abs=0.0051)
    assert "leaderboard" not in levels.note


def test_an_incomplete_level_is_not_called_the_leaderboards():
    _, levels, _ = official_sections(reports.lveval(datasets=("cmrc_mixup", "factrecall_en")))
    assert "Not the leaderboard's" in levels.note
    assert "dureader_mixup" in levels.note


def without(report, *tasks):
    kept = tuple(item for item in report.predictions if item.task not in tasks)
    tables = {task: table for task, table in report.tables.items() if task not in tasks}
    return replace(report, predictions=kept, tables=tables)


def test_each_level_says_what_it_lacks():
    _, levels, datasets = official_sections(without(reports.lveval(), "cmrc_mixup_32k", "factrecall_en_32k"))
    assert levels.note.endswith("leaderboard's, as not everything was run: 32k without factrecall_en, cmrc_mixup.")
    assert "factrecall_en, cmrc_mixup without 32k, 64k, 128k, 256k" in datasets.note
    complete = official_sections(reports.lveval(levels=LEVELS))
    assert [section.note for section in complete[1:]] == ["Plain mean of the data sets.", "Plain mean of the levels."]


def test_needles_tasks_are_averaged_by_length():
    report = reports.needle()
    (section,) = official_sections(report)
    expected = fmean(table["512"] for table in report.tables.values())
    assert float(table(section)["512"][1]) == pytest.approx(expected, abs=0.0051)
    assert not official_sections(reports.needle(tasks=("needle",)))
