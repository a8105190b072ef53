"""Every command of pages, recipes' heads and --help: the real command line takes it; test_commands_run.py runs it."""

import importlib.util
import re
import shlex
import subprocess
import tomllib
from functools import cache

import pytest
import results.__main__ as results
from jsonargparse import Namespace
from support import pages, shown_folder
from support.command_line import COMMANDS
from support.page_commands import Line, help_lines, lines_of, options, page_lines, recipe_lines
from support.pages import PAGES, ROOT
from torch.distributed.run import get_args_parser

from data_modules.builders import command as builds
from evaluation import command as evaluations
from evaluation.asking import command as asking
from evaluation.own_settings import with_policy
from evaluation.perplexity import command as perplexities
from evaluation.served.settings import with_server
from lit_longpo.cli import LongPOCLI
from lit_longpo.export import command as exports
from lit_longpo.planning.command import PlanCLI

LINES = page_lines()
OURS = {line.ours: line for line in reversed(LINES) if line.ours}
MEASURED = {words: line for words, line in OURS.items() if line.page == "RESULTS.md"}  # once, at a commit
SHOWN = {words: line for words, line in OURS.items() if words not in MEASURED}
BESIDES = {line.ours: line for line in [*recipe_lines(), *help_lines()] if line.ours and line.ours not in OURS}
TRAINING = ("fit", "validate", "test")


def called(lines):
    return [pytest.param(words, id=str(line)) for words, line in lines.items()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return shown_folder.make(tmp_path_factory.mktemp("shown"))


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)  # capitals.py
    return folder


class Stop(Exception):
    """Carries a parser out of the command that has made it."""


@cache
def parser(command):
    """Of one of LightningCLI's commands, or of `plan`; making one takes longer than parsing with it."""

    class Caught(PlanCLI if command == "plan" else LongPOCLI):
        def parse_arguments(self, parser, args):
            raise Stop(parser)

    with pytest.raises(Stop) as caught:
        Caught(args=[] if command == "plan" else [command])
    return caught.value.args[0]


def understood(words, monkeypatch):
    """Parsed by the command's own parser, up to where it would begin to work."""
    name, *rest = words
    if name in TRAINING:
        return parser(name).parse_args([word for word in words if word != "--print_config"])
    if name == "plan":
        return parser(name).parse_args(rest)
    if name == "build":
        return builds.build_parser().parse_args(rest)
    if name == "evaluate" and "--compare" not in words:
        return evaluations.evaluate_parser().parse_args(with_server(with_policy(rest)))
    if name == "ask":
        return asking.ask_parser().parse_args(asking.with_lists(with_policy(rest)))
    if name == "results":
        return results._parser().parse_args(rest)
    if name == "perplexity":
        return perplexities.perplexity_parser().parse_args(with_policy(rest))
    monkeypatch.setattr(exports, "export_checkpoint", lambda *values, **_: values)
    return COMMANDS[name](rest)


# What stands for files and classes of the reader's.
SHIPPED = {
    "my.yaml": "solopo",
    "my_file.MyBenchmark": "capitals.Capitals",
    "my_package.MyCallback": "lightning.pytorch.callbacks.Timer",
    **dict.fromkeys(("my_package.MyObjective", "my_package.<paper>.<Name>"), "lit_longpo.objectives.SimPO"),
}


def with_shipped(words):
    """What comes with the package in place of the reader's own."""
    return tuple(SHIPPED.get(word, word) for word in words)


def parsed_elsewhere(words):
    """A recipe as it stands is run by tests/configs/test_configs.py, test_real.py and test_papers.py."""
    shown = re.sub(r"(--policy\.source|--data\.path|--trainer\.devices) \S+", r"\1", " ".join(words))
    room = re.match(r"(fit|plan) --config configs/(?:(\w+)/)?[\w.]+\.yaml", shown)
    rest = {
        ("fit", None): "",
        ("fit", "real"): " --policy.source --data.path",
        ("plan", "paper"): " --trainer.devices",
    }
    return room is not None and shown[room.end() :] == rest.get(room.groups())


def test_there_are_commands_and_none_is_overlooked():
    """A line with our program that the reader of pages took for something else would be tested by nobody."""
    found = {words[0] for words in SHOWN}
    assert found >= {"fit", "evaluate", "build", "plan", "export"}
    for page in PAGES:
        blocks = "\n".join(pages.blocks(page))
        lines = [line for line in LINES if line.page == pages.name(page)]
        shown = set(re.findall(r"-m (?:lit_longpo|benchmarks\.\w+)(?: \w+)?", blocks))
        assert shown <= {part for line in lines for part in re.findall(r"-m \S+(?: \w+)?", shlex.join(line.words))}


