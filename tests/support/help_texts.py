"""The help of every command as its parser prints it; run as a script, it writes the texts that are shown."""

import os
from contextlib import redirect_stdout, suppress
from io import StringIO
from unittest.mock import patch

from lit_longpo.__main__ import COMMANDS
from lit_longpo.help.stored import FOLDER, header

WIDTH = "100"


def rendered(command: str) -> str:
    """What the parser prints."""
    printed = StringIO()
    with patch.dict(os.environ, {"COLUMNS": WIDTH}), redirect_stdout(printed), suppress(SystemExit):
        COMMANDS[command](["--help"])
    return printed.getvalue()


if __name__ == "__main__":
    for command in COMMANDS:
        (FOLDER / f"{command}.txt").write_text(f"{header()}\n{rendered(command)}", encoding="utf-8")
