"""Averages are those of the papers' own printed rows."""

import pytest

from evaluation import LongBench
from evaluation.papers.columns import Cell, Column
from evaluation.papers.logo import LOGOPaper
from evaluation.papers.longpo import LongPOPaper
from evaluation.papers.solopo import SoLoPOPaper
from evaluation.reports.report import BenchmarkReport, Prediction


def report(name, numbers, column="score"):
    """One example of each task, and its official number."""
    rows = [Prediction(task, 1, None, "q", ("Oslo",), "It is Oslo.", 0.5, task=task) for task in numbers]
    return BenchmarkReport(name, 0, tuple(rows), tables={task: {column: value} for task, value in numbers.items()})


def values(paper, title, reports):
    """The column's numbers as they are printed, and the note."""
    [section] = [item for item in paper.__new__(paper).sections(reports) if item.title == title]
    return {row[0]: float(row[2]) for row in section.rows}, section.note


LOGO_ROWS = [  # S-Doc, M-Doc, Summ, Few, Syn, avg of the paper's table
    (39.8, 36.7, 28.8, 65.4, 49.0, 43.9),  # Llama-3-8B-Inst-8K + LOGO-64K
    (39.3, 36.2, 24.8, 63.5, 39.9, 40.7),
    (38.3, 37.6, 26.1, 67.0, 31.5, 40.1),  # Mistral-v0.2-32K + LOGO
]


@pytest.mark.parametrize("row", LOGO_ROWS)
def test_logo_averages_five_categories_without_code(row):
    kinds = LOGOPaper.tables["LongBench"][0][:-1]
    numbers = {cell.task: value for kind, value in zip(kinds, row, strict=False) for cell in kind.groups[0]}
    assert set(numbers) & {"lcc", "repobench-p"} == set()
    found, _ = values(LOGOPaper, "LongBench", {"longbench": report("longbench", numbers)})
    assert list(found.values())[:-1] == [pytest.approx(value) for value in row[:-1]]
    assert found["avg"] == pytest.approx(row[-1], abs=0.06)


def test_logos_sub_em_is_of_the_same_answers_and_its_average_is_of_five():
    """129/351, 155/200, 41/200, 40/150, 102/200 of the camera-ready, whose mean is 42.48."""
    shares = {"longbook_qa_eng": (129, 351), "2wikimqa": (155, 200), "narrativeqa": (41, 200)}
    shares |= {"multifieldqa_en": (40, 150), "musique": (102, 200)}
    rows = {
        task: [Prediction(f"{task}/{n}", 1, None, "q", ("Oslo",), "It is oslo!" if n < hits else "", 0.0, task=task)
               for n in range(num)]
        for task, (hits, num) in shares.items()
    }  # fmt: skip
    book = rows.pop("longbook_qa_eng")
    reports = {
        "infinitebench": BenchmarkReport("infinitebench", 0, tuple(book)),
        "longbench": BenchmarkReport("longbench", 0, tuple(item for items in rows.values() for item in items)),
    }
    found, _ = values(LOGOPaper, "Sub-EM", reports)
    printed = {"En.QA": 36.75, "2WikiMQA": 77.5, "NarrativeQA": 20.5, "MFQA-en": 26.67, "MuSiQue": 51.0, "avg": 42.48}
    assert {name: found[name] for name in printed} == printed


@pytest.mark.parametrize(
    ("books", "ruler"),
    [
        ((22.13, 4.93, 14.41, 13.82), (72.60, 74.40, 52.2, 66.4)),  # Mistral-7B-Instruct-v0.2
        ((27.05, 23.51, 67.25, 39.27), (96.88, 96.49, 64.81, 86.06)),  # LongPO, round 1
        ((22.89, 6.08, 52.4, 27.12), (82.1, 80.09, 54.30, 72.16)),  # Qwen2.5-7B-Instruct
    ],
)
def test_longpo_averages_three_and_three(books, ruler):
    tables = LongPOPaper.tables
    reports = {}
    for part, title, row, column in (
        ("infinitebench", "InfiniteBench", books, "score"),
        ("ruler", "RULER", ruler, "mean"),
    ):
        numbers = {
            cell.task: value for kind, value in zip(tables[title][0], row[:-1], strict=False) for cell in kind.groups[0]
        }
        reports[part] = report(part, numbers, column)
        found, note = values(LongPOPaper, title, reports)
        assert found["AVG."] == pytest.approx(row[-1], abs=0.006 if part == "infinitebench" else 0.08)
    assert "13 tasks (without ruler cwe, ruler fwe)" in note  # named, and no other mean in its place


def test_thirteen_tasks_are_the_readmes_average():
    """88.02 = (8 x 96.88 + 96.49 + 2 x 71.55 + 2 x 64.81) / 13, as LongPO's README has it."""
    kinds = {column.label: column.groups[0] for column in LongPOPaper.tables["RULER"][0]}
    row = {"NIAH": 96.88, "VT": 96.49, "AGG": 71.55, "QA": 64.81}
    numbers = {cell.task: value for kind, value in row.items() for cell in kinds[kind]}
    found, _ = values(LongPOPaper, "RULER", {"ruler": report("ruler", numbers, "mean")})
    assert found["13 tasks"] == 88.02


def test_solopos_parts_of_longbench_v2_are_those_of_its_lengths():
    lengths = ("short", "medium", "long")
    rows = [
        Prediction(f"v{n}", 1, None, "q", ("A",), "x", float(n == 0), "longbench_v2", {"length": lengths[n]})
        for n in range(3)
    ]
    table = {"Overall": 33.3, "Short": 100.0, "Medium": 0.0, "Long": 0.0}
    reports = {"longbench_v2": BenchmarkReport("longbench_v2", 0, tuple(rows), tables={"longbench_v2": table})}
    found, _ = values(SoLoPOPaper, "LongBench v2", reports)
    assert found == {"all": 33.3, "<32K": 100.0, "32-128K": 0.0, ">128K": 0.0}
    section = SoLoPOPaper.__new__(SoLoPOPaper).sections(reports)[-1]
    assert [row[1] for row in section.rows] == ["3", "1", "1", "1"]  # examples behind each


def test_a_column_is_the_mean_of_its_groups_means():
    reports = {"a": report("longbench", {"qasper": 10.0, "musique": 20.0, "trec": 90.0})}
    groups = ((Cell("a", "qasper"), Cell("a", "musique")), (Cell("a", "trec"),))
    assert LongBench.name == "longbench"
    assert Column("avg", groups).mean(reports).value == pytest.approx(0.525)
