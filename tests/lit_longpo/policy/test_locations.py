"""Whether a model is where the source says is known before any library looks for it."""

import os
import shutil
import time
from pathlib import Path

import pytest
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError

from lit_longpo.errors import MissingFileError, UserError
from lit_longpo.policy import PolicyConfig, locations
from lit_longpo.policy.locations import check_hub_name, locate, stored_file


@pytest.fixture(autouse=True)
def _fresh(tmp_path, monkeypatch):
    check_hub_name.cache_clear()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(locations.constants, "HF_HUB_OFFLINE", False)


def hub_says(monkeypatch, error):
    def ask(address, timeout):
        if error is not None:
            raise error

    monkeypatch.setattr(locations, "get_hf_file_metadata", ask)


def of_the_hub(kind):
    error = kind.__new__(kind)
    Exception.__init__(error, "told by the hub")
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError("Name or service not known"), "cannot be reached .Name or service not known"),
        (of_the_hub(RepositoryNotFoundError), "has none of that name .*hf auth login"),
    ],
)
def test_a_name_that_is_nowhere_is_said_at_once(error, expected, monkeypatch, tmp_path):
    hub_says(monkeypatch, error)
    start = time.monotonic()
    with pytest.raises(MissingFileError, match=f"no folder {tmp_path}/owner/model, and the hub {expected}"):
        PolicyConfig(source="owner/model").prompt_format()
    assert time.monotonic() - start < 20  # the hub was tried again for 47


def test_a_file_is_called_one(tmp_path):
    """There was "no folder" of that name, and the hub was asked for it."""
    (tmp_path / "model.bin").write_text("x")
    with pytest.raises(MissingFileError, match=r"got the file .*model\.bin; set `policy.source` to the folder of"):
        PolicyConfig(source=str(tmp_path / "model.bin")).prompt_format()


@pytest.mark.parametrize("error", [None, of_the_hub(EntryNotFoundError)])
def test_a_name_that_the_hub_knows_is_good(error, monkeypatch):
    hub_says(monkeypatch, error)
    check_hub_name("owner/model")


def test_what_was_downloaded_needs_no_hub(monkeypatch, tmp_path):
    hub_says(monkeypatch, OSError("no network"))
    monkeypatch.setattr(locations, "stored_file", lambda name, file, revision: tmp_path / file)
    check_hub_name("owner/model")


def test_offline_nobody_is_asked(monkeypatch):
    hub_says(monkeypatch, AssertionError("asked"))
    monkeypatch.setattr(locations.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(MissingFileError, match="HF_HUB_OFFLINE keeps the hub from being asked"):
        check_hub_name("owner/model")


@pytest.mark.parametrize("source", ["models/qwn", "./models/qwn"])
def test_a_misspelt_folder_gets_a_suggestion(source, policy_folder, monkeypatch, tmp_path):
    hub_says(monkeypatch, of_the_hub(RepositoryNotFoundError))
    shutil.copytree(policy_folder, tmp_path / "models" / "qwen")
    with pytest.raises(MissingFileError, match=r"did you mean models/qwen\?"):
        PolicyConfig(source=source).prompt_format()


@pytest.mark.parametrize(
    ("file", "hint"),
    [
        ("notes.txt", "set `policy.source` to the folder that holds them"),
        ("weights.gguf", "type --policy.gguf_file weights.gguf"),
        ("last.ckpt", "checkpoints become a model by: python -m lit_longpo export"),
        ("inner/config.json", "type --policy.source .*/inner"),
        ("snapshots/0f3a/config.json", "type --policy.source .*/snapshots/0f3a"),
    ],
)
def test_a_folder_without_a_model_says_what_may_have_been_meant(file, hint, tmp_path):
    path = tmp_path / "folder" / file
    path.parent.mkdir(parents=True)
    path.touch()
    with pytest.raises(MissingFileError, match=rf"config\.json .*folder, found none; {hint}"):
        PolicyConfig(source=str(tmp_path / "folder")).prompt_format()


@pytest.mark.parametrize("file", ["config.json", "adapter_config.json"])
def test_the_newest_checkpoint_of_a_trainer_is_named(file, tmp_path):
    """Folders of TRL's trainers: by name, checkpoint-500 comes before checkpoint-60, and 100 before 200."""
    for age, steps in enumerate((60, 500, 1000)):
        path = tmp_path / f"checkpoint-{steps}" / file
        path.parent.mkdir()
        path.touch()
        os.utime(path, (age, age))
    with pytest.raises(UserError, match=r"--policy\.source .*/checkpoint-1000"):
        PolicyConfig(source=str(tmp_path)).prompt_format()
    os.utime(tmp_path / "checkpoint-500" / file, (9, 9))
    with pytest.raises(UserError, match=r"--policy\.source .*/checkpoint-500"):
        PolicyConfig(source=str(tmp_path)).prompt_format()


def test_a_folder_without_the_gguf_that_a_fragment_names_says_how_to_go_without(policy_folder):
    policy = PolicyConfig(source=str(policy_folder), gguf_file="SmolLM2-135M-Instruct.Q4_1.gguf")
    with pytest.raises(MissingFileError, match=r"type --policy\.gguf_file null, as its weights are no gguf"):
        policy.prompt_format()


def test_another_gguf_beside_a_configuration_is_named(tmp_path):
    """As folders of the hub have them: config.json, and weights in several precisions."""
    for name in ("config.json", "model.Q8_0.gguf"):
        (tmp_path / name).touch()
    policy = PolicyConfig(source=str(tmp_path), gguf_file="model.Q4_1.gguf")
    with pytest.raises(MissingFileError, match=r"found none; type --policy\.gguf_file model\.Q8_0\.gguf"):
        policy.prompt_format()


def test_a_root_folder_of_runs_names_the_newest(tmp_path):
    for age, name in enumerate(("long/version_1", "lightning_logs/version_0", "long/version_0")):
        config = tmp_path / name / "model" / "config.json"
        config.parent.mkdir(parents=True)
        config.touch()
        os.utime(config, (1000 - age, 1000 - age))
    for root in (tmp_path, tmp_path / "long"):
        with pytest.raises(MissingFileError, match=f"type --policy.source {tmp_path}/long/version_1/model, the newest"):
            locate(str(root))


def test_a_folder_has_the_file_or_not(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert stored_file(str(tmp_path), "config.json") == tmp_path / "config.json"
    assert stored_file(str(tmp_path), "tokenizer.json") is None


@pytest.mark.parametrize(("revision", "commit"), [(None, "a" * 40), ("v1", "b" * 40)])
def test_the_cache_of_the_hub_is_asked_for_the_revision(revision, commit, tmp_path, monkeypatch):
    """The layout that huggingface_hub documents: refs name commits, snapshots hold their files."""
    monkeypatch.setattr(locations.constants, "HF_HUB_CACHE", str(tmp_path))
    kept = tmp_path / "models--owner--model"
    for ref, of in (("main", "a" * 40), ("v1", "b" * 40)):
        _write(kept / "refs" / ref, of)
        _write(kept / "snapshots" / of / "config.json", "{}")
    assert stored_file("owner/model", "config.json", revision) == kept / "snapshots" / commit / "config.json"


@pytest.mark.parametrize("source", ["owner/other", "no name/of: the hub", "a/b/c"])
def test_what_nobody_has_downloaded_is_none(source, tmp_path, monkeypatch):
    monkeypatch.setattr(locations.constants, "HF_HUB_CACHE", str(tmp_path))
    assert stored_file(source, "config.json") is None


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
