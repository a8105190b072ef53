"""The README is short enough to be read, and its table of model families is measured."""

import pytest
from results.pages import replaced
from support import families, pages


def test_it_stays_a_page():
    assert len(pages.text("README.md").splitlines()) <= 120


def test_the_results_have_a_place():
    shown = pages.text("README.md")
    for name in ("best-embedded", "best-real", "speed"):
        shown = replaced(shown, name, "| new |")
    assert shown.partition("## Results")[2].partition("## Documentation")[0].count("| new |") == 3
    assert "| before | 1 |" not in shown


def test_the_families_are_those_with_twins():
    assert set(families.shown_cells()) == {families.called(name) for name in families.NAMES}
    assert families.table({"x": ("y",) * 6}).splitlines()[:2] == families.shown().splitlines()[:2]


@pytest.mark.parametrize(
    "name", ["GptOss", "Mixtral", *(pytest.param(name, marks=pytest.mark.slow) for name in ("Lfm2", "StableLm"))]
)
def test_what_it_says_of_a_family_is_measured(name):
    """One of each kind; the rest, and 4-bit weights, in the next test."""
    *shown, _, compared = families.shown_cells()[families.called(name)]
    assert families.measured(name, packs=False) == (*shown, "", compared)


@pytest.mark.slow
def test_the_table_of_families_is_what_their_twins_do():
    pytest.importorskip("bitsandbytes", reason='needs pip install "lit_longpo[quantized]"')
    measured = {name: families.measured(name) for name in families.NAMES}
    assert families.table(measured) == families.shown(), "type: make families"
