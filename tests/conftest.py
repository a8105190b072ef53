"""Fixtures shared by all packages."""

import os
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from hypothesis import settings
from support.tiny_models import tiny_model
from support.word_tokenizer import word_tokenizer

settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
settings.load_profile("untimed")

# No test asks the hub, nor does a process that one starts.
os.environ["HF_HUB_OFFLINE"] = "1"
constants.HF_HUB_OFFLINE = True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The marker `gpu` skips where there is none."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu") is not None:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session")
def policy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved tiny random Llama with a word-level tokenizer."""
    folder = tmp_path_factory.mktemp("policy")
    tiny_model("Llama").save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    return folder
