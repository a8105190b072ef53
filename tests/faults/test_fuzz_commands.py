"""YAML of `build`, `evaluate`, `plan` and of a run for `export`, with one thing wrong: taken, or one line that says so.

Nothing is generated: a build is rehearsed, an evaluation goes on to where its model would be loaded.
"""

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml
from hypothesis import strategies as st
from support import ruler_files
from support.command_line import CONFIGS
from support.mutations import MARK, Refused, changed, damaged, fuzz, limited, outcome

from evaluation.respondent import Respondent
from lit_longpo.__main__ import main
from lit_longpo.export.run import read_run
from lit_longpo.planning import command as planning

few_and_many = pytest.mark.parametrize("examples", [2, pytest.param(1000, marks=pytest.mark.slow)])
FREE = {"extra_body", "options", "sizes", "template"}  # whose keys are the user's own


class Loaded(Exception):
    """A model would be loaded now."""


def said(*words: str) -> str | None:
    """The one line of a refusal; `None` if the command would go on to a model or was done."""
    output = io.StringIO()
    stop = mock.patch.object(Respondent, "load", side_effect=Loaded)
    traced = mock.patch.object(planning, "make_plan", side_effect=Loaded)
    with stop, traced, contextlib.redirect_stderr(output), contextlib.redirect_stdout(io.StringIO()), limited():
        try:
            main(list(words))
        except Loaded:
            return None
        except SystemExit as stopped:
            output.write(f"{stopped.code}\n" if isinstance(stopped.code, str) else "")
        else:
            return None
    lines = [line for line in output.getvalue().splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, output.getvalue()
    assert len(lines[0]) < 3000
    return lines[0]


def strange_keys(tree: Any) -> list[str]:
    """Keys that a change has brought in, where the user's own may not be."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    own = [key for key, _ in items if isinstance(key, str) and MARK in key]
    return own + [key for name, value in items if name not in FREE for key in strange_keys(value)]


def small_build(folder: Path) -> list[dict[str, Any]]:
    """SoLoPO's, LongPO's and LOGO's on made-up people, a few records each."""
    trees = [yaml.safe_load((CONFIGS / f"build/{name}.yaml").read_text()) for name in ("solopo", "longpo", "logo")]
    for tree in trees:
        tree["output"], tree["policy"] = str(folder / "out"), {"source": "embedded"}
        documents = tree["source"]["class_path"] != "WorldQuestions"
        made = {"count": 2, "facts": 64} if documents else {"count": 2, "facts": 16}
        tree["source"] = {"class_path": "WorldDocuments" if documents else "WorldQuestions", "init_args": made}
    return trees


def small_evaluation(folder: Path) -> list[dict[str, Any]]:
    """Needles, own questions and RULER."""
    (folder / "questions.jsonl").write_text('{"question": "Who?", "answers": ["Ada"], "context": "Ada came."}\n')
    own = {"needle": {"lengths": [256], "depths": [0.5], "num_examples": 1}, "ruler": {"lengths": [500]}, "qa": {}}
    own["qa"] = {"path": str(folder / "questions.jsonl")}
    own["ruler"] |= {"folder": str(ruler_files.layout(folder / "ruler")), "num_examples": 1, "tasks": ["niah_single_1"]}
    trees = [yaml.safe_load((CONFIGS / f"eval/{name}.yaml").read_text()) for name in own]
    for tree, settings in zip(trees, own.values(), strict=True):
        tree["benchmark"]["init_args"] |= settings
        tree |= {"output": str(folder / "out"), "accelerator": "cpu"}
    return trees


def small_plan(folder: Path) -> list[dict[str, Any]]:
    tree = yaml.safe_load((CONFIGS / "solopo.yaml").read_text())
    for name, value in tree.items():
        if str(value).endswith(".yaml"):
            tree[name] = yaml.safe_load((CONFIGS / value).read_text())
    tree["data"]["init_args"] |= {"num_train": 4, "num_val": 2}
    return [tree | {"trainer": {"max_steps": 10, "accelerator": "cpu", "default_root_dir": str(folder)}}]


COMMANDS: dict[str, tuple[Callable[[Path], list[dict[str, Any]]], tuple[str, ...]]] = {
    "build": (small_build, ("build", "--dry_run")),
    "evaluate": (small_evaluation, ("evaluate",)),
    "plan": (small_plan, ("plan",)),
}


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings name folders that are made."""
    monkeypatch.chdir(tmp_path)


@few_and_many
@pytest.mark.parametrize("command", COMMANDS)
def test_a_configuration_is_taken_or_refused(command: str, examples: int, tmp_path: Path) -> None:
    make, words = COMMANDS[command]
    trees, path = make(tmp_path), tmp_path / "config.yaml"
    for tree in trees:
        path.write_text(yaml.safe_dump(tree))
        assert said(*words, "--config", str(path)) is None

    def check(data: st.DataObject) -> None:
        tree = data.draw(st.sampled_from(trees))
        if data.draw(st.integers(0, 3)):
            tree = changed(data.draw, tree)
            path.write_text(yaml.safe_dump(tree, allow_unicode=True))
        else:
            path.write_bytes(damaged(data.draw, yaml.safe_dump(tree, sort_keys=False).encode()))
            tree = {}
        if said(*words, "--config", str(path)) is None:
            assert not strange_keys(tree)

    fuzz(check, examples)


@few_and_many
def test_the_run_of_a_checkpoint(examples: int, tmp_path: Path) -> None:
    """`export` reads config.yaml as data."""
    path = tmp_path / "config.yaml"
    valid = {
        "policy": {"source": "embedded", "lora": {"r": 4, "target_modules": ["q_proj"]}, "template": {"user": "x"}}
    }
    valid["policy"] |= {"rope": {"theta": 1e4}, "template": {"user": "{context} {question}"}}
    path.write_text(yaml.safe_dump(valid))
    read_run(tmp_path / "last.ckpt", path)

    def check(data: st.DataObject) -> None:
        raw = yaml.safe_dump(valid).encode()
        changes = [damaged, lambda draw, _: yaml.safe_dump(changed(draw, valid)).encode()]
        path.write_bytes(data.draw(st.sampled_from(changes))(data.draw, raw))
        found = outcome(lambda: read_run(tmp_path / "last.ckpt", path))
        if isinstance(found, Refused):
            assert str(path) in found.message or "policy" in found.message
        else:
            assert found.config == yaml.safe_load(path.read_bytes())
            assert not found.policy.trust_remote_code

    fuzz(check, examples)
