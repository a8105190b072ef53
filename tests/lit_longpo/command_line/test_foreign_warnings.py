import ast
import logging
import os
import subprocess
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from lightning.fabric.accelerators import cuda
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.utilities.data import has_len_all_ranks
from torch.utils.data import DataLoader

from lit_longpo.command_line import process
from lit_longpo.command_line.foreign_warnings import _WARNINGS, quieten_libraries


def test_nothing_held_out_is_no_warning(monkeypatch):
    """By the very function of Lightning that counts the empty list of a `data.val_fraction` of 0."""
    with warnings.catch_warnings(record=True) as shown:
        warnings.resetwarnings()
        quieten_libraries()
        has_len_all_ranks([], SingleDeviceStrategy("cpu"))
        has_len_all_ranks(DataLoader([]), SingleDeviceStrategy("cpu"))
    assert [str(warning.message)[:30] for warning in shown] == ["Total length of `DataLoader` a"]


@pytest.mark.parametrize(("category", "beginning"), _WARNINGS)
def test_what_is_left_out_is_that_and_nothing_else(category, beginning):
    with warnings.catch_warnings(record=True) as shown:
        warnings.resetwarnings()
        quieten_libraries()
        warnings.warn(beginning + ", and so on", category, stacklevel=1)
        warnings.warn("before " + beginning, category, stacklevel=1)
        warnings.warn(beginning, BytesWarning, stacklevel=1)
    assert len(shown) == 2


def test_a_filter_of_the_users_has_the_last_word():
    with warnings.catch_warnings(record=True) as shown:
        warnings.resetwarnings()
        warnings.simplefilter("default")
        quieten_libraries()
        category, beginning = _WARNINGS[0]
        warnings.warn(beginning, category, stacklevel=1)
    assert len(shown) == 1


def test_lightnings_advertisement_is_left_out(caplog):
    quieten_libraries()
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    with caplog.at_level(logging.INFO, logger.name):
        logger.info("\N{ELECTRIC LIGHT BULB} Tip: For seamless cloud logging, try installing something")
        logger.info("GPU available: False")
    assert "GPU available: False" in caplog.text or not logger.propagate
    assert "Tip" not in caplog.text


@pytest.mark.parametrize(
    ("on_terminal", "asked", "drawn"),
    [(False, None, False), (True, None, True), (False, "0", True), (True, "1", False)],
)
def test_libraries_draw_bars_on_terminals_alone(on_terminal, asked, drawn, monkeypatch):
    """By transformers itself, which asks at its import; who sets the variable has the last word."""
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", asked or "")
    if asked is None:
        monkeypatch.delenv("HF_HUB_DISABLE_PROGRESS_BARS")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: on_terminal, raising=False)
    quieten_libraries()
    code = "from transformers.utils.logging import is_progress_bar_enabled as asked; print(asked())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == str(drawn)


@pytest.mark.skipif(find_spec("lm_eval") is None, reason="no extra lm-eval")
def test_what_the_harness_says_of_every_model_that_is_loaded_is_left_out(caplog):
    """Its own lines, read from its source."""
    [folder] = find_spec("lm_eval").submodule_search_locations
    source = ast.parse((Path(folder) / "models/huggingface.py").read_text())
    texts = [item.value for item in ast.walk(source) if isinstance(item, ast.Constant) and isinstance(item.value, str)]
    said = [text for text in texts if text.startswith(("`pretrained` model kwarg", "Passed an already-initialized"))]
    assert len(said) == 2
    quieten_libraries()
    for text in (*said, "and a cut prompt"):
        logging.getLogger("lm_eval.models.huggingface").warning(text)
    assert [record.getMessage() for record in caplog.records] == ["and a cut prompt"]


def test_lightnings_advice_on_fp32_products_is_left_out(monkeypatch, caplog):
    """By the very function that gives it on GPUs with tensor cores."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "H200")
    monkeypatch.setattr(cuda, "_is_ampere_or_later", lambda device: True)
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    monkeypatch.setattr(logger, "filters", [])
    monkeypatch.setattr(logger, "handlers", [caplog.handler])
    monkeypatch.setattr(logger, "level", logging.INFO)
    cuda._check_cuda_matmul_precision(torch.device("cuda", 0))
    assert "Tensor Cores" in caplog.text
    caplog.clear()
    quieten_libraries()
    cuda._check_cuda_matmul_precision(torch.device("cuda", 0))
    assert "Tensor Cores" not in caplog.text


@pytest.mark.parametrize(
    ("name", "package", "file", "beginning"),
    [
        ("DeepSpeed", "deepspeed", "accelerator/real_accelerator.py", "Setting accelerator to CPU"),
        ("DeepSpeed", "deepspeed", "runtime/engine.py", "**** You are using ZeRO with an untested"),
        (
            "bitsandbytes.backends.cpu.ops",
            "bitsandbytes",
            "backends/cpu/ops.py",
            "Failed to load CPU gemm_4bit_forward",
        ),
    ],
)
def test_lines_of_libraries_that_a_user_can_do_nothing_about(name, package, file, beginning, caplog):
    """`export` showed the first on every machine without a GPU; the file that says them still does."""
    source = Path(find_spec(package).origin).parent / file
    [said] = [text for text in _strings(source) if text.startswith(beginning)]
    quieten_libraries()
    logger = logging.getLogger(name)
    with caplog.at_level(logging.INFO, logger.name):
        logger.addHandler(caplog.handler)
        logger.warning(said.replace("%s", "it"))
        logger.warning("something else")
        logger.removeHandler(caplog.handler)
    assert beginning not in caplog.text
    assert "something else" in caplog.text


def _strings(source):
    """Every text in a file of code."""
    return [
        node.value for node in ast.walk(ast.parse(source.read_text())) if isinstance(getattr(node, "value", 0), str)
    ]


@pytest.mark.parametrize(("rank", "said"), [("0", "everything"), ("1", "")])
def test_of_several_processes_the_first_speaks_for_all(rank, said, monkeypatch, capsys):
    for name in ("RANK", "NODE_RANK"):  # DeepSpeed leaves them behind in a process that it was set up in
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LOCAL_RANK", rank)
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    packages = [logging.getLogger(name) for name in ("lit_longpo", "data_modules", "evaluation")]
    before = [(logger, logger.handlers, logger.level) for logger in packages]
    for logger in packages:
        logger.handlers, logger.propagate = [], False
    try:
        process.log_to_terminal(first_process=process.is_first(os.environ))
        logging.getLogger("data_modules.rows").warning("everything")
        assert capsys.readouterr().err.strip() == said
    finally:
        for logger, handlers, level in before:
            logger.handlers, logger.propagate = handlers, True
            logger.setLevel(level)
