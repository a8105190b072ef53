"""Did you mean ...? for misspelt keys and class names on the command line and in YAML."""

import difflib
import re
from collections.abc import Container, Iterable, Sequence
from pathlib import Path

from jsonargparse import ArgumentParser
from jsonargparse._util import import_object

from lit_longpo.command_line.familiar_options import familiar, not_offered
from lit_longpo.command_line.known_names import (
    argument_names,
    base_arguments,
    class_names,
    class_of,
    known_options,
    option_names,
    subclass_names,
)
from lit_longpo.command_line.misplaced import beside_a_class, meant_place, place_in_files, section_of
from lit_longpo.command_line.typed_words import command_of, read_files, typed_value, typed_words
from lit_longpo.command_line.wording import REFUSED, configurations, in_one_line, typed_option
from lit_longpo.files.plain_yaml import settings_in

_CAME = r"\. Got value: (?:Namespace\(class_path=\')?(?P<path>[\w.]+)"  # a class path, typed or in YAML

# How jsonargparse 4 quotes the word it did not know; the first group is the word.
_UNKNOWN = (
    re.compile(r"[Oo]ption '([\w.]+)' is not accepted"),
    re.compile(r"[Kk]ey[ :]+'?\"?([\w.]+)'?\"? is not expected"),
    re.compile(r"dot import path string: ([\w.]+)"),
    re.compile(r"does not accept (?:option|key|nested key) '([\w.]+)'"),
    re.compile(r"class_path '([\w.]+)':\s+(?:module|No module) "),
    re.compile(rf"callable class: (?:module|No module) [^\n]+{_CAME}"),
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
# A class that is not where its import path says, and what Python says; the second where a function would do.
_CAUSE = r"(?P<cause>(?:module|No module) [^\n]+)"
_NO_IMPORT = re.compile(rf'key "(?P<key>[\w.]+)":.*?class_path \'(?P<path>[\w.]+)\':\s+{_CAUSE}', re.DOTALL)
_NO_FUNCTION = re.compile(rf'key "(?P<key>[\w.]+)":.*?callable class: {_CAUSE}{_CAME}', re.DOTALL)
# A short name that no class has where a class was to be named: the key, the name.
_NO_NAME = re.compile(
    r'key "([\w.]+)":[^\n]*\n(?:[^\n]*Expected a path[^\n]*\n)?[ -]*Expected a dot import path string: (\w+)$'
)
_NOT_A_CLASS = re.compile(r"Option 'class_path' is not accepted|Not a valid subclass")  # in some messages of these
_GROUP = re.compile(r"Group '([\w.]+)' does not accept option '([\w.]+)'")
_OF_COMMAND = re.compile(r"Subcommand '\w+' does not accept option '([\w.]+)'")
_LOST = re.compile(r"expected settings of `[\w.]+`, got null; .*")  # nothing has given a section
_UNRECOGNIZED = re.compile(r"unrecognized arguments: ([^\n]+)")
# An argument of a class that nobody named: the key, the class.
_NO_CLASS = re.compile(r'key "([\w.]+)":.*instantiatable class, but ([\w.]+) is abstract', re.DOTALL)

_CALLED = "here it is called "

# Filled in, of data and objective.
_NOT_TYPED = {"help", "views", "prompt_format", "policy", "optimization", "reference"}


def with_suggestion(message: str, parser: ArgumentParser) -> str:
    """The message, or a shorter one that says the same, followed by the nearest known names if there are any."""
    message = _GROUP.sub(r"does not accept option '\1.\2'", message)
    unknown = [match.group(1) for pattern in _UNKNOWN for match in pattern.finditer(message)]
    if (unrecognized := _UNRECOGNIZED.search(message)) is not None:
        unknown += re.findall(r"--([\w.-]+)", unrecognized.group(1))
    command = command_of(parser)
    by_files = any(pattern.fullmatch(message) for pattern in (REFUSED, _OF_COMMAND, _LOST))
    if by_files and (strays := _strays(command)):
        return strays
    known = sorted({*known_options(parser), *class_names(parser), *_init_args(message)})
    options = known_options(parser) | known_options(command)
    if (option := _meant(message, parser, command)) is not None:
        hints = [f"did you mean {option}? Mind the indentation"]
    else:
        hints = _all_hints(list(dict.fromkeys(unknown)), known, options)
    return "; ".join([_expected(message, parser), *hints])


def _meant(message: str, parser: ArgumentParser, command: ArgumentParser) -> str | None:
    """The option of the command that a key would be if it stood in another section of its file, if there is one."""
    if of_command := _OF_COMMAND.fullmatch(message):
        return meant_place(of_command[1], known_options(command))
    place = _place(message, parser)
    return None if place is None else meant_place(place[0], known_options(command))


def _place(message: str, parser: ArgumentParser) -> tuple[str, Path] | None:
    """Where an argument that a class does not have stands in the files, and in which; `None` if it was typed."""
    refused = REFUSED.fullmatch(message)
    if refused is None or typed_option(refused[1], typed_words()):
        return None
    return place_in_files(refused[1], set(option_names(parser)), read_files())


def _all_hints(words: Sequence[str], known: list[str], options: set[str]) -> list[str]:
    """Of every unknown word; which one is said where there are several."""
    hints = {word: hint for word in words if (hint := _hint(word, known, options)) is not None}
    return [hint if len(words) == 1 else f"--{word}: {hint}" for word, hint in hints.items()]


def _strays(command: ArgumentParser) -> str | None:
    """The first file named by --config with sections that the command does not have: of one section, or not ours."""
    words = typed_words()
    options = known_options(command)
    sections = {option.partition(".")[0] for option in options}
    for path in configurations(words):
        content = settings_in(path)
        if strays := [key for key in content if key not in sections]:
            if section := section_of(content, command):
                return f"expected sections in {path}, got the settings of one; type --{section} {path} for its --config"
            return f"expected options of this command in {path}, got {_answered(strays, command, options)}"
    return None


def _answered(words: Sequence[str], command: ArgumentParser, options: set[str]) -> str:
    """Each word once, with its hint if it has one: a file of another project has forty, and the line has an end."""
    known = sorted({*options, *class_names(command)})
    hints = {word: _hint(word, known, options) for word in words}
    if len(words) == 1:
        return "; ".join(part for part in (words[0], hints[words[0]]) if part)
    return "; ".join(f"{word}: {hint.removeprefix(_CALLED)}" if hint else word for word, hint in hints.items())


def _expected(message: str, parser: ArgumentParser) -> str:
    """What was expected where a class should have been named; other messages as `wording` has them."""
    if _NOT_A_CLASS.search(message) and (beside := beside_a_class(read_files())) is not None:
        section, keys, file = beside
        return f"expected `class_path` and `init_args` in `{section}` of {file}, got {', '.join(keys)} beside them"
    if match := _NO_SUBCLASS.search(message) or _OTHER_CLASS.search(message):
        key, base, word = match.groups()
        literals = [name for literal in _LITERAL.findall(message) for name in literal.split("', '")]
        return _expected_class(key, import_object(base), word, literals)
    if match := _NO_CLASS.search(message):
        key, base = match.groups()
        names = ", ".join(subclass_names(import_object(base)))
        return f"expected a class before its arguments; type one of {names} for `{key}` first"
    if match := _NO_IMPORT.search(message) or _NO_FUNCTION.search(message):
        return f"expected a class for `{match['key']}`, got {match['path']}: {match['cause']}"
    if (match := _NO_NAME.search(message)) and (base := class_of(parser, match.group(1))):
        return _expected_class(match.group(1), base, match.group(2))
    if (place := _place(message, parser)) is not None:
        return f"expected options of this command, got {place[0]} in {place[1]}"
    return in_one_line(
        message,
        typed_words(),
        read_files(),
        [name for name in option_names(parser) if not {*name.split(".")} & _NOT_TYPED],
    )


def _expected_class(key: str, base: type, word: str, words: Sequence[str] = ()) -> str:
    """A class was to be named, or one of the words beside it; of one without subclasses, settings were to be given."""
    choices = [*words, *subclass_names(base)]
    if choices:
        return f"expected `{key}` to name one of {', '.join(choices)}, got {word}"
    arguments = argument_names(base)
    if not arguments:
        return f"expected `{key}` to name a {base.__name__} with its module, got {word}; type --{key} package.Class"
    return f"expected settings of `{key}` ({', '.join(arguments)}), got {word}; type --{key}.{arguments[0]} VALUE"


def _hint(word: str, known: list[str], options: set[str]) -> str | None:
    """Another project's option, the closest names of the word or of one of its parts; or whose argument it is."""
    section, _, name = word.rpartition(".")
    inside = section.split(".")[0] in {option.split(".")[0] for option in options}  # of a section that there is
    typed = typed_value(word)
    option = familiar(word, options, typed) or (familiar(name, options, typed) if inside else None)
    if option and not _is_refused(option.split()[0], word, known):
        return f"{_CALLED}{option}"
    if answer := not_offered(name):
        return answer
    if "." in word and name in known:  # the class has moved
        return f"did you mean {name}?"
    if near := _nearest(word, known):
        return f"did you mean {' or '.join(near)}?"
    if "base" in known and word in base_arguments():
        return f"`{word}` is an argument of SoLoPO's base: move it to `base.init_args`, or type --model.base.{word}"
    return None


def _nearest(word: str, known: list[str]) -> list[str]:
    """Classes whose names begin with the word, else names that are close to it or to one of its parts.

    Of a word with an underscore only options: no class has one.
    """
    if "_" in word:
        known = [name for name in known if not name[:1].isupper()]
    if longer := [name for name in known if name[:1].isupper() and name.casefold().startswith(word.casefold())]:
        return longer
    names = {name.casefold(): name for name in known}
    for part in (word, *word.split(".")):
        near = [names[name] for name in difflib.get_close_matches(part.casefold(), names, n=3, cutoff=0.75)]
        if near and part not in known:
            return near
    return []


def _is_refused(option: str, word: str, known: Container[str]) -> bool:
    """Whether another project's name for the word is the very option that a class does not take."""
    section, _, name = option.lstrip("-").rpartition(".")
    typed = typed_option(word, typed_words())
    return option == typed or (typed is None and name == word and bool(section) and section not in known)


def _init_args(message: str) -> Iterable[str]:
    """Arguments of the classes that the message names."""
    if _NO_IMPORT.search(message) is None:
        for path in _CLASS_PATH.findall(message):
            yield from argument_names(import_object(path))
