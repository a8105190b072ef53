from dataclasses import replace

from matplotlib.colors import to_rgb
from support import reports

from evaluation.reports.figures import change_map, figures, heat_map


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


def luminance(colour):
    """Relative luminance of WCAG 2."""
    parts = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(colour)]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrasts(axes):
    """Of every number with the colour behind it."""
    [image] = axes.images
    shades = [rgba[:3] for row in image.to_rgba(image.get_array()) for rgba in row]
    for text, shade in zip(axes.texts, shades, strict=True):
        dark, light = sorted([luminance(text.get_color()), luminance(shade)])
        yield (light + 0.05) / (dark + 0.05)


def scored(values):
    """A report with a length for each score."""
    report = reports.needle(tasks=("needle",))
    first = report.predictions[0]
    items = (replace(first, id=str(number), length=number, score=value) for number, value in enumerate(values, 1))
    return replace(report, predictions=tuple(items))


def test_numbers_can_be_read_on_every_colour():
    values = [number / 40 for number in range(41)]
    assert min(contrasts(heat_map(scored(values)).axes[0])) >= 4.5
    changes = change_map(scored([0.5] * 41), scored(values))
    assert min(contrasts(changes.axes[0])) >= 4.5


def test_lines_of_tasks_differ_in_colour_and_marker():
    lines = figures(reports.needle(tasks=("needle", "multi_key", "multi_value")))["by_length"].axes[0].lines
    assert len({line.get_color() for line in lines}) == len({line.get_marker() for line in lines}) == len(lines) == 4


def test_the_heat_maps_colours_say_the_same_in_grey():
    """Lightness grows with the score, so that no eye and no printer takes one score for another."""
    image = heat_map(reports.needle()).axes[0].images[0]
    colours = [image.get_cmap()(image.norm(number / 20))[:3] for number in range(21)]
    linear = [[part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in rgb] for rgb in colours]
    brightness = [0.2126 * red + 0.7152 * green + 0.0722 * blue for red, green, blue in linear]
    assert brightness == sorted(brightness)
    assert brightness[-1] - brightness[0] > 0.5
