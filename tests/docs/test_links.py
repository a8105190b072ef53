"""What the pages name exists: files, links between pages, headings, folders of the tree."""

from pathlib import Path

import pytest
from support import pages
from support.pages import PACKAGES, PAGES, ROOT

CHANGELOG = ROOT / "CHANGELOG.md"  # names what was once there, too


def test_there_are_pages():
    named = {pages.name(page) for page in PAGES}
    assert {"README.md", "AGENTS.md", "docs/start.md", "docs/papers/solopo.md", "configs/README.md"} <= named
    assert len(pages.links(ROOT / "README.md")) > 10


@pytest.mark.parametrize("page", [page for page in PAGES if page != CHANGELOG], ids=pages.name)
def test_files_it_names_exist(page):
    assert not [path for path in pages.files(page) if not (ROOT / path).exists()]


@pytest.mark.parametrize("page", PAGES, ids=pages.name)
def test_links_lead_somewhere(page):
    for link in pages.links(page):
        if link.startswith("https://"):
            continue
        target, _, heading = link.partition("#")
        found = (page.parent / target).resolve() if target else page
        assert found.exists(), link
        assert not heading or heading in pages.anchors(found), link


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=pages.name)
def test_every_page_is_reached_from_the_readme(page):
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        here = waiting.pop()
        reached.add(here)
        near = {(here.parent / link.partition("#")[0]).resolve() for link in pages.links(here) if "://" not in link}
        waiting += [found for found in near - reached if found.suffix == ".md" and found.is_file()]
    assert page in reached


def tree():
    """Every path of the annotated tree: an indented name, below the last name that is indented less."""
    lines = pages.text("docs/tree.md").partition("\n    ")[2].splitlines()
    parents = list[tuple[int, Path]]()
    for line in filter(str.strip, ["    " + lines[0], *lines[1:]]):
        name, indent = line.split()[0], len(line) - len(line.lstrip())
        parents = [(depth, path) for depth, path in parents if depth < indent]
        parents.append((indent, (parents[-1][1] if parents else Path()) / name))
        yield parents[-1][1]


def test_the_tree_names_what_is_there_and_every_folder_of_the_packages():
    named = set(tree())
    assert not [path for path in named if not (ROOT / path).exists()]
    folders = {path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*/")}
    assert len(folders) > 20
    assert not {path for path in folders if path.name != "__pycache__"} - named
