"""Every command of pages, recipes' heads and --help runs through the real command line, or a list says why not."""

import ast
import shlex
import shutil
from pathlib import Path

import pytest
from support import shown_folder
from support.page_commands import page_lines
from support.page_runs import NOT_RUN, all_lines, not_run, run_lines, words_here
from support.pages import ROOT

from lit_longpo import __main__ as command

LINES = run_lines()
PROGRAMS = {line.ours for line in LINES}


def test_what_is_not_run_has_a_reason_and_something_in_its_place():
    """And everything else is a command of ours, which a test below runs."""
    assert None not in PROGRAMS, [str(line) for line in LINES if line.ours is None]
    used = {not_run(line) for line in all_lines()}
    assert not [entry.part for entry in NOT_RUN if entry not in used]
    assert len(LINES) > 80
    for entry in NOT_RUN:
        file, _, function = entry.instead.partition("::")
        if function:
            tree = ast.parse((ROOT / file).read_text())
            assert function in {item.name for item in tree.body if isinstance(item, ast.FunctionDef)}, entry.instead
        else:
            assert tuple(shlex.split(entry.instead)) in PROGRAMS


def line_with(page, *parts):
    """The words of the one line that holds these."""
    [words] = {line.ours for line in page_lines() if line.page == page and line.ours and set(parts) <= set(line.ours)}
    return list(words)


LAPTOP = ["--trainer.accelerator", "cpu", "--policy.dtype", "float32", "--trainer.max_steps", "1"]
SHORT = ["--trainer.accumulate_grad_batches", "1", "--trainer.limit_val_batches", "1"]
FEW = ["--data.num_train", "24", "--data.num_val", "4"]
SAVED = ["--trainer.callbacks", "[{class_path: ModelCheckpoint, init_args: {save_last: true}}, SavePretrained]"]
MADE = ("solopo", "longpo", "logo")  # pairs that the embedded model builds, and reads again


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With a run of the README's command, then one of the embedded model, and with pairs that it has built."""
    made = shown_folder.make(tmp_path_factory.mktemp("shown"))
    shutil.rmtree(made / "runs/lightning_logs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made)
        command.main([*line_with("README.md", "fit", "--data.path", "my_pairs.jsonl"), *LAPTOP, *SHORT, *SAVED])
        command.main(["fit", "--config", "dpo", *FEW, *LAPTOP, *SHORT, *SAVED])
        for name in MADE:
            shutil.rmtree(f"runs/build/{name}")
            command.main(["build", "--config", f"configs/build/{name}.yaml", "--limit", "32"])
    return made


@pytest.mark.slow
@pytest.mark.usefixtures("blank_pictures")
@pytest.mark.parametrize("line", LINES, ids=str)
def test_it_runs(line, folder, tmp_path, capsys, monkeypatch):
    """On a tiny model, with files in the layouts that the pages name, and as few steps as there can be."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)  # capitals.py
    output = tmp_path / "output"
    words = words_here(line, str(output))
    if "--print_config" in words:
        with pytest.raises(SystemExit, check=lambda end: end.code in (0, None)):
            command.main(words)
    else:
        command.main(words)
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    assert said.out or any(output.rglob("*"))
    if "--output" in words and "--dry_run" not in words:
        assert any(output.rglob("*.safetensors" if words[0] == "export" else "*.*"))


@pytest.mark.slow
def test_from_a_clone_to_a_scored_exported_model(tmp_path_factory, monkeypatch):
    """The README's command on a tiny model, then what the pages do with what it leaves, under the names they use."""
    monkeypatch.chdir(shown_folder.make(tmp_path_factory.mktemp("journey")))
    for name in ("runs/lightning_logs", "FOLDER"):  # made by the commands themselves
        shutil.rmtree(name)
    command.main([*line_with("README.md", "fit", "--data.path", "my_pairs.jsonl"), *LAPTOP, *SHORT])
    command.main(
        [*line_with("docs/evaluation.md", "questions.jsonl"), "--limit", "2", "--benchmark.max_new_tokens", "3"]
    )
    assert Path("runs/eval/qa/qa-step0.json").is_file()
    command.main(line_with("docs/scaling.md", "export"))
    assert Path("FOLDER/adapter_config.json").is_file()
