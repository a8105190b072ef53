"""How the help of a command looks: a short usage, every option with short class names, examples last."""

import re
import sys
from argparse import Action
from textwrap import dedent, indent

from jsonargparse import DefaultHelpFormatter

from lit_longpo.help.examples import EXAMPLES

USAGE = "%(prog)s [--config NAME_OR_FILE ...] [--SECTION NAME_OR_FILE] [--SECTION.KEY VALUE] ..."
_SUBCLASSES = re.compile(r"known subclasses: ([\w., ]+)")
_NONE = re.compile("`+(?:None|null)`+")  # of docstrings; who reads a help types what YAML calls it
_DEMOS = "lightning.pytorch.demos."
# What is always there; of others only what happens to be imported is known.
_ROOMS = ("data_modules.", "evaluation.", "lightning.", "lit_longpo.", "torch.")


class HelpFormatter(DefaultHelpFormatter):
    """Options as all versions of Python would write them, classes by the names that YAML takes."""

    def _format_action_invocation(self, action: Action) -> str:
        if not action.option_strings:
            return super()._format_action_invocation(action)
        value = "" if action.nargs == 0 else self._format_args(action, self._get_default_metavar_for_optional(action))
        return f"{', '.join(action.option_strings)} {value}".rstrip()

    def _expand_help(self, action: Action) -> str:
        return _NONE.sub("null", _SUBCLASSES.sub(_short_names, super()._expand_help(action)))


def examples(prog: str) -> str:
    """Examples of the command that a parser's name ends with; nothing if it has none."""
    text = dedent(EXAMPLES.get(prog.rpartition(" ")[2], "")).strip()
    return f"\nexamples:\n{indent(text, '  ')}\n" if text else ""


def _is_always_there(path: str) -> bool:
    return path.startswith(_ROOMS) and not path.startswith(_DEMOS)


def _short_names(found: re.Match[str]) -> str:
    paths = [path.rpartition(".") for path in found.group(1).split(", ") if _is_always_there(path)]
    names = {name for module, _, name in paths if hasattr(sys.modules.get(module), name)}  # not made in passing
    return f"classes: {', '.join(sorted(names))}"
