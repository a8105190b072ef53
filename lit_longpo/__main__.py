"""`python -m lit_longpo COMMAND`: one dict from command to function.

The only file that imports the sibling packages: it makes short class names work in YAML.
"""

import logging
import os
import sys
from collections.abc import Callable, Mapping

import data_modules
import evaluation
from data_modules.builders.command import build
from evaluation.command import evaluate
from lit_longpo import callbacks
from lit_longpo.cli import LongPOCLI
from lit_longpo.errors import message_for_user
from lit_longpo.export.command import export
from lit_longpo.planning.command import plan

__all__ = ["callbacks", "data_modules", "evaluation"]


def _lightning() -> None:
    LongPOCLI()


COMMANDS: dict[str, Callable[[], None]] = {
    "fit": _lightning,
    "validate": _lightning,
    "test": _lightning,
    "build": build,
    "plan": plan,
    "evaluate": evaluate,
    "export": export,
}


def _is_first(environment: Mapping[str, str]) -> bool:
    """Whether this is the first of all processes, as torchrun, SLURM or Lightning's own launcher numbers them."""
    ranks = ("RANK", "LOCAL_RANK", "SLURM_PROCID")
    rank = next((environment[name] for name in ranks if name in environment), "0")
    return rank == "0" and environment.get("NODE_RANK", "0") == "0"


def main() -> None:
    """Run the command named by the first argument.

    An error written for the user ends it with status 1 and that message alone; LIT_LONGPO_TRACEBACK=1
    shows where it was raised. Everything else keeps its traceback.
    """
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    main_process = _is_first(os.environ)
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
