"""The help that is shown at once is what the parsers say."""

import re
import shlex
import subprocess
import sys
from textwrap import dedent

import pytest
from support.command_line import CONFIGS
from support.help_texts import rendered

from lit_longpo import __main__ as command
from lit_longpo.help import stored
from lit_longpo.help.examples import EXAMPLES
from lit_longpo.help.stored import stored_help

HEAVY = {"torch", "transformers", "lightning", "jsonargparse", "numpy"}


def with_sorted_types(text):
    """`float | int` is one type in any order; which one is shown depends on who has written it first in a process."""
    return re.sub(r"Union\[([^\[\]]*)\]", lambda found: " | ".join(sorted(re.split(r",\s*", found[1]))), text)


@pytest.mark.parametrize("name", command.COMMANDS)
def test_it_is_what_the_parser_prints(name):
    assert with_sorted_types(stored_help(name)) == with_sorted_types(rendered(name)), "type: make help"


def printed_by(*words):
    script = f"import sys; from lit_longpo import __main__ as m; m.main({list(words)}); print('MODULES', *sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    text, _, modules = done.stdout.rpartition("MODULES")
    return text, set(modules.split())


def test_no_library_is_imported_for_it():
    text, modules = printed_by("fit", "--help")
    assert text == stored_help("fit")
    assert not modules & HEAVY


@pytest.mark.parametrize("name", command.COMMANDS)
def test_every_command_shows_examples_last(name, capsys):
    command.main([name, "-h"])
    shown = capsys.readouterr().out.partition("\nexamples:\n")[2]
    assert 2 <= shown.count(f"python -m lit_longpo {name} ") <= 3


@pytest.mark.parametrize("name", ["ask", "build", "evaluate", "fit", "plan", "validate"])
def test_its_examples_are_understood(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.yaml").write_text((CONFIGS / "dpo.yaml").read_text())
    (tmp_path / "my_file.py").write_text("from evaluation.benchmarks.longbench import LongBench as MyBenchmark\n")
    examples = dedent(EXAMPLES[name]).strip().replace("\\\n", "").splitlines()
    for words in [shlex.split(line)[4:] for line in examples if line.startswith("python") and "--compare" not in line]:
        with pytest.raises(SystemExit, match=r"^(None|0)$"):
            command.main([name, *words, "--print_config"])
    assert capsys.readouterr().out.count("policy:") >= 2


@pytest.mark.parametrize(
    "words", [["fit", "--model", "SoLoPO", "--help"], ["fit", "--help", "--config", "solopo"], ["nope", "--help"]]
)
def test_other_help_takes_the_long_way(words, monkeypatch):
    seen = []
    monkeypatch.setitem(command.COMMANDS, "fit", seen.extend)
    if words[0] == "fit":
        command.main(words)
        assert seen == words[1:]
    else:
        with pytest.raises(SystemExit, match="2"):
            command.main(words)


def test_another_release_of_lightning_may_have_other_options(monkeypatch):
    monkeypatch.setattr(stored, "version", lambda package: "2.7.0")
    assert stored_help("fit") is None


def test_help_of_a_class_has_no_examples(capsys):
    with pytest.raises(SystemExit):
        command.main(["fit", "--model.help", "SoLoPO"])
    assert "examples:" not in capsys.readouterr().out
