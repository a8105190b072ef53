"""Fixtures shared by all packages."""

from pathlib import Path

import pytest
from support.tiny_models import tiny_model
from support.word_tokenizer import word_tokenizer


@pytest.fixture(scope="session")
def policy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved tiny random Llama with a word-level tokenizer."""
    folder = tmp_path_factory.mktemp("policy")
    tiny_model("Llama").save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    return folder
