"""What the comment at the head of a recipe promises: a command that runs it, and what its result looks like."""

import re

import pytest
from support.command_line import CONFIGS
from support.page_commands import head, recipe_lines
from support.pages import ROOT, name

RECIPES = [path for room in ("", "real", "paper", "build") for path in sorted((CONFIGS / room).glob("*.yaml"))]
RESULTS = (ROOT / "RESULTS.md").read_text()


def result(path):
    """The end of the head, from the word on, in one line."""
    return " ".join(head(path).partition("Result: ")[2].split())


def test_there_are_recipes():
    assert len(RECIPES) > 25


@pytest.mark.parametrize("path", RECIPES, ids=name)
def test_it_shows_the_command_that_runs_it(path):
    commands = [line.ours for line in recipe_lines() if line.page == name(path)]
    assert any(words[1:3] == ("--config", name(path)) for words in commands)


@pytest.mark.parametrize("path", RECIPES, ids=name)
def test_it_says_what_its_result_looks_like(path):
    """Figures are those of RESULTS.md, of the paper where it says so, or said not to be there."""
    ours, _, _ = result(path).partition("The paper:")
    assert ours
    figures = set(re.findall(r"\d+\.\d+", ours))
    assert "not measured here" in ours or figures or re.search(r"\d", ours)
    assert not {figure for figure in figures if figure not in RESULTS}
