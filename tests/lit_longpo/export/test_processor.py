"""A vision model is saved with what shows it pictures (NeMo Automodel 3256)."""

import json
import shutil

import pytest
from support.tiny_models import tiny_vision_model
from support.word_tokenizer import word_tokenizer

from lit_longpo.export import save_policy
from lit_longpo.policy import LoRA, PolicyConfig, PromptFormat, PromptTemplate
from lit_longpo.policy.adapters.merging import merge_adapters

SEES = {"image_processor_type": "Gemma3ImageProcessor", "size": {"height": 28, "width": 28}}


@pytest.fixture
def source(tmp_path):
    tiny_vision_model().save_pretrained(tmp_path / "m")
    word_tokenizer().save_pretrained(tmp_path / "m")
    (tmp_path / "m/preprocessor_config.json").write_text(json.dumps(SEES))
    return tmp_path / "m"


def saved(model, folder):
    folder.mkdir()
    save_policy(model, PromptFormat(word_tokenizer(), PromptTemplate()), folder, "")
    return folder


@pytest.mark.parametrize("way", ["whole", "merged", "adapters"])
def test_the_processor_is_saved_beside_a_whole_model(way, source, tmp_path):
    model = PolicyConfig(str(source), lora=None if way == "whole" else LoRA(r=2)).load()
    folder = saved(merge_adapters(model) if way == "merged" else model, tmp_path / "saved")
    assert (folder / "preprocessor_config.json").is_file() == (way != "adapters")
    if way == "whole":
        assert json.loads((folder / "preprocessor_config.json").read_text()) == SEES


def test_a_model_is_saved_when_its_source_has_gone(source, tmp_path, caplog):
    model = PolicyConfig(str(source)).load()
    shutil.rmtree(source)
    assert (saved(model, tmp_path / "saved") / "model.safetensors").is_file()
    assert "has gone since it was read, and with it its processor files" in caplog.text
