"""Refuses texts that are just the name of a file, which tables sometimes hold in place of the file's text."""

import os.path
from pathlib import Path

from lit_longpo.files.strict_json import RecordError

_LONGEST = 255  # characters of a name; a context says more


def refuse_file_name(text: str, field: str, where: str) -> None:
    """Refuse the name of a file that is there, from the working folder or from the folder of the record's own file.

    Args:
        text: of a record.
        field: its name.
        where: file and line.

    Raises:
        RecordError: naming it.
    """
    if not 0 < len(text) <= _LONGEST or not text.isprintable():
        return
    # Path.is_file raises an error where a name has too many bytes, or where nobody may look.
    if any(os.path.isfile(Path(folder, text)) for folder in (".", Path(where).parent)):
        expected = "a text, not the name of a file, whose letters alone would be read: put there what the file says"
        raise RecordError.at(where, f"field {field!r}", expected, text)
