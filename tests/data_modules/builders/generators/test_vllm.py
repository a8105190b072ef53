"""vLLM where it is not installed; with it, tests need a GPU."""

import importlib.util

import pytest

from data_modules.builders.generators.vllm import VLLMGenerator
from lit_longpo.policy import PolicyConfig


def test_vllm_that_is_absent_is_said():
    if importlib.util.find_spec("vllm") is not None:
        pytest.skip("vLLM is installed")
    with pytest.raises(ImportError, match="pip install vllm"):
        VLLMGenerator().open(PolicyConfig())
