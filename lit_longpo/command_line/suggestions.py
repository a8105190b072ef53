"""Did you mean ...? for misspelt keys and class names on the command line and in YAML."""

import difflib
import inspect
import re
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, get_args

import yaml
from jsonargparse import ArgumentParser
from jsonargparse._util import import_object

from lit_longpo.command_line.familiar_options import familiar, not_offered
from lit_longpo.command_line.wording import REFUSED, configurations, in_one_line, keys_of, typed_option

# How jsonargparse 4 quotes the word it did not know; the first group is the word.
_UNKNOWN = (
    re.compile(r"[Oo]ption '([\w.]+)' is not accepted"),
    re.compile(r"[Kk]ey[ :]+'?\"?([\w.]+)'?\"? is not expected"),
    re.compile(r"dot import path string: ([\w.]+)"),
    re.compile(r"does not accept (?:option|key|nested key) '([\w.]+)'"),
    re.compile(r"class_path '([\w.]+)':\s+(?:module|No module) "),
)
_CLASS_PATH = re.compile(r"class_path '([\w.]+)'")
# A class name where jsonargparse wanted a subclass: the key, the class, the name.
_NO_SUBCLASS = re.compile(
    r'key "([\w.]+)":.*Subtypes: \[[^\n]*?<class \'(\w+\.[\w.]+)\'>.*dot import path string: ([\w.]+)', re.DOTALL
)
_LITERAL = re.compile(r"typing\.Literal\['([^\]]*)'\](?=[^\n]*<class)")  # words beside the class
# A class of another kind: the key, the class that was wanted, what came.
_OTHER_CLASS = re.compile(
    r'key "([\w.]+)":.*Subtypes: \[[^\n]*?<class \'(\w+\.[\w.]+)\'>'
    r".*not correspond to a subclass.*Given value: ([^\n]+)",
    re.DOTALL,
)
# A class that is not where its import path says: the key, the path, what Python says.
_NO_IMPORT = re.compile(r'key "([\w.]+)":.*?class_path \'([\w.]+)\':\s+((?:module|No module) [^\n]+)', re.DOTALL)
# A short name that no class has where a class was to be named: the key, the name.
_NO_NAME = re.compile(
    r'key "([\w.]+)":[^\n]*\n(?:[^\n]*Expected a path[^\n]*\n)?[ -]*Expected a dot import path string: (\w+)$'
)
_GROUP = re.compile(r"Group '([\w.]+)' does not accept option '([\w.]+)'")
_STRANGERS = re.compile(r"unrecognized arguments: ([^\n]+)")
# An argument of a class that nobody named: the key, the class.
_NO_CLASS = re.compile(r'key "([\w.]+)":.*instantiatable class, but ([\w.]+) is abstract', re.DOTALL)

_NOT_TYPED = {
    "help",
    "views",
    "prompt_format",
    "policy",
    "optimization",
    "reference",
}  # filled in, of data and objective
_PARSED: ContextVar[tuple[Sequence[str], Sequence[Path]]] = ContextVar("parsed", default=((), ()))
_COMMAND: ContextVar[ArgumentParser | None] = ContextVar("command", default=None)  # whose options are being parsed


@contextmanager
def command_line(words: Sequence[str], files: Sequence[Path], command: ArgumentParser) -> Iterator[None]:
    """What is being parsed, for the errors of all parsers that have a part in it.

    Args:
        words: typed.
        files: that were read so far; it grows.
        command: whose options are being parsed.
    """
    token, parser = _PARSED.set((words, files)), _COMMAND.set(command)
    try:
        yield
    finally:
        _PARSED.reset(token)
        _COMMAND.reset(parser)


def typed_words() -> Sequence[str]:
    """Of the command line that is being parsed."""
    return _PARSED.get()[0]


