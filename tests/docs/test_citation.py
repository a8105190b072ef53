"""CITATION.cff is about the software of pyproject.toml and names the papers of our three objectives."""

import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_it_is_this_project():
    assert CITATION["cff-version"] == "1.2.0"
    assert CITATION["message"]
    assert CITATION["title"] == PROJECT["name"]
    assert CITATION["version"] == PROJECT["version"]
    assert CITATION["license"] == PROJECT["license"]
    assert CITATION["authors"] == [{"name": "lit_longpo contributors"}]


def test_it_names_the_papers_as_their_files_do():
    references = {paper["title"].partition(":")[0]: paper for paper in CITATION["references"]}
    assert references.keys() == {"LongPO", "SoLoPO", "LOGO"}
    for name, paper in references.items():
        number, text = paper["url"].rpartition("/")[2], (ROOT / f"lit_longpo/objectives/{name.lower()}.py").read_text()
        assert f"arXiv {number}" in text
        assert f"{paper['authors'][0]['family-names']} et al." in text
        assert " ".join(paper["title"].split()) in " ".join(text.split())
