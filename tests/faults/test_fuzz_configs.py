"""Configurations with one thing wrong: `fit` ends in one line before a model is loaded, or takes what is there."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml
from hypothesis import strategies as st
from support.command_line import CONFIGS
from support.mutations import MARK, changed, damaged, fuzz, leaves, limited
from support.preference_formats import ASK, DOC

from lit_longpo.__main__ import main
from lit_longpo.cli import LongPOCLI

few_and_many = pytest.mark.parametrize("examples", [2, pytest.param(1000, marks=pytest.mark.slow)])
PAIR = {"question": ASK, "long_context": DOC, "short_context": DOC, "chosen": "nine", "rejected": ["two"]}


def whole(recipe: str, folder: Path) -> dict[str, Any]:
    """A recipe with its fragments in one tree, on a few small pairs."""
    tree = yaml.safe_load((CONFIGS / f"{recipe}.yaml").read_text())
    tree = {
        name: yaml.safe_load((CONFIGS / value).read_text()) if str(value).endswith(".yaml") else value
        for name, value in tree.items()
    }
    (folder / "pairs.jsonl").write_text("".join(json.dumps(PAIR) + "\n" for _ in range(4)))
    pairs = yaml.safe_load((CONFIGS / "data/pairs.yaml").read_text())
    pairs["init_args"] |= {"path": str(folder / "pairs.jsonl"), "val_fraction": 0.0}
    trainer = tree["trainer"] | {"callbacks": tree["trainer"]["callbacks"][:4], "default_root_dir": str(folder)}
    return tree | {"data": pairs, "trainer": trainer}


def started(*words: str) -> tuple[Any, str]:
    """The configuration that `fit` would train with after its pairs are read, or `None`; and what it says."""
    taken = list[LongPOCLI]()

    def read_pairs(self: LongPOCLI, *_: Any) -> None:
        self.datamodule.prepare_data()
        self.datamodule.setup("fit")
        taken.append(self)

    said = io.StringIO()
    with (
        mock.patch.object(LongPOCLI, "_run_subcommand", read_pairs),
        contextlib.redirect_stderr(said),
        contextlib.redirect_stdout(io.StringIO()),
        limited(),
    ):
        try:
            main(["fit", *words])
        except SystemExit as stopped:
            said.write(f"{stopped.code}\n" if isinstance(stopped.code, str) else "")
    lines = [line for line in said.getvalue().splitlines() if line.startswith("error: ")]
    assert taken or len(lines) == 1, said.getvalue()
    return (taken[0].config.fit.as_dict() if taken else None), "".join(lines)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings name folders that are made."""
    monkeypatch.chdir(tmp_path)


@few_and_many
def test_values_are_taken_or_refused(examples: int, tmp_path: Path) -> None:
    trees = [whole(name, tmp_path) for name in ("solopo", "dpo", "logo", "longpo")]
    path = tmp_path / "config.yaml"

    def check(data: st.DataObject) -> None:
        tree = changed(data.draw, data.draw(st.sampled_from(trees)))
        path.write_text(yaml.safe_dump(tree, allow_unicode=True))
        config, _ = started("--config", str(path))
        if config is not None:
            text = " ".join(map(str, leaves(json.loads(json.dumps(config, default=repr)))))
            for word in leaves(tree):
                assert MARK not in word or word.strip() in text, f"{word!r} is lost"

    fuzz(check, examples)


@few_and_many
def test_damaged_files_are_taken_or_refused(examples: int, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    raw = yaml.safe_dump(whole("solopo", tmp_path), sort_keys=False).encode()

    def check(data: st.DataObject) -> None:
        path.write_bytes(damaged(data.draw, raw))
        config, _ = started("--config", str(path))
        if config is not None:
            assert isinstance(yaml.safe_load(path.read_bytes()), dict)

    fuzz(check, examples)