def with_suggestion(message: str, parser: ArgumentParser) -> str:
    """The message, or a shorter one that says the same, followed by the nearest known names if there are any."""
    message = _GROUP.sub(r"does not accept option '\1.\2'", message)
    unknown = [match.group(1) for pattern in _UNKNOWN for match in pattern.finditer(message)]
    if (strangers := _STRANGERS.search(message)) is not None:
        unknown += re.findall(r"--([\w.-]+)", strangers.group(1))
    command = _COMMAND.get() or parser
    if command is not parser and REFUSED.fullmatch(message) and (strays := _strays(command)):
        return strays
    known = sorted({*_options_of(parser), *_class_names(parser), *_init_args(message)})
    hints = _all_hints(list(dict.fromkeys(unknown)), known, _options_of(parser) | _options_of(command))
    return "; ".join([_in_one_line(message, parser), *hints])


def _all_hints(words: Sequence[str], known: list[str], options: set[str]) -> list[str]:
    """Of every unknown word; which one is said where there are several."""
    return [hint if len(words) == 1 else f"--{word}: {hint}" for word in words for hint in _hints(word, known, options)]


def _options_of(parser: ArgumentParser) -> set[str]:
    return {*_option_names(parser), *getattr(parser, "shorthands", ())}


def _strays(command: ArgumentParser) -> str | None:
    """The first file named by --config with sections that the command does not have, often another project's."""
    words = typed_words()
    options = _options_of(command)
    sections = {option.partition(".")[0] for option in options}
    for path in configurations(words):
        if strays := [key for key in keys_of(path) if key not in sections]:
            hints = _all_hints(strays, sorted({*options, *_class_names(command)}), options)
            return "; ".join([f"expected options of this command in {path}, got {', '.join(strays)}", *hints])
    return None


def _in_one_line(message: str, parser: ArgumentParser) -> str:
    """What was expected where a class should have been named; other messages as `wording` has them."""
    if match := _NO_SUBCLASS.search(message) or _OTHER_CLASS.search(message):
        key, base, word = match.groups()
        literals = [name for literal in _LITERAL.findall(message) for name in literal.split("', '")]
        return _expected_class(key, import_object(base), word, literals)
    if match := _NO_CLASS.search(message):
        key, base = match.groups()
        return f"expected a class before its arguments; type one of {', '.join(_choices(base))} for `{key}` first"
    if match := _NO_IMPORT.search(message):
        key, path, cause = match.groups()
        return f"expected a class for `{key}`, got {path}: {cause}"
    if (match := _NO_NAME.search(message)) and (base := _class_of(parser, match.group(1))):
        return _expected_class(match.group(1), base, match.group(2))
    words, files = _PARSED.get()
    return in_one_line(
        message, words, files, [name for name in _option_names(parser) if not {*name.split(".")} & _NOT_TYPED]
    )


def _expected_class(key: str, base: type, word: str, words: Sequence[str] = ()) -> str:
    """A class was to be named, or one of the words beside it; of one without subclasses, settings were to be given."""
    choices = [*words, *_names(base)]
    if choices:
        return f"expected `{key}` to name one of {', '.join(choices)}, got {word}"
    arguments = _arguments(base)
    if not arguments:
        return f"expected `{key}` to name a {base.__name__} with its module, got {word}; type --{key} package.Class"
    return f"expected settings of `{key}` ({', '.join(arguments)}), got {word}; type --{key}.{arguments[0]} VALUE"


def _class_of(parser: ArgumentParser, key: str) -> type | None:
    hints = (getattr(action, "_typehint", None) for action in actions_of(parser) if action.dest == key)
    return next((cls for hint in hints for cls in _classes(hint)), None)


def _hints(word: str, known: list[str], options: set[str]) -> Iterator[str]:
    """Another project's option, the closest names of the word or of one of its parts; or whose argument it is."""
    section, _, name = word.rpartition(".")
    inside = section.split(".")[0] in {option.split(".")[0] for option in options}  # of a section that there is
    typed = _typed_value(word)
    option = familiar(word, options, typed) or (familiar(name, options, typed) if inside else None)
    if option and not _is_refused(option.split()[0], word, known):
        yield f"here it is called {option}"
        return
    if answer := not_offered(name):
        yield answer
        return
    names = {name.casefold(): name for name in known}
    if "." in word and (name := word.rpartition(".")[2]) in known:  # the class has moved
        yield f"did you mean {name}?"
        return
    if longer := [name for name in known if name[:1].isupper() and name.casefold().startswith(word.casefold())]:
        yield f"did you mean {' or '.join(longer)}?"
        return
    for part in (word, *word.split(".")):
        near = [names[name] for name in difflib.get_close_matches(part.casefold(), names, n=3, cutoff=0.75)]
        if near and part not in known:
            yield f"did you mean {' or '.join(near)}?"
            return
    if "base" in known and word in _base_arguments():
        yield f"`{word}` is an argument of SoLoPO's base: move it to `base.init_args`, or type --model.base.{word}"


