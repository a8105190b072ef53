"""Tables of speed are what is stored, and the README's ranges are over their rows."""

from decimal import Decimal

import pytest
from results import speed
from results.pages import replaced
from support import pages

TABLES = speed.stored()["tables"]


def called(table):
    return table["name"]


@pytest.mark.parametrize("table", TABLES, ids=called)
def test_the_page_shows_what_is_stored(table):
    page = pages.text("RESULTS.md")
    assert replaced(page, table["name"], speed.markdown(table)) == page, "type: make results-table"
    assert table["machine"]
    assert table["commits"]
    assert {len(row["cells"]) for row in table["rows"]} == {len(table["header"])}


def test_the_readme_shows_the_ranges_of_what_is_stored():
    page = pages.text("README.md")
    assert replaced(page, speed.README, speed.readme()) == page, "type: make results-table"
    smallest, largest = speed.readme().splitlines()[2].split(" | ")[4].split(" to ")
    assert f"a DPO step takes {smallest} to {largest} of TRL" in pages.text("RESULTS.md")


def number(cell):
    """The figure that a cell opens with."""
    words = cell.strip("*").split()
    try:
        return float(words[0].strip("*").replace(",", "")) if words else None
    except ValueError:
        return None


def triples():
    """Our figure, another side's and the ratio, of every row that has all three."""
    for table in TABLES:
        for column in range(2, len(table["header"])):
            if table["header"][column].startswith("ratio") and table["header"][column - 1] in ("TRL", "harness"):
                for row in table["rows"]:
                    values = tuple(map(number, row["cells"][column - 2 : column + 1]))
                    if None not in values:
                        yield values


def test_ratios_are_those_of_the_figures_beside_them():
    """Some are medians of rounds, the figures beside them of steps: within 7 %."""
    found = [*triples()]
    assert len(found) > 30
    assert [values for values in found if values[2] != pytest.approx(values[0] / values[1], rel=0.07)] == []


def test_a_range_is_of_runs_and_not_of_rounds():
    found = speed.ratios("0.556, 0.563 and **0.51** (0.50 - 0.71)")
    assert speed.ranged(found) == "0.51 to 0.56"
    assert speed.ranged([Decimal("0.215")]) == "0.22"
