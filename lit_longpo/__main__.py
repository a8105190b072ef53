"""`python -m lit_longpo COMMAND`: one dict from command to function.

The only file that looks at the sibling packages. Each command imports what it needs when it is called, so that none
waits for the libraries of another.
"""

import difflib
import os
import signal
import sys
from collections.abc import Callable, Sequence

from lit_longpo.command_line.foreign_warnings import quieten_libraries
from lit_longpo.command_line.process import (
    Terminated,
    ended_by_sigterm,
    import_from_here_last,
    importing,
    is_first,
    log_to_terminal,
    refuse_namesakes,
    refuse_other_parser,
)
from lit_longpo.errors import DIED, message_for_user
from lit_longpo.help.stored import stored_help

_HELP = ("-h", "--help")


def register_classes() -> None:
    """Let YAML name objectives, data modules and callbacks without their packages."""
    import data_modules  # noqa: F401
    import evaluation  # noqa: F401
    import lit_longpo.callbacks
    import lit_longpo.objectives  # noqa: F401

    _share_readers()


def _share_readers() -> None:
    """Let benchmarks ask questions of every file that pairs can be read from."""
    from data_modules.questions import read_question_records
    from evaluation.benchmarks.questions import register_reader

    register_reader(read_question_records)


def lightning(arguments: list[str]) -> None:
    """LightningCLI: the first argument, or one after its own options, is the command."""
    with importing():
        register_classes()
        from lit_longpo.cli import LongPOCLI

    LongPOCLI(args=arguments)


def fit(arguments: list[str]) -> None:
    """Train a policy from YAML."""
    lightning(["fit", *arguments])


def validate(arguments: list[str]) -> None:
    """Loss and rewards on the validation data."""
    lightning(["validate", *arguments])


def test(arguments: list[str]) -> None:
    """Loss and rewards on the test data."""
    lightning(["test", *arguments])


def build(arguments: list[str]) -> None:
    """Preference pairs from raw text, with a model."""
    with importing():
        from data_modules.builders.command import build

    build(arguments)


def plan(arguments: list[str]) -> None:
    """What `fit` would take, worked out instead of run: memory, FLOPs, time, conflicts."""
    with importing():
        register_classes()
        from lit_longpo.planning.command import plan

    plan(arguments)


def evaluate(arguments: list[str]) -> None:
    """A model on a benchmark, or two reports compared."""
    with importing():
        import data_modules  # noqa: F401  (its haystacks have short names, too)
        from evaluation.command import evaluate

        _share_readers()
    evaluate(arguments)


def perplexity(arguments: list[str]) -> None:
    """How likely a model finds plain text, by length and position."""
    with importing():
        from evaluation.perplexity.command import perplexity

    perplexity(arguments)


def ask(arguments: list[str]) -> None:
    """Questions about a document, trained model and base side by side."""
    with importing():
        from evaluation.asking.command import ask

    ask(arguments)


def export(arguments: list[str]) -> None:
    """A checkpoint as a folder for transformers."""
    with importing():
        from lit_longpo.export.command import export

    export(arguments)


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "fit": fit,
    "validate": validate,
    "test": test,
    "build": build,
    "plan": plan,
    "evaluate": evaluate,
    "perplexity": perplexity,
    "ask": ask,
    "export": export,
}
_BY_MODEL = ("evaluate", "perplexity", "ask")  # here --model is short for --policy.source
# What others call them.
_FAMILIAR = {
    **dict.fromkeys(("train", "finetune", "sft", "dpo", "orpo", "run", "resume"), "fit"),
    **dict.fromkeys(("chat", "generate", "predict", "infer"), "ask"),
    **dict.fromkeys(("eval", "benchmark", "compare", "score"), "evaluate"),
    **dict.fromkeys(("merge", "save", "convert"), "export"),
    **dict.fromkeys(("estimate", "memory"), "plan"),
}


def overview() -> str:
    """Every command with the first line of its docstring."""
    lines = [f"  {name:<12}{(command.__doc__ or '').partition('.')[0]}" for name, command in COMMANDS.items()]
    usage = "python -m lit_longpo"
    return "\n".join([f"usage: {usage} COMMAND ...", "", *lines, "", f"every option: {usage} COMMAND --help"])


def _unknown(word: str) -> str:
    near = difflib.get_close_matches(word, COMMANDS, n=1)
    near = [_FAMILIAR[word.lower()]] if word.lower() in _FAMILIAR else near
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"error: expected one of {', '.join(COMMANDS)}, got {word!r}{hint}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that the first argument names.

    An error written for the user ends it with status 1 and that message alone; LIT_LONGPO_TRACEBACK=1
    shows where it was raised. Everything else keeps its traceback.

    Args:
        arguments: command and what follows; `None` takes this process's.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if (text := _help(words)) is not None:
        sys.stdout.write(text)
        return
    quieten_libraries()
    log_to_terminal(first_process=is_first(os.environ))
    try:
        import_from_here_last()
        refuse_namesakes()
        refuse_other_parser()
        with ended_by_sigterm():  # a trainer hears it itself while it runs
            _run(words)
    except KeyboardInterrupt as stop:
        if os.environ.get("LIT_LONGPO_TRACEBACK"):
            raise
        if is_first(os.environ):
            sys.stderr.write("interrupted: what was written stays, and the same command goes on\n")
        sys.exit(DIED + (signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT))
    except Exception as error:
        message = message_for_user(error)
        if message is None or os.environ.get("LIT_LONGPO_TRACEBACK"):
            raise
        sys.exit(f"error: {_as_typed(words[0], message)}")


def _run(words: list[str]) -> None:
    command = COMMANDS.get(words[0])
    if words[0].startswith("-"):  # LightningCLI takes options before the command, too
        lightning(words)
    elif command is None:
        sys.stderr.write(_unknown(words[0]) + "\n")
        sys.exit(2)
    else:
        command(words[1:])


def _as_typed(command: str, message: str) -> str:
    """The message with the option for models that the command has."""
    if command not in _BY_MODEL:
        return message
    return message.replace("`policy.source`", "--model").replace("--policy.source", "--model")


def _help(words: Sequence[str]) -> str | None:
    """What is shown before any library is imported, if help is all that was asked for."""
    if not words or words[0] in _HELP:
        return overview() + "\n"
    return stored_help(words[0]) if len(words) == 2 and words[1] in _HELP and words[0] in COMMANDS else None


if __name__ == "__main__":
    main()
