"""gguf files, beside a folder or inside an installed package."""

import pytest
import torch
from support.gguf_files import write_gguf
from support.groups import random_groups
from support.tiny_models import tiny_model

from lit_longpo.engine import check_model, pack, score
from lit_longpo.policy import PolicyConfig, RoPE

pytest.importorskip("gguf")
ROW = pack(random_groups([(20, [3, 4])]))


@pytest.fixture
def model():
    return tiny_model("Qwen2", vocab_size=97).eval()


def test_weights_and_tokenizer_come_from_the_file(tmp_path, model):
    write_gguf(model, tmp_path / "tiny.gguf")
    policy = PolicyConfig(source=str(tmp_path), gguf_file="tiny.gguf", dtype="float32")
    loaded = policy.load()
    check_model(loaded)
    torch.testing.assert_close(score(loaded.eval(), ROW).sums, score(model, ROW).sums)
    form = policy.prompt_format()
    assert form.decode(form.encode("hello")) == "hello"
    assert form.tokenizer.convert_ids_to_tokens(form.end_id) == "<|im_end|>"


def test_rotary_settings_of_a_file_can_be_changed(tmp_path, model):
    write_gguf(model, tmp_path / "tiny.gguf")
    plain = PolicyConfig(source=str(tmp_path), gguf_file="tiny.gguf", dtype="float32")
    changed = PolicyConfig(source=str(tmp_path), gguf_file="tiny.gguf", dtype="float32", rope=RoPE(theta=1e6))
    assert changed.load().config.rope_parameters["rope_theta"] == 1e6
    assert not torch.allclose(score(changed.load(), ROW).sums, score(plain.load(), ROW).sums)


def test_a_package_may_hold_it(tmp_path, model, monkeypatch):
    (tmp_path / "tiny_weights").mkdir()
    (tmp_path / "tiny_weights" / "__init__.py").write_text("raise RuntimeError('the package must not be imported')\n")
    write_gguf(model, tmp_path / "tiny_weights" / "tiny.gguf")
    monkeypatch.syspath_prepend(tmp_path)
    policy = PolicyConfig(source="package:tiny_weights", gguf_file="tiny.gguf", dtype="float32")
    torch.testing.assert_close(score(policy.load().eval(), ROW).sums, score(model, ROW).sums)


def test_a_package_that_is_not_installed_is_named():
    with pytest.raises(FileNotFoundError, match="no_such_package"):
        PolicyConfig(source="package:no_such_package", gguf_file="tiny.gguf").load()
