"""Fixtures shared by all packages."""

import os
from pathlib import Path

import pytest
from huggingface_hub import constants
from hypothesis import settings
from support import fork_server

settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
settings.load_profile("untimed")

# No test asks the hub, nor does a process that one starts.
os.environ["HF_HUB_OFFLINE"] = "1"
constants.HF_HUB_OFFLINE = True


def pytest_configure(config: pytest.Config) -> None:
    """The workers of pytest-xdist share one server of processes."""
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        os.environ[fork_server.ADDRESS] = fork_server.start()


# What takes a worker longest, the longest first: begun last, one worker would end long after the others.
LONGEST = (
    "checkpoints/test_resume.py",
    "checkpoints/test_resumption.py",
    "strategies/test_parity.py",
    "planning/test_plan.py",
    "running/test_processes.py",
    "callbacks/test_scheduled.py",
    "strategies/test_accumulation.py",
    "export/test_export.py",
    "objectives/test_averaging.py",
    "strategies/test_deepspeed.py",
)


def _turn(item: pytest.Item) -> int:
    path = item.path.as_posix()
    return next((turn for turn, name in enumerate(LONGEST) if path.endswith(name)), len(LONGEST))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files come first; the marker `gpu` skips where there is none."""
    items.sort(key=_turn)
    import torch  # not above: the process that hands out the tests would import it too, and seconds before they start

    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu") is not None:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture
def blank_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of reports are made and kept, but nothing is drawn on them: that takes longer than a small run."""
    from matplotlib.figure import Figure

    monkeypatch.setattr(Figure, "draw", lambda figure, renderer: None)


@pytest.fixture(scope="session")
def policy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved tiny random Llama with a word-level tokenizer."""
    from support.tiny_models import tiny_model
    from support.word_tokenizer import word_tokenizer

    folder = tmp_path_factory.mktemp("policy")
    tiny_model("Llama").save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    return folder


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    """Half a character in what a fuzzed test says (a lone surrogate) would end all workers: xdist sends UTF-8."""
    report = yield
    report.sections = [(name, _encodable(text)) for name, text in report.sections]
    if isinstance(report.longrepr, tuple | None):
        return report
    text = str(report.longrepr)
    if (safe := _encodable(text)) != text:
        report.longrepr = safe
    return report
