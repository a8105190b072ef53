"""Made-up reports of every benchmark, with responses that try to break pages."""

import random

from evaluation.metrics.longbench import BUCKETS, TASKS, bucket, by_bucket, total
from evaluation.metrics.longbench_v2 import table
from evaluation.metrics.lveval import METRICS
from evaluation.reports.report import BenchmarkReport, Prediction

NASTY = (
    "<script>alert(1)</script>",
    "</script></pre><img src=x onerror=alert(2)>",
    "\u4e2d\u6587\u56de\u7b54\uff0c\u957f\u7bc7 | cell | `code` [link](javascript:alert(3))",
    "{{ 7 * 7 }} {% raw %} &amp; \x00\x1b[31m",
    "plain words\nin two lines",
    "",
)


def row(task, number, draw, *, score=None, length=None, groups=None):
    return Prediction(
        f"{task}/{number}",
        draw.randrange(100, 20_000) if length is None else length,
        None,
        f"What is {number}? <b>",
        ("Oslo", "<i>Rome</i>"),
        NASTY[number % len(NASTY)],
        round(draw.random(), 3) if score is None else score,
        task=task,
        groups=groups or {},
        num_tokens=3000 + number,
        num_lost=500 * (number % 2),
    )


def table_of(benchmark, examples, texts):
    """A benchmark's official numbers for responses, as a run has them."""
    rows = [item.answered(text, benchmark.score(item, text)) for item, text in zip(examples, texts, strict=True)]
    return benchmark.table([row for row in rows if benchmark.counts(row)])


def summary(report):
    """The tables by the benchmark's own formulas."""
    return report.rules.summary(report)


def rows_of(section):
    """Cells of a table by the first one of each row."""
    return {row[0]: row[1:] for row in section.rows}


def averages(scores, language):
    """The paper's table from every task's score: means of categories, and their mean."""
    members = {}
    for name, task in TASKS.items():
        if language in task.languages:
            members.setdefault(task.category, []).append(scores[name])
    means = {category: sum(values) / len(values) for category, values in members.items()}
    return {**means, "average": sum(means.values()) / len(means)}


def finished(name, predictions, tables, **more):
    return BenchmarkReport(
        name, 20, tuple(predictions), "models/<small>", "owner/repository 0123", ("tasks left out: none",), tables,
        {"max_length": 3500, "limit": None}, **more,
    )  # fmt: skip


def longbench(tasks=tuple(TASKS), count=5, seed=0):
    draw = random.Random(seed)
    rows = {task: [row(task, number, draw) for number in range(count)] for task in tasks}
    tables = {task: {"score": total([item.score for item in items])} for task, items in rows.items()}
    return finished("longbench", [item for items in rows.values() for item in items], tables)


def longbench_e(tasks=("qasper_e", "trec_e")):
    draw = random.Random(1)
    rows, tables = [], {}
    for task in tasks:
        items = [row(task, number, draw, length=3000 + 900 * number) for number in range(5)]
        rows += [Prediction(**{**vars(item), "groups": {"length": bucket(item.length)}}) for item in items]
        tables[task] = by_bucket([item.score for item in items], [item.length for item in items])
    assert set(tables["trec_e"]) == set(BUCKETS)
    return finished("longbench_e", rows, tables)


def longbench_v2(count=24):
    draw = random.Random(2)
    rows = []
    for number in range(count):
        groups = {"difficulty": ("easy", "hard")[number % 2], "length": ("short", "medium", "long")[number % 3]}
        rows.append(
            row(
                "longbench_v2",
                number,
                draw,
                score=float(number % 5 == 0 and bool(NASTY[number % len(NASTY)])),
                groups={**groups, "domain": "Code"},
            )
        )
    kept = [item for item in rows if item.prediction]
    groups = [[item.groups[name] for item in kept] for name in ("length", "difficulty")]
    return finished("longbench_v2", rows, {"longbench_v2": table([item.score for item in kept], *groups)})


def lveval(levels=("16k", "32k"), datasets=tuple(METRICS)):
    draw = random.Random(3)
    rows, tables = [], {}
    for dataset in datasets:
        for level in levels:
            task = f"{dataset}_{level}"
            items = [row(task, number, draw, groups={"level": level}) for number in range(3)]
            rows += items
            tables[task] = {"score": total([item.score for item in items])}
    return finished("lveval", rows, tables)


def needle(tasks=("needle", "multi_value"), lengths=(512, 1024), depths=(0.0, 0.5, 1.0)):
    draw = random.Random(4)
    rows, tables = [], {}
    for task in tasks:
        items = [
            Prediction(
                f"{task}/{length}-{depth:g}-{index}", length, None if task == "multi_value" else depth, "Which?",
                ("7",), NASTY[index], draw.choice([0.0, 0.5, 1.0]), task=task, num_tokens=length,
            )
            for length in lengths for depth in depths for index in range(3)
        ]  # fmt: skip
        rows += items
        means = {str(n): total([item.score for item in items if item.length == n]) for n in lengths}
        tables[task] = means | {"mean": total([item.score for item in items])}
    return finished("needle", rows, tables)


EVERY = (longbench, longbench_e, longbench_v2, lveval, needle)
