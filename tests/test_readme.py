"""What the README shows must work: its Python example, its files, its options."""

import re
from pathlib import Path

import pytest
from lightning.pytorch import Trainer

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def test_the_python_example_trains(tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    assert "max_steps=20" in code
    names: dict[str, object] = {}
    exec(code.replace("max_steps=20", "max_steps=2, accelerator='cpu', enable_progress_bar=False"), names)
    assert isinstance(names["trainer"], Trainer)
    assert names["trainer"].global_step == 2


def paths():
    text = re.sub(r"\{([^}]*)\}", r"\1", README)
    found = re.findall(r"\b(?:configs|lit_longpo|data_modules|evaluation|tests)/[\w./-]+\.\w+", text)
    return sorted(set(found))


@pytest.mark.parametrize("path", paths())
def test_files_it_names_exist(path):
    assert (ROOT / path).exists()


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target
