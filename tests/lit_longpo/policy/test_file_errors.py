"""What libraries say of files that they cannot read is one line."""

import re
import shutil

import pytest

from lit_longpo.errors import MissingFileError
from lit_longpo.policy import PolicyConfig


@pytest.mark.parametrize(
    ("missing", "what"),
    [("tokenizer*", "a tokenizer"), ("config.json", "a language model's configuration"), ("*.safetensors", "weights")],
)
def test_files_that_transformers_cannot_read_are_one_line(missing, what, policy_folder, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(policy_folder, folder)
    for path in folder.glob(missing):
        path.write_text("{}") if path.name == "config.json" else path.unlink()
    policy = PolicyConfig(source=str(folder))
    with pytest.raises(MissingFileError, match=f"expected {what} at {folder} that transformers can read") as caught:
        policy.prompt_format() if what == "a tokenizer" else policy.load()
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("what", ["prompt_format", "load"])
def test_a_configuration_that_is_refused_is_named_whoever_reads_it(what, policy_folder, tmp_path):
    """Tokenizers are read by it, too, and the line said that the tokenizer was wrong."""
    folder = tmp_path / "model"
    shutil.copytree(policy_folder, folder)
    path = folder / "config.json"
    path.write_text(re.sub(r'"num_attention_heads": \d+', '"num_attention_heads": "many"', path.read_text()))
    with pytest.raises(MissingFileError, match=f"expected a config.json at {folder} that .*'num_attention_heads'"):
        getattr(PolicyConfig(source=str(folder)), what)()


@pytest.mark.parametrize(
    ("file", "change", "told"),
    [
        ("config.json", lambda text: "null", "TypeError"),
        ("config.json", lambda text: "[" * 3000, "RecursionError"),
        ("config.json", lambda text: text.replace('"silu"', '"sliu"'), r"KeyError: 'sliu' \(not found by"),
        ("config.json", lambda text: text.replace('"float32"', '"float3"'), "AttributeError"),
        ("config.json", lambda text: text.replace('"num_attention_heads": 4', '"num_attention_heads": -1'), "RuntimeE"),
        ("tokenizer.json", lambda text: text.replace('"<unk>": 3', '"<ukn>": 3'), "UNK"),
        ("tokenizer_config.json", lambda text: f'{text[: text.rindex("}")]}, "model_max_length": {{}}}}', "TypeError"),
    ],
)
def test_values_that_transformers_does_not_expect_are_one_line(file, change, told, policy_folder, tmp_path):
    """It looks at few of them before it uses them."""
    folder = tmp_path / "model"
    shutil.copytree(policy_folder, folder)
    before = (folder / file).read_text()
    (folder / file).write_text(change(before))
    assert (folder / file).read_text() != before
    policy = PolicyConfig(source=str(folder))
    with pytest.raises(MissingFileError, match=f"at {folder} that transformers can read, got: .*{told}") as caught:
        policy.load() if file == "config.json" else policy.prompt_format()
    assert len(str(caught.value).splitlines()) == 1
