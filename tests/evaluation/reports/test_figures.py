from dataclasses import replace

from support import reports

from evaluation.reports.figures import figures, heat_map


def test_needle_has_curves_and_a_map_for_every_task_with_depths():
    assert set(figures(reports.needle())) == {"by_length", "by_depth", "heat_map"}
    assert set(figures(reports.needle(tasks=("needle", "multi_key")))) == {
        *("by_length", "by_depth", "heat_map/needle", "heat_map/multi_key")
    }


def test_real_texts_have_a_curve_by_length_only():
    assert set(figures(reports.longbench())) == {"by_length"}


def test_responses_that_do_not_count_leave_an_empty_curve():
    report = reports.longbench_v2()
    empty = replace(report, predictions=tuple(replace(item, prediction="") for item in report.predictions))
    assert len(figures(empty)["by_length"].axes[0].lines[0].get_ydata()) == 0


def test_curves_show_the_reports_means():
    report = reports.needle(tasks=("needle",))
    line = figures(report)["by_length"].axes[0].lines[0]
    assert list(line.get_ydata()) == list(report.by_length().values())
    labels = [label.get_text() for label in figures(report)["by_depth"].axes[0].get_xticklabels()]
    assert labels == ["0%", "50%", "100%"]


def test_each_of_a_few_tasks_has_its_line():
    axes = figures(reports.needle())["by_length"].axes[0]
    assert [line.get_label() for line in axes.lines] == ["all examples", "needle", "multi_value"]
    assert len(figures(reports.longbench())["by_length"].axes[0].lines) == 1


def test_a_cell_without_an_example_stays_empty():
    """A run that was limited asks only part of the grid."""
    report = reports.needle(tasks=("needle",))
    part = [item for item in report.predictions if (item.depth, item.length) != (0.5, 1024)]
    texts = [text.get_text() for text in heat_map(replace(report, predictions=tuple(part))).axes[0].texts]
    assert len(texts) == 6
    assert texts.count("") == 1


def test_examples_without_a_depth_are_in_no_map():
    mixed, alone = reports.needle(), reports.needle(tasks=("needle",))
    shown = [text.get_text() for text in figures(mixed)["heat_map"].axes[0].texts]
    assert shown == [text.get_text() for text in heat_map(alone).axes[0].texts]
