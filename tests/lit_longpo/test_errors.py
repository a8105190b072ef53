"""Which errors are messages to the user, and that none of them is raised under a built-in name."""

import ast
import errno
from pathlib import Path

import pytest
from lightning.fabric.utilities.exceptions import MisconfigurationException
from support.command_line import CONFIGS

from lit_longpo import __main__ as command
from lit_longpo.errors import (
    InputError,
    MissingFileError,
    MissingPackageError,
    UserError,
    message_for_user,
    missing_package,
    readable,
)

ROOT = Path(__file__).resolve().parents[2]
# KeyError is not among them: asking for scores that nobody declared is a mistake in code.
BUILT_IN = {
    *("ValueError", "TypeError", "RuntimeError", "FileNotFoundError", "ImportError"),
    *("ModuleNotFoundError", "BlockingIOError"),
}


def raised(action):
    with pytest.raises(Exception) as caught:  # noqa: PT011  (whatever it is)
        action()
    return caught.value


def wrapped(words, error):
    try:
        raise error
    except (UserError, OSError) as inner:
        raise ValueError(words) from inner


def test_messages_of_ours_are_shown():
    assert message_for_user(InputError("expected 1, got 2; set it")) == "expected 1, got 2; set it"
    assert message_for_user(MissingFileError("expected a file")) == "expected a file"


def test_words_around_ours_are_shown_as_long_as_they_hold_ours():
    inner = InputError("expected 1, got 2")
    assert message_for_user(raised(lambda: wrapped("model: expected 1, got 2", inner))) == "expected 1, got 2"
    assert message_for_user(raised(lambda: wrapped("something else", inner))) is None
    blank = InputError("expected a folder, got  : none")  # what was typed may be white space
    assert message_for_user(raised(lambda: wrapped(f"failed:\n{blank}", blank))) == str(blank)


def test_errors_of_others_keep_their_traceback():
    assert message_for_user(ValueError("expected 1, got 2")) is None
    assert message_for_user(raised(lambda: {}["missing"])) is None


def test_names_and_links_that_the_system_refuses_are_one_line(tmp_path):
    long = raised(lambda: (tmp_path / ("[" * 3000)).stat())
    assert "its name is too long" in message_for_user(long)
    assert len(message_for_user(long)) < 1200
    (tmp_path / "round").symlink_to(tmp_path / "round")
    again = raised(lambda: wrapped(f"a link failed: {long}", long))
    assert message_for_user(again) == message_for_user(long)
    assert "lead in a circle" in message_for_user(raised((tmp_path / "round").read_text))
    assert f"write {tmp_path}, but a folder is" in message_for_user(raised(tmp_path.read_text))


def test_what_nobody_could_read_is_left_out_of_the_middle():
    message = f"expected a number, got {'[' * 10_000}; type 3"
    assert readable(message).startswith("expected a number, got [[")
    assert readable(message).endswith("[[; type 3")
    assert len(readable(message)) < 2600
    assert readable(message[:2500]) == message[:2500]


def test_what_was_typed_does_not_break_the_line():
    message = message_for_user(InputError("expected a model at \r\n\u2028x\ud800é, got none"))
    assert message == r"expected a model at \r\n\u2028x\ud800é, got none"


def test_a_path_does_not_break_the_line_either():
    message = message_for_user(OSError(errno.ENOSPC, "full", "two\nlines\x1b[31m"))
    assert message is not None
    assert r"write two\nlines\x1b[31m, but" in message


def test_what_lightning_tells_its_users_is_for_them():
    assert message_for_user(MisconfigurationException("no\n  loader")) == "no loader"


def chained(inner):
    try:
        raise inner
    except Exception as error:
        raise ValueError("no class") from error


@pytest.mark.parametrize(
    ("error", "package"),
    [
        (ModuleNotFoundError("No module named 'comet_ml.x'", name="comet_ml.x"), "comet_ml"),
        (ValueError("met. HINT: Try running `pip install -U 'wandb>=0.12'`"), "wandb"),
        (ModuleNotFoundError("No module named 'lit_longpo.gone'", name="lit_longpo.gone"), None),
        (ModuleNotFoundError("No module named 'json.gone'", name="json.gone"), None),
        (InputError("type: pip install x"), None),
        (KeyError("x"), None),
    ],
)
def test_a_package_of_others_that_is_missing_is_named(error, package):
    assert missing_package(raised(lambda: chained(error))) == package


@pytest.mark.parametrize(
    ("kind", "built_in"),
    [(InputError, ValueError), (MissingFileError, FileNotFoundError), (MissingPackageError, ImportError)],
)
def test_each_kind_is_also_the_error_that_programs_expect(kind, built_in):
    with pytest.raises(built_in, match="words"):
        raise kind("words")


@pytest.mark.parametrize("package", ["lit_longpo", "data_modules", "evaluation"])
def test_no_message_is_raised_under_a_built_in_name(package):
    for path in sorted((ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name):
                assert node.exc.func.id not in BUILT_IN, f"{path}:{node.lineno}: raise an error of lit_longpo/errors.py"


@pytest.mark.parametrize(
    "words",
    [
        ["fit", "--config", "~nobody-here/mine.yaml"],
        ["plan", "--config", str(CONFIGS / "solopo.yaml"), "--shape", "~nobody-here/config.json"],
        ["export", "--checkpoint", "~nobody-here/a.ckpt", "--output", "there"],
        ["ask", "--model", "~nobody-here/model", "--document", str(CONFIGS / "README.md"), "--question", "x"],
        ["evaluate", "--config", str(CONFIGS / "eval" / "needle.yaml"), "--model", "~nobody-here/model"],
    ],
    ids=lambda words: words[0],
)
def test_a_home_folder_of_nobody_is_one_line(words):
    with pytest.raises(SystemExit) as stop:
        command.main(words)
    assert "~NAME" in str(stop.value) or "~nobody-here" in str(stop.value)
    assert "\n" not in str(stop.value)
