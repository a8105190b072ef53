"""The project's own command line, up to where a test wants it."""

from pathlib import Path

import pytest

from lit_longpo import __main__ as command
from lit_longpo.cli import LongPOCLI

command.register_classes()

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
COMMANDS = command.COMMANDS


def parse(*arguments):
    """The command line's configuration, nothing instantiated."""
    captured = {}

    class Stop(Exception):
        pass

    class Parsed(LongPOCLI):
        def before_instantiate_classes(self):
            captured["config"] = self.config
            raise Stop

    with pytest.raises(Stop):
        Parsed(args=[str(argument) for argument in arguments], run=False)
    return captured["config"]


def build(*arguments):
    return LongPOCLI(args=[str(argument) for argument in arguments], run=False)