def _is_refused(option: str, word: str, known: Container[str]) -> bool:
    """Whether another project's name for the word is the very option that a class does not take."""
    section, _, name = option.lstrip("-").rpartition(".")
    typed = typed_option(word, typed_words())
    return option == typed or (typed is None and name == word and bool(section) and section not in known)


def _typed_value(option: str) -> str | None:
    """What was typed behind an option of the command line, or stands in a file; `None` if nothing does."""
    words, files = _PARSED.get()
    for number, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name != f"--{option}":
            continue
        following = words[number + 1] if number + 1 < len(words) else "--"
        return value if equals else None if following.startswith("--") else following
    found = next(filter(None, (_value_in(path, option) for path in reversed(files))), None)
    inside = typed_option(option, words)  # of a class
    return found if found or inside is None else _typed_value(inside.lstrip("-"))


def _value_in(path: Path, option: str) -> str | None:
    """An option's value as a file has it, of a file of one section too; `None` if it has none."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):  # told by whoever reads it
        return None
    for names in (option.split("."), option.split(".")[-1:]):
        value = content
        for name in names:
            value = value.get(name) if isinstance(value, dict) else None
        if isinstance(value, list):
            return f"[{','.join(map(str, value))}]"
        if isinstance(value, str) and value not in ("", "null", "~"):
            return value
    return None


def commands_of(parser: ArgumentParser) -> dict[str, ArgumentParser]:
    """Parsers of its subcommands, by their names."""
    return getattr(parser._subcommands_action, "_name_parser_map", {})


def actions_of(parser: ArgumentParser) -> Iterator[Any]:
    """What the parser and those of its subcommands take."""
    for action in parser._actions:
        yield action
        for subparser in getattr(action, "_name_parser_map", {}).values():
            yield from actions_of(subparser)


def _option_names(parser: ArgumentParser) -> Iterator[str]:
    """Dotted names of the options."""
    for action in actions_of(parser):
        yield action.dest


def _class_names(parser: ArgumentParser) -> Iterator[str]:
    """Short names of the classes that YAML can name: those below the types of the options."""
    for kind in {kind for action in actions_of(parser) for kind in _classes(getattr(action, "_typehint", None))}:
        for cls in _subclasses(kind):
            yield cls.__name__


def _classes(hint: Any) -> Iterator[type]:
    """The classes in a type, however deep in unions and lists; not Python's own."""
    if inspect.isclass(hint) and hint.__module__ != "builtins":
        yield hint
    for part in get_args(hint):
        yield from _classes(part)


def _subclasses(base: type) -> Iterator[type]:
    children: list[type] = base.__subclasses__()
    for cls in children:
        yield cls
        yield from _subclasses(cls)


def _choices(base: str) -> list[str]:
    """Names of the classes that can stand where an import path's class is expected."""
    return _names(import_object(base))


def _names(base: type) -> list[str]:
    return sorted({cls.__name__ for cls in _subclasses(base) if not inspect.isabstract(cls)})


def _base_arguments() -> set[str]:
    """Arguments of pairwise objectives, but for those that all have and that mean nothing in a base."""
    from lit_longpo.objectives import PairwiseModule  # objectives need Lightning, most commands' parsers do not

    arguments = {name for cls in _subclasses(PairwiseModule) for name in _arguments(cls)}
    return arguments - set(_arguments(PairwiseModule))


def _init_args(message: str) -> Iterable[str]:
    """Arguments of the classes that the message names."""
    if _NO_IMPORT.search(message) is None:
        for path in _CLASS_PATH.findall(message):
            yield from _arguments(import_object(path))


def _arguments(cls: type) -> list[str]:
    """Arguments of a class, those that it hands on to its parents included."""
    return ArgumentParser().add_class_arguments(cls, fail_untyped=False)
