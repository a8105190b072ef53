"""The parser under every command: files by their names, what is typed over what they say, and what nobody can use."""

import inspect
import logging
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, Namespace
from jsonargparse._actions import ActionConfigFile
from jsonargparse._common import parent_parser

from lit_longpo.command_line.consent import not_consented
from lit_longpo.command_line.known_names import actions_of, commands_of
from lit_longpo.command_line.precedence import (
    decimal_numbers,
    own_defaults,
    texts_as_typed,
    typed_last,
    with_negative_values,
)
from lit_longpo.command_line.recipes import fragments_found, with_files
from lit_longpo.command_line.sections import fill_unknown_sections, lost_sections, null_values, strange_switches
from lit_longpo.command_line.suggestions import with_suggestion
from lit_longpo.command_line.typed_words import command_line, typed_words
from lit_longpo.command_line.undone import undone
from lit_longpo.command_line.wording import give_settings
from lit_longpo.errors import InputError, UserError, readable
from lit_longpo.help.layout import USAGE, HelpFormatter, examples

log = logging.getLogger(__name__)


class SuggestingParser(ArgumentParser):
    """Argument parser whose errors end with what to type instead.

    Attributes:
        recipe_room: folder of `configs` where the command's own recipes lie.
        shorthands: options that the command takes for others, before it parses.
    """

    recipe_room = ""
    shorthands: tuple[str, ...] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, formatter_class=HelpFormatter, **kwargs)
        outer = parent_parser.get()
        if outer is not None and not self.exit_on_error:  # of one class's arguments: help is the command's
            self.prog = outer.prog

    def parse_args(self, args: Sequence[str] | None = None, *more: Any, **options: Any) -> Namespace:  # type: ignore[override]
        """Parse with typed values over those of files, and classes with their own defaults (`precedence`)."""
        words = sys.argv[1:] if args is None else list(args)
        typed, outermost = all(isinstance(word, str) for word in words), not typed_words()  # a command's is inside
        if typed:
            words = typed_last(self._with_files(with_negative_values(words)), commands_of(self))
        with (
            own_defaults(),
            texts_as_typed(),
            decimal_numbers(),
            fragments_found() as files,
            command_line(words, files, self),
        ):
            values = self._parsed(words, *more, **options)
            problem = next(self._problems(values), None)
            if problem is None and typed:
                problem = not_consented(values, words, commands_of(self))
            if problem:
                self.error(problem)
            command = next((name for name in commands_of(self) if name in values), "")
            if outermost:
                for message in undone(values[command] if command else values, words, files):
                    log.warning(message)
            return values

    def _parsed(self, words: Sequence[str], *more: Any, **options: Any) -> Namespace:
        try:
            return super().parse_args(words, *more, **options)
        except UnicodeDecodeError as error:  # of a file that is no text
            self.error(f"Unexpected config: {error}")
        except InputError as error:  # of one that no library should read
            self.error(str(error))

    def _problems(self, values: Namespace) -> Iterator[str]:
        """Values that jsonargparse lets pass and nobody can use."""
        for section, value in lost_sections(self, values):
            yield f"expected settings of `{section}`, got {_got(value)}; {give_settings(section)}"
        for switch, value in strange_switches(self, values):
            yield f"expected `{switch}` to be true or false, got {_got(value)}"
        for name in null_values(self, values):
            yield f"expected a value of `{name}`, got null; give it one, or take that line out"

    def add_class_arguments(self, theclass: Any, *more: Any, **options: Any) -> Any:  # type: ignore[override]
        """Of jsonargparse; a logger's folder need not be typed: an empty one is the run's (`loggers.name_loggers`)."""
        added = super().add_class_arguments(theclass, *more, **options)
        place = inspect.signature(theclass).parameters.get("save_dir")
        if theclass.__name__.endswith("Logger") and place is not None and place.default is place.empty:
            self.set_defaults({place.name: ""})
        return added

    def format_help(self, *formatter: Any) -> str:  # type: ignore[override]
        """Usage in one line, every option, examples."""
        if self.usage is None and any(isinstance(action, ActionConfigFile) for action in self._actions):
            self.usage = USAGE
        text = super().format_help(*formatter).replace(" [options]", "")
        return text + examples(self.prog) if self.exit_on_error else text

    def _apply_actions(self, cfg: Any, parent_key: str = "", *more: Any, **options: Any) -> Any:
        """Of jsonargparse, where a file or a class's arguments come in; sections of no value still have their names."""
        fill_unknown_sections(self, cfg, f"{parent_key}." if parent_key else "")
        return super()._apply_actions(cfg, parent_key, *more, **options)

    def _with_files(self, words: list[str]) -> list[str]:
        if not any(isinstance(action, ActionConfigFile) for action in actions_of(self)):
            return words
        try:
            return with_files(words, self.recipe_room)
        except UserError as error:
            self.error(str(error))

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:  # type: ignore[override]
        """Print what is wrong and what to type, without the pages of usage; exit with status 2."""
        name = self.prog.replace(" [options]", "")  # jsonargparse names a subcommand's parser so
        command = next((word for word in typed_words() if word in commands_of(self)), "")
        hint = f"every option: {' '.join(filter(None, (name, command)))} --help"
        self.exit(2, f"error: {readable(with_suggestion(message, self))}\n{hint}\n")


def _got(value: Any) -> str:
    """A value as a file has it, at most its first hundred characters."""
    return "null" if value is None else f"{value!r:.100}"
