"""`python -m lit_longpo COMMAND`: one dict from command to function.

The only file that imports the sibling packages: it makes short class names work in YAML.
"""

import logging
import sys
from collections.abc import Callable

import data_modules
import evaluation
from lit_longpo import callbacks
from lit_longpo.cli import LongPOCLI

__all__ = ["callbacks", "data_modules", "evaluation"]


def _lightning() -> None:
    LongPOCLI()


COMMANDS: dict[str, Callable[[], None]] = {"fit": _lightning, "validate": _lightning, "test": _lightning}


def main() -> None:
    """Run the command named by the first argument."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    for package in ("lit_longpo", "data_modules", "evaluation"):
        logging.getLogger(package).setLevel(logging.INFO)
    COMMANDS.get(next((word for word in sys.argv[1:] if not word.startswith("-")), "fit"), _lightning)()


if __name__ == "__main__":
    main()
