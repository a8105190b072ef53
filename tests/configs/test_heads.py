"""What the comment at the head of a recipe promises: a command that runs it, and what its result looks like."""

import re

import pytest
import yaml
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


@pytest.mark.parametrize("objective", ["dpo", "ipo", "orpo", "sft", "simpo"])
def test_a_baseline_ends_where_its_row_of_the_table_does(objective):
    """The suite trains with this recipe's very settings; it was said to be "not measured here"."""
    line = rf"^\| {objective}-long \| \[1\]\S+ \[2\]\S+ \[3\]\S+ \|.*$"
    row = re.search(line, RESULTS, re.MULTILINE).group().split("|")
    at = [cell.strip() for cell in row[5:8]]  # 256, 384 and 512 tokens
    assert f"{' / '.join(at)} % after (mean of seeds 1 to 3)" in result(CONFIGS / f"{objective}.yaml")
    trained = yaml.safe_load((ROOT / f"docs/results/stored/embedded/{objective}-long-seed1.yaml").read_text())
    for section, fragment in {"model": objective, "data": "synthetic", "optimization": "tiny"}.items():
        folder = "objective" if section == "model" else section
        stated = _settings(yaml.safe_load((CONFIGS / folder / f"{fragment}.yaml").read_text()))
        found = _settings(trained[section])
        assert len(stated.keys() & found.keys()) > 1
        assert {name: stated[name] for name in stated if name in found} == {
            name: found[name] for name in stated if name in found
        }


def _settings(section):
    """Arguments of a class or of a section, without the seed."""
    of_class = section.get("init_args", section)
    optimizer = of_class.get("optimizer", {}).get("init_args", {})
    return {name: value for name, value in {**of_class, **optimizer}.items() if name not in ("seed", "optimizer")}
