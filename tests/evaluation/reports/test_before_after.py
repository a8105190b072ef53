import re
from dataclasses import replace

import pytest
from support import reports
from support.command_line import COMMANDS

from evaluation.reports.before_after import compared, page_of, write_page
from evaluation.reports.comparison import compare
from lit_longpo.errors import UserError

pytestmark = pytest.mark.usefixtures("blank_pictures")


@pytest.fixture(scope="module")
def pair():
    """One answer of every two is put right, at the deepest places."""
    before = reports.needle()
    rows = [replace(item, score=1.0 if item.depth == 1.0 else item.score) for item in before.predictions]
    return before, replace(
        before, step=7, predictions=tuple(rows), settings={"date": "2026-01-02", "command": "evaluate x"}
    )


def test_one_page_has_both_their_change_and_what_differs(pair, tmp_path):
    paths = write_page(page_of(compare(*pair)), tmp_path, "needle-own")
    assert [path.name for path in paths] == ["needle-own-comparison.md", "needle-own-comparison.html"]
    page = paths[1].read_text()
    names = {"by_length", "heat_map before", "heat_map after", "heat_map change"}
    assert set(re.findall(r'alt="([^"]+)"', page)) == names
    assert "date: not stated and 2026-01-02" in page
    assert "command: not stated and evaluate x" in page
    assert "Sample predictions" not in page
    before, after = (sum(item.score for item in report.predictions) / len(report.predictions) for report in pair)
    row = f"| mean | {100 * before:.2f} | {100 * after:.2f} | {100 * (after - before):+.2f} |"
    assert row in paths[0].read_text()


def test_the_change_is_second_minus_first_in_every_cell(pair):
    axes = page_of(compare(*pair)).pictures["heat_map change"].axes[0]
    first, second = (report.by_cell() for report in pair)
    depths, lengths = (sorted({cell[place] for cell in first}) for place in (0, 1))
    expected = [f"{100 * (second[d, n] - first[d, n]):+.0f}" for d in depths for n in lengths]
    assert [text.get_text() for text in axes.texts] == expected
    assert any(text != "+0" for text in expected)


def test_folders_are_compared_report_by_report(pair, tmp_path, capsys):
    for side, report in zip("ab", pair, strict=True):
        replace(report, step=0).save(tmp_path / side / "deep" / "needle-step0.json")
        replace(report, step=0).save(tmp_path / side / f"only_{side}-step0.json")
    assert [title for title, _ in compared(tmp_path / "a", tmp_path / "b")] == ["needle"]
    COMMANDS["evaluate"](["--compare", str(tmp_path / "a"), str(tmp_path / "b"), "--output", str(tmp_path / "pages")])
    assert "# needle: b against a" in capsys.readouterr().out
    assert (tmp_path / "pages" / "needle-comparison.html").is_file()
    with pytest.raises(UserError, match="expected reports of the same names"):
        compared(tmp_path / "a" / "deep", tmp_path / "b")
    with pytest.raises(UserError, match=r"or two folders .*for example \S+/b/deep/needle-step0.json"):
        compared(tmp_path / "a" / "deep" / "needle-step0.json", tmp_path / "b")


def test_reports_of_several_steps_and_folders_have_a_page_each(pair, tmp_path):
    names = ("deep/needle-step0.json", "deep/needle-step7.json", "needle-step0.json", "qa-step0.json")
    for side, report in zip("ab", pair, strict=True):
        for name in names:
            replace(report, step=0).save(tmp_path / side / name)
    titles = [title for title, _ in compared(tmp_path / "a", tmp_path / "b")]
    assert titles == ["deep-needle-step0", "deep-needle-step7", "needle-step0", "qa"]
