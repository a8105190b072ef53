"""Who may read a new file may read our files of tensors (safetensors 782, sentence-transformers 4010)."""

import os

import pytest
from support.preference_data import RandomPairs
from support.tiny_models import tiny_model
from support.word_tokenizer import word_tokenizer

from lit_longpo.batch import View, Views
from lit_longpo.export import save_policy
from lit_longpo.policy import LoRA, PolicyConfig, PromptFormat, PromptTemplate
from lit_longpo.policy.reference.tables import ValueTable
from lit_longpo.saved_rows import save_rows


@pytest.fixture(params=[0o022, 0o027, 0o002], ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def modes(folder):
    return {path.name: path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("adapters", [None, LoRA(r=2)], ids=["whole", "adapters"])
def test_models(adapters, umask, tmp_path):
    tiny_model().save_pretrained(tmp_path / "source")
    model = PolicyConfig(str(tmp_path / "source"), lora=adapters).load()
    save_policy(model, PromptFormat(word_tokenizer(), PromptTemplate()), tmp_path / "saved", "card")
    found = modes(tmp_path / "saved")
    assert any(name.endswith(".safetensors") for name in found)
    assert set(found.values()) == {0o666 & ~umask}


def test_reference_values_and_rows(umask, tmp_path):
    ValueTable.of({"0" * 32: -1.0}).save(tmp_path / "a")
    save_rows(tmp_path / "rows.safetensors", list(RandomPairs(Views((View("long", "chosen"),))).train_dataloader()))
    assert modes(tmp_path) == dict.fromkeys(("a", "rows.safetensors"), 0o666 & ~umask)
