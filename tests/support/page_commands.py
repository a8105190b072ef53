"""The command lines that pages and recipes show, as a shell would read them."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from support import pages
from support.pages import PAGES, ROOT

from lit_longpo.help.examples import EXAMPLES

OURS = ("python -m lit_longpo", "lit_longpo")
_LAUNCHERS = ("torchrun", "srun")
_PROGRAMS = ("make", "pip", "python", "lit_longpo", "tensorboard", *_LAUNCHERS)
_SET = re.compile(r'^([A-Z]+)=("[^"]*"|\S+)$')
_BRACES = re.compile(r"\{([\w.,-]+,[\w.,-]+)\}")


@dataclass(frozen=True)
class Line:
    """One command of one page.

    Args:
        page: where it stands.
        words: as the shell hands them on.
    """

    page: str
    words: tuple[str, ...]

    @property
    def ours(self) -> tuple[str, ...] | None:
        """Command and arguments for `lit_longpo`; `None` for another program."""
        text = shlex.join(self.words)
        if found := re.search(r"(?:^|-m )lit_longpo(?: |$)", text):
            return tuple(shlex.split(text[found.end() :]))
        return None

    @property
    def launcher(self) -> tuple[str, ...]:
        """Arguments of torchrun in front of the module; nothing without it."""
        return self.words[1 : self.words.index("lit_longpo") + 1] if self.words[0] == "torchrun" else ()

    def __str__(self) -> str:
        return f"{self.page}: {shlex.join(self.words)}"


def lines_of(text: str, page: str) -> Iterator[Line]:
    """The commands of one block; what is no program of ours or of Python's is none."""
    known = dict[str, str]()
    joined = re.sub(r"\\\n\s*", "", re.sub(r"#\s*or: ", "&& ", text))
    for line in joined.splitlines():
        if found := _SET.match(line.strip()):
            known[found[1]] = found[2].strip('"')
            continue
        filled = re.sub(r"\$([A-Z]+)", lambda name: known.get(name[1], name[0]), line)
        for part in filled.split(" && "):
            for spread in _expanded(part):
                words = [*_words(spread)]
                if words and words[0] in _PROGRAMS:
                    yield Line(page, tuple(words))


def _expanded(text: str) -> Iterator[str]:
    """Alternatives in braces as one line each, as bash does; braces of YAML have spaces or quotes."""
    parts = re.split(r"(?<!')" + _BRACES.pattern, text)
    for chosen in product(*(part.split(",") if number % 2 else [part] for number, part in enumerate(parts))):
        yield "".join(chosen)


def _words(text: str) -> Iterator[str]:
    """Without settings of the environment in front."""
    try:
        words = shlex.split(text, comments=True)
    except ValueError:  # prose
        return
    start = next((number for number, word in enumerate(words) if "=" not in word), len(words))
    yield from words[start:]


def page_lines() -> list[Line]:
    """Of all pages."""
    found = (line for page in PAGES for block in pages.blocks(page) for line in lines_of(block, pages.name(page)))
    return list(dict.fromkeys(found))


def inline_lines() -> list[Line]:
    """Of the running text of all pages: code between backticks that is a whole command."""
    found = ((page, text) for page in PAGES for text in re.findall(r"`([^`\n]+)`", pages.prose(page)))
    lines = (line for page, text in found if "..." not in text for line in lines_of(text, pages.name(page)))
    return [line for line in dict.fromkeys(lines) if len(line.words if line.ours is None else line.ours) > 1]


def table_lines(page: str, *recipe: str) -> Iterator[Line]:
    """Options that the tables of a page show with their values, behind `fit`: values in capitals are the reader's.

    Args:
        page: by its name.
        recipe: what stands before them.
    """
    for row in re.findall(r"^\|.*\|$", pages.text(page), re.M):
        for text in re.findall(r"`(--[^`]+ [^`]+)`", row):
            words = shlex.split(text)
            if not any(word.isupper() and len(word) > 3 for word in words):
                yield Line(page, ("lit_longpo", "fit", *recipe, *words))


def head(path: Path) -> str:
    """The comment that a YAML opens with."""
    lines = []
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").removeprefix(" "))
    return "\n".join(lines) + "\n"


def recipe_lines() -> list[Line]:
    """Of the heads of all configurations."""
    found = sorted((ROOT / "configs").rglob("*.yaml"))
    heads = (re.findall(r"(?:^  .*\n)+", head(path), re.M) for path in found)
    return [
        line
        for path, parts in zip(found, heads, strict=True)
        for part in parts
        for line in lines_of(re.sub(r"^  ", "", part, flags=re.M), pages.name(path))
    ]


def help_lines() -> list[Line]:
    """Of the examples that --help shows."""
    return [
        line for name, text in EXAMPLES.items() for line in lines_of(text.replace("\n      ", "\n"), f"{name} --help")
    ]


def options(page: Path) -> list[str]:
    """Options that the running text names: code between backticks that starts with two dashes."""
    return [text for text in re.findall(r"`(--[^`\n]+)`", pages.prose(page)) if "..." not in text]