@pytest.mark.parametrize("words", called(SHOWN))
def test_the_command_line_takes_what_pages_show(words, here, monkeypatch):
    assert not shown_folder.missing(words, here)
    if not parsed_elsewhere(words):
        understood(words, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("words", called(MEASURED | BESIDES))
def test_the_command_line_takes_what_results_recipes_and_help_show(words, here, monkeypatch):
    words = with_shipped(words)
    assert not set(shown_folder.missing(words, here)) - {word for word in words if word.endswith(".ckpt")}
    understood(words, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=pages.name)
def test_options_that_the_text_names_are_known(page, here, monkeypatch):
    """By one command at least."""
    for text in options(page):
        words = with_shipped(shlex.split(text))
        if len(words) > 1 and "SECTION" not in text and "section" not in text:
            assert any(takes(start, words, monkeypatch) for start in STARTS), text


STARTS = (
    ("fit", "--config", "solopo"),
    ("fit", "--config", "real/solopo"),
    ("fit", "--config", "longpo"),
    ("fit", "--config", "dpo", "--data", "data/pairs"),
    ("fit", "--config", "dpo", "--model", "objective/ipo"),
    ("build", "--config", "solopo"),
    ("plan", "--config", "solopo"),
    ("evaluate", "--config", "qa", "--benchmark.path", "questions.jsonl"),
    ("evaluate", "--config", "longbench", "--model", "FOLDER"),
    ("evaluate", "--config", "papers/logo", "--model", "FOLDER"),
    ("evaluate", "--config", "short_context", "--model", "FOLDER"),
    ("ask", "--model", "FOLDER", "--document", "report.txt", "--question", "Who?"),
    ("perplexity", "--config", "perplexity", "--model", "FOLDER", "--path", "books"),
    ("results", "run", "smollm2"),
)


def takes(start, words, monkeypatch):
    """Whether a command has these options; values in capitals are the reader's."""
    try:
        understood((*start, *words), monkeypatch)
    except SystemExit as end:
        return end.code in (0, None)  # of help
    return True


def test_an_option_that_is_not_there_is_found(here, monkeypatch, capsys):
    """The checks above fail where they should."""
    wrong = ("fit", "--config", "configs/solopo.yaml", "--model.alpa", "1")
    assert not takes(wrong, (), monkeypatch)
    assert "alpha" in capsys.readouterr().err
    assert shown_folder.missing(("fit", "--config", "configs/solop.yaml", "--output", "new.json"), here) == [
        "configs/solop.yaml"
    ]
    [line] = lines_of("python -m lit_longpo fit \\\n    --config {a}.yaml  # two minutes\n", "here")
    assert line == Line("here", ("python", "-m", "lit_longpo", "fit", "--config", "{a}.yaml"))
    [first, second] = lines_of('F="--x 1"\npip install -e . && lit_longpo build $F\n', "here")
    assert (first.ours, second.ours) == (None, ("build", "--x", "1"))


@pytest.mark.parametrize("line", [line for line in LINES if line.launcher], ids=str)
def test_torchrun_takes_what_pages_show(line):
    parsed = get_args_parser().parse_args([*line.launcher, *line.ours])
    assert isinstance(parsed.nproc_per_node, str)
    assert (parsed.module, parsed.training_script) == (True, "lit_longpo")


@pytest.mark.parametrize("line", [line for line in LINES if line.words[0] == "make"], ids=str)
def test_make_knows_its_targets(line):
    done = subprocess.run([*line.words[:1], "-n", *line.words[1:]], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("line", [line for line in LINES if line.words[0] == "pip"], ids=str)
def test_extras_that_pages_install_are_ours(line):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = re.findall(r"\[([\w,-]+)\]", shlex.join(line.words))
    assert {name for part in named for name in part.split(",")} <= extras.keys()


def test_modules_that_pages_start_are_there():
    modules = {word for page in PAGES for word in re.findall(r"-m (benchmarks\.\w+)", page.read_text())}
    assert modules
    assert all(importlib.util.find_spec(name) for name in modules)


@pytest.mark.parametrize("page", PAGES, ids=pages.name)
def test_python_on_pages_is_run_by_a_test(page):
    """In tests/docs, by the page's name."""
    if count := len(pages.snippets(page)):
        test = ROOT / "tests" / pages.name(page).replace(page.name, f"test_{page.stem}.py")
        assert test.read_text().count("pages.snippet(") >= count


def test_values_are_those_of_the_real_parser(monkeypatch, here):
    values = understood(("fit", "--config", "configs/solopo.yaml", "--model.base", "DPO"), monkeypatch)
    assert isinstance(values, Namespace)
    assert values["fit"].model.init_args.base.class_path.endswith("DPO")
