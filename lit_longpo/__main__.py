"""`python -m lit_longpo COMMAND`: one dict from command to function.

The only file that looks at the sibling packages. Each command imports what it needs when it is called, so that none
waits for the libraries of another.
"""

import difflib
import gc
import importlib.util
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from lit_longpo.command_line.foreign_warnings import leave_out
from lit_longpo.errors import InputError, message_for_user
from lit_longpo.help.stored import stored_help

_HELP = ("-h", "--help")
_SIBLINGS = ("data_modules", "evaluation")
_DIED = 128  # what a shell adds to the signal that ended a program


class _Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does."""


@contextmanager
def _importing() -> Iterator[None]:
    """While libraries are imported: nothing is collected, and what they have made is never looked through again.

    Imports make millions of objects that stay. Python's collector would look through all of them again and again, then
    and at every full collection of the run. Where torch is there before, the process is somebody else's: left alone.
    """
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


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
    with _importing():
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
    with _importing():
        from data_modules.builders.command import build

    build(arguments)


def plan(arguments: list[str]) -> None:
    """What `fit` would take, worked out instead of run: memory, FLOPs, time, conflicts."""
    with _importing():
        register_classes()
        from lit_longpo.planning.command import plan

    plan(arguments)


def evaluate(arguments: list[str]) -> None:
    """A model on a benchmark, or two reports compared."""
    with _importing():
        import data_modules  # noqa: F401  (its haystacks have short names, too)
        from evaluation.command import evaluate

        _share_readers()
    evaluate(arguments)


def perplexity(arguments: list[str]) -> None:
    """How likely a model finds plain text, by length and position."""
    with _importing():
        from evaluation.perplexity.command import perplexity

    perplexity(arguments)


def ask(arguments: list[str]) -> None:
    """Questions about a document, trained model and base side by side."""
    with _importing():
        from evaluation.asking.command import ask

    ask(arguments)


def export(arguments: list[str]) -> None:
    """A checkpoint as a folder for transformers."""
    with _importing():
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


def _is_first(environment: Mapping[str, str]) -> bool:
    """Whether this is the first of all processes, as torchrun, SLURM or Lightning's own launcher numbers them."""
    ranks = ("RANK", "LOCAL_RANK", "SLURM_PROCID")
    rank = next((environment[name] for name in ranks if name in environment), "0")
    return rank == "0" and environment.get("NODE_RANK", "0") == "0"


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
    leave_out()
    _log_to_terminal(first_process=_is_first(os.environ))
    try:
        _look_here_last()
        _refuse_namesakes()
        with _ended_by_sigterm():  # a trainer hears it itself while it runs
            _run(words)
    except KeyboardInterrupt as stop:
        if os.environ.get("LIT_LONGPO_TRACEBACK"):
            raise
        if _is_first(os.environ):
            sys.stderr.write("interrupted: what was written stays, and the same command goes on\n")
        sys.exit(_DIED + (signal.SIGTERM if isinstance(stop, _Terminated) else signal.SIGINT))
    except Exception as error:
        message = message_for_user(error)
        if message is None or os.environ.get("LIT_LONGPO_TRACEBACK"):
            raise
        sys.exit(f"error: {message}")


def _run(words: list[str]) -> None:
    command = COMMANDS.get(words[0])
    if words[0].startswith("-"):  # LightningCLI takes options before the command, too
        lightning(words)
    elif command is None:
        sys.stderr.write(_unknown(words[0]) + "\n")
        sys.exit(2)
    else:
        command(words[1:])


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Raise where SIGTERM comes, so that what is written is left whole; processes forked from this one just end."""
    owner = os.getpid()

    def end(signum: int, frame: FrameType | None) -> NoReturn:
        if os.getpid() != owner:
            os._exit(_DIED + signum)
        raise _Terminated

    if threading.current_thread() is not threading.main_thread():  # signals go to that one
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _help(words: Sequence[str]) -> str | None:
    """What is shown before any library is imported, if help is all that was asked for."""
    if not words or words[0] in _HELP:
        return overview() + "\n"
    return stored_help(words[0]) if len(words) == 2 and words[1] in _HELP and words[0] in COMMANDS else None


def _look_here_last() -> None:
    """Let YAML name classes of the current folder under the console script, too, after everything installed."""
    if not {"", str(Path.cwd())} & set(sys.path):
        sys.path.append(str(Path.cwd()))


def _refuse_namesakes() -> None:
    """Another project's package in the place of one of ours would be imported without a word.

    Raises:
        ValueError: naming it.
    """
    root = Path(__file__).resolve().parents[1]
    for name in _SIBLINGS:
        spec = importlib.util.find_spec(name)
        found = Path(spec.origin).resolve() if spec and spec.origin else None
        if found != root / name / "__init__.py":
            raise InputError(
                f"expected the package `{name}` of lit_longpo at {root / name}, got {found or 'none'}, which Python "
                "finds first; start in another folder or rename that one, or type `lit_longpo` in place of "
                "`python -m lit_longpo`: it looks into the current folder last"
            )


def _log_to_terminal(*, first_process: bool) -> None:
    """The first process speaks for all: others read the same data and settings, and would say everything again."""
    if not first_process:
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # of transformers' loading, too
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    for package in ("lit_longpo", "data_modules", "evaluation"):
        logger = logging.getLogger(package)
        logger.setLevel(logging.INFO if first_process else logging.ERROR)
        # Not on the root: Lightning, imported later, would print every line of its own once more.
        if not logger.hasHandlers():
            logger.addHandler(handler)


if __name__ == "__main__":
    main()
