"""`python -m lit_longpo COMMAND`: one dict from command to function.

The only file that imports the sibling packages: it makes short class names work in YAML.
"""

import logging
import os
import sys
from collections.abc import Callable

import data_modules
import evaluation
from data_modules.builders.command import build
from lit_longpo import callbacks
from lit_longpo.cli import LongPOCLI
from lit_longpo.errors import message_for_user
from lit_longpo.export.command import export

__all__ = ["callbacks", "data_modules", "evaluation"]


def _lightning() -> None:
    LongPOCLI()


COMMANDS: dict[str, Callable[[], None]] = {
    "fit": _lightning,
    "validate": _lightning,
    "test": _lightning,
    "build": build,
    "export": export,
}


def main() -> None:
    """Run the command named by the first argument.

    An error written for the user ends it with status 1 and that message alone; LIT_LONGPO_TRACEBACK=1
    shows where it was raised. Everything else keeps its traceback.
    """
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    main_process = os.environ.get("LOCAL_RANK", "0") == "0"  # set by every launcher
    for package in ("lit_longpo", "data_modules", "evaluation"):
        logging.getLogger(package).setLevel(logging.INFO if main_process else logging.WARNING)
    command = COMMANDS.get(next((word for word in sys.argv[1:] if not word.startswith("-")), "fit"), _lightning)
    try:
        command()
    except Exception as error:
        message = message_for_user(error)
        if message is None or os.environ.get("LIT_LONGPO_TRACEBACK"):
            raise
        sys.exit(f"error: {message}")


if __name__ == "__main__":
    main()
