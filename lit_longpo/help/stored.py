"""The help of every command as text beside this file: the parsers that know it wait ten seconds for their libraries.

`make help` writes them anew (tests/support/help_texts.py); a test holds them to what the parsers say.
"""

from importlib.metadata import version
from pathlib import Path

FOLDER = Path(__file__).parent
_MADE_WITH = "lightning"  # most options are its trainer's


def stored_help(command: str) -> str | None:
    """What the command's parser would print; `None` if nobody knows without asking it."""
    path = FOLDER / f"{command}.txt"
    if not path.is_file():
        return None
    head, _, text = path.read_text(encoding="utf-8").partition("\n")
    return text if head == header() else None


def header() -> str:
    """First line of the file, which is not shown: another release may have other options."""
    return f"{_MADE_WITH} {version(_MADE_WITH).rpartition('.')[0]}"
