"""A model with eyes is saved with what shows it pictures (NeMo Automodel 3256)."""

import json

import pytest
from support.tiny_models import SHAPE
from support.word_tokenizer import word_tokenizer
from transformers import Gemma3Config, Gemma3ForConditionalGeneration

from lit_longpo.export import save_policy
from lit_longpo.policy import LoRA, PolicyConfig, PromptFormat, PromptTemplate
from lit_longpo.policy.adapters import merge_adapters

EYES = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
SEES = {"image_processor_type": "Gemma3ImageProcessor", "size": {"height": 28, "width": 28}}


@pytest.mark.parametrize("way", ["whole", "merged", "adapters"])
def test_the_processor_is_saved_beside_a_whole_model(way, tmp_path):
    text = {**SHAPE, "head_dim": 8, "sliding_window": 8}
    config = Gemma3Config(text_config=text, vision_config=EYES, mm_tokens_per_image=4)
    Gemma3ForConditionalGeneration(config).save_pretrained(tmp_path / "m")
    word_tokenizer().save_pretrained(tmp_path / "m")
    (tmp_path / "m/preprocessor_config.json").write_text(json.dumps(SEES))
    model = PolicyConfig(str(tmp_path / "m"), lora=None if way == "whole" else LoRA(r=2)).load()
    folder = tmp_path / "saved"
    folder.mkdir()
    saved = merge_adapters(model) if way == "merged" else model
    save_policy(saved, PromptFormat(word_tokenizer(), PromptTemplate()), folder, "")
    assert (folder / "preprocessor_config.json").is_file() == (way != "adapters")
    if way == "whole":
        assert json.loads((folder / "preprocessor_config.json").read_text()) == SEES
