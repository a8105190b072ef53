"""The pages of the repository, and what tests read out of them: files, links, headings, code blocks."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("lit_longpo", "data_modules", "evaluation")
FOLDERS = ("configs", *PACKAGES, "tests", "docs")
PAGES = sorted([*ROOT.glob("*.md"), *(page for name in FOLDERS for page in (ROOT / name).rglob("*.md"))])

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
_INDENTED = re.compile(r"(?:^    .*\n?|^\n(?=    ))+", re.M)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_FILE = re.compile(rf"(?<![\w./-])(?:{'|'.join(FOLDERS)})/[\w./-]+\.\w+")


def name(page: Path) -> str:
    """As people call it."""
    return str(page.relative_to(ROOT))


def text(page: str) -> str:
    """What stands on a page."""
    return (ROOT / page).read_text()


def snippet(page: str, heading: str) -> str:
    """The first Python block below a heading."""
    return text(page).partition(heading)[2].partition("```python\n")[2].partition("```")[0]


def snippets(page: Path) -> list[str]:
    """All Python blocks."""
    return [code for language, code in _FENCE.findall(page.read_text()) if language == "python"]


def blocks(page: Path) -> Iterator[str]:
    """All code blocks of shell lines, indented or fenced."""
    content = page.read_text()
    yield from (code for language, code in _FENCE.findall(content) if language in ("", "bash", "sh"))
    for found in _INDENTED.finditer(_FENCE.sub("", content)):
        yield re.sub(r"^    ", "", found.group(), flags=re.M)


def prose(page: Path) -> str:
    """The page without its code blocks."""
    return _INDENTED.sub("", _FENCE.sub("", page.read_text()))


def links(page: Path) -> list[str]:
    """Targets of all links and pictures."""
    return _LINK.findall(prose(page))


def anchors(page: Path) -> set[str]:
    """What a link to a heading is called."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", page.read_text()), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def files(page: Path) -> list[str]:
    """Files of ours that it names by their path."""
    spread = re.sub(r"(\S*)\{([\w.,-]+)\}(\S*)", _each, page.read_text())
    return sorted(set(_FILE.findall(spread)))


def _each(found: re.Match[str]) -> str:
    """A path with alternatives in braces as one path for each."""
    before, names, after = found.groups()
    return " ".join(f"{before}{item}{after}" for item in names.split(","))
