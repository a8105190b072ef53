from pathlib import Path

import pytest
from huggingface_hub import constants

from lit_longpo.policy.stored_files import stored_file


def test_a_folder_has_the_file_or_not(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert stored_file(str(tmp_path), "config.json") == tmp_path / "config.json"
    assert stored_file(str(tmp_path), "tokenizer.json") is None


@pytest.mark.parametrize(("revision", "commit"), [(None, "a" * 40), ("v1", "b" * 40)])
def test_the_cache_of_the_hub_is_asked_for_the_revision(revision, commit, tmp_path, monkeypatch):
    """The layout that huggingface_hub documents: refs name commits, snapshots hold their files."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    kept = tmp_path / "models--owner--model"
    for ref, of in (("main", "a" * 40), ("v1", "b" * 40)):
        _write(kept / "refs" / ref, of)
        _write(kept / "snapshots" / of / "config.json", "{}")
    assert stored_file("owner/model", "config.json", revision) == kept / "snapshots" / commit / "config.json"


@pytest.mark.parametrize("source", ["owner/other", "no name/of: the hub", "a/b/c"])
def test_what_nobody_has_downloaded_is_none(source, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert stored_file(source, "config.json") is None


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
