"""Whether a model is where the source says is known before any library looks for it."""

import importlib.util
import json
import os
import shutil
import time

import pytest
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError
from support.bpe_tokenizers import bpe_tokenizer
from support.tiny_models import tiny_config
from transformers import PretrainedConfig
from transformers.integrations.mistral import tokenizer as mistral_tokenizers
from transformers.models.auto import tokenization_auto

from lit_longpo.errors import InputError, MissingFileError, MissingPackageError, UserError
from lit_longpo.policy import PolicyConfig, model_files, sources
from lit_longpo.policy.locations import locate
from lit_longpo.policy.sources import check_depth, check_hub_name


@pytest.fixture(autouse=True)
def _fresh(tmp_path, monkeypatch):
    check_hub_name.cache_clear()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(sources.constants, "HF_HUB_OFFLINE", False)


def hub_says(monkeypatch, error):
    def ask(address, timeout):
        if error is not None:
            raise error

    monkeypatch.setattr(sources, "get_hf_file_metadata", ask)


def of_the_hub(kind):
    error = kind.__new__(kind)
    Exception.__init__(error, "told by the hub")
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError("Name or service not known"), "cannot be reached .Name or service not known"),
        (of_the_hub(RepositoryNotFoundError), "has none of that name .*hf auth login"),
    ],
)
def test_a_name_that_is_nowhere_is_said_at_once(error, expected, monkeypatch, tmp_path):
    hub_says(monkeypatch, error)
    start = time.monotonic()
    with pytest.raises(MissingFileError, match=f"no folder {tmp_path}/owner/model, and the hub {expected}"):
        PolicyConfig(source="owner/model").prompt_format()
    assert time.monotonic() - start < 20  # the hub was tried again for 47


def test_a_file_is_called_one(tmp_path):
    """There was "no folder" of that name, and the hub was asked for it."""
    (tmp_path / "model.bin").write_text("x")
    with pytest.raises(MissingFileError, match=r"got the file .*model\.bin; set `policy.source` to the folder of"):
        PolicyConfig(source=str(tmp_path / "model.bin")).prompt_format()


@pytest.mark.parametrize("error", [None, of_the_hub(EntryNotFoundError)])
def test_a_name_that_the_hub_knows_is_good(error, monkeypatch):
    hub_says(monkeypatch, error)
    check_hub_name("owner/model")


def test_what_was_downloaded_needs_no_hub(monkeypatch, tmp_path):
    hub_says(monkeypatch, OSError("no network"))
    monkeypatch.setattr(sources, "stored_file", lambda name, file, revision: tmp_path / file)
    check_hub_name("owner/model")


def test_offline_nobody_is_asked(monkeypatch):
    hub_says(monkeypatch, AssertionError("asked"))
    monkeypatch.setattr(sources.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(MissingFileError, match="HF_HUB_OFFLINE keeps the hub from being asked"):
        check_hub_name("owner/model")


@pytest.mark.parametrize("source", ["models/qwn", "./models/qwn"])
def test_a_misspelt_folder_gets_a_suggestion(source, policy_folder, monkeypatch, tmp_path):
    hub_says(monkeypatch, of_the_hub(RepositoryNotFoundError))
    shutil.copytree(policy_folder, tmp_path / "models" / "qwen")
    with pytest.raises(MissingFileError, match=r"did you mean models/qwen\?"):
        PolicyConfig(source=source).prompt_format()


@pytest.mark.parametrize(
    ("file", "hint"),
    [
        ("notes.txt", "set `policy.source` to the folder that holds them"),
        ("weights.gguf", "type --policy.gguf_file weights.gguf"),
        ("last.ckpt", "checkpoints become a model by: python -m lit_longpo export"),
        ("inner/config.json", "type --policy.source .*/inner"),
        ("snapshots/0f3a/config.json", "type --policy.source .*/snapshots/0f3a"),
    ],
)
def test_a_folder_without_a_model_says_what_may_have_been_meant(file, hint, tmp_path):
    path = tmp_path / "folder" / file
    path.parent.mkdir(parents=True)
    path.touch()
    with pytest.raises(MissingFileError, match=rf"config\.json .*folder, found none; {hint}"):
        PolicyConfig(source=str(tmp_path / "folder")).prompt_format()


@pytest.mark.parametrize("file", ["config.json", "adapter_config.json"])
def test_the_newest_checkpoint_of_a_trainer_is_named(file, tmp_path):
    """Folders of TRL's trainers: by name, checkpoint-500 comes before checkpoint-60, and 100 before 200."""
    for age, steps in enumerate((60, 500, 1000)):
        path = tmp_path / f"checkpoint-{steps}" / file
        path.parent.mkdir()
        path.touch()
        os.utime(path, (age, age))
    with pytest.raises(UserError, match=r"--policy\.source .*/checkpoint-1000"):
        PolicyConfig(source=str(tmp_path)).prompt_format()
    os.utime(tmp_path / "checkpoint-500" / file, (9, 9))
    with pytest.raises(UserError, match=r"--policy\.source .*/checkpoint-500"):
        PolicyConfig(source=str(tmp_path)).prompt_format()


def test_a_folder_without_the_gguf_that_a_fragment_names_says_how_to_go_without(policy_folder):
    policy = PolicyConfig(source=str(policy_folder), gguf_file="SmolLM2-135M-Instruct.Q4_1.gguf")
    with pytest.raises(MissingFileError, match=r"type --policy\.gguf_file null, as its weights are no gguf"):
        policy.prompt_format()


def test_another_gguf_beside_a_configuration_is_named(tmp_path):
    """As folders of the hub have them: config.json, and weights in several precisions."""
    for name in ("config.json", "model.Q8_0.gguf"):
        (tmp_path / name).touch()
    policy = PolicyConfig(source=str(tmp_path), gguf_file="model.Q4_1.gguf")
    with pytest.raises(MissingFileError, match=r"found none; type --policy\.gguf_file model\.Q8_0\.gguf"):
        policy.prompt_format()


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


@pytest.mark.parametrize(
    ("file", "change", "told"),
    [
        ("config.json", lambda text: "null", "TypeError"),
        ("config.json", lambda text: "[" * 3000, "RecursionError"),
        (
            "config.json",
            lambda text: text.replace('"default"', '"defeult"'),
            r"KeyError: 'defeult' \(not found by .*rope_type",
        ),
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


@pytest.mark.parametrize("layers", [10**40, 1e40])
def test_layers_without_end_are_refused_before_any_is_made(layers, policy_folder, tmp_path):
    shutil.copytree(policy_folder, tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "num_hidden_layers": layers}))
    with pytest.raises(UserError, match=r"num_hidden_layers|transformers can read") as caught:
        PolicyConfig(source=str(tmp_path / "model")).load()
    assert len(str(caught.value).splitlines()) == 1


def test_numbers_of_parts_are_looked_for_wherever_they_stand():
    counts = {"text_config": {"moe_num_experts": 10**9}, "vocab_size_per_layer_input": 10**9, "num_layers": True}
    with pytest.raises(InputError, match=r"expected moe_num_experts of at most 20,000 .* at here, got 1e\+09; correct"):
        check_depth(PretrainedConfig(**counts), "here")
    check_depth(PretrainedConfig(vocab_size_per_layer_input=10**9, n_routed_experts=16384), "here")


def test_a_root_folder_of_runs_names_the_newest(tmp_path):
    for age, name in enumerate(("long/version_1", "lightning_logs/version_0", "long/version_0")):
        config = tmp_path / name / "model" / "config.json"
        config.parent.mkdir(parents=True)
        config.touch()
        os.utime(config, (1000 - age, 1000 - age))
    for root in (tmp_path, tmp_path / "long"):
        with pytest.raises(MissingFileError, match=f"type --policy.source {tmp_path}/long/version_1/model, the newest"):
            locate(str(root))


@pytest.mark.parametrize("model", ["Qwen3", "GPT2", "Cohere"])
@pytest.mark.parametrize("settings", [{"eos_token": "</s>"}, None])
def test_a_tokenizer_without_words_is_refused(model, settings, tmp_path):
    """Who forgets to save the tokenizer gets one from transformers 5, by which every text is empty."""
    tiny_config(model).save_pretrained(tmp_path)
    if settings is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(MissingFileError, match=r"expected a tokenizer with a vocabulary at .* no tokenizer.json"):
        PolicyConfig(source=str(tmp_path)).prompt_format()


@pytest.mark.parametrize(
    ("raw", "package"), [(b"\n\x0e\n\x05<unk>\x15", "sentencepiece protobuf"), (b"IQ== 0\nIg== 1\n", "tiktoken")]
)
def test_a_vocabulary_in_tokenizer_model_alone_asks_for_its_package(raw, package, policy_folder, monkeypatch, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(policy_folder, folder)
    (folder / "tokenizer.model").write_bytes(raw)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert PolicyConfig(source=str(folder)).tokenizer() is not None
    (folder / "tokenizer.json").unlink()
    with pytest.raises(MissingPackageError, match=f"pip install {package}$"):
        PolicyConfig(source=str(folder)).tokenizer()


@pytest.mark.parametrize("options", [{}, {"gguf_file": "a.gguf"}])
def test_a_tokenizer_model_that_sentencepiece_does_not_read_asks_for_none(options, monkeypatch, tmp_path):
    """Lines of tiktoken (Llama 3's own files, GLM-4's), and what lies beside a gguf file, need no sentencepiece."""
    lines = b"" if options else b"IQ== 0\n"
    (tmp_path / "tokenizer.model").write_bytes(lines or b"\n\x0e")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "sentencepiece" else object())
    read = bpe_tokenizer("bytes")
    monkeypatch.setattr(model_files.AutoTokenizer, "from_pretrained", lambda where, **_: read)
    assert model_files._read_tokenizer(str(tmp_path), **options) is read


def test_tekken_json_beside_tokenizer_json_changes_nothing(policy_folder, monkeypatch, tmp_path):
    """With mistral-common installed, transformers took its class for either, which ended in a TypeError here."""
    folder = tmp_path / "model"
    shutil.copytree(policy_folder, folder)
    tiny_config("Mistral").save_pretrained(folder)
    (folder / "tekken.json").write_text("{}")
    monkeypatch.setattr(mistral_tokenizers, "is_mistral_common_available", lambda: True)
    monkeypatch.setitem(tokenization_auto.TOKENIZER_MAPPING_NAMES, "mistral", "MistralCommonBackend")
    expected = PolicyConfig(source=str(policy_folder)).tokenizer()
    assert PolicyConfig(source=str(folder)).tokenizer().get_vocab() == expected.get_vocab()


def test_tekken_json_alone_says_what_to_make_of_it(policy_folder, tmp_path):
    """transformers makes a tokenizer of it that knows no end and no chat template."""
    folder = tmp_path / "model"
    shutil.copytree(policy_folder, folder)
    (folder / "tekken.json").write_text("{}")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(MissingFileError, match=r"tekken\.json alone.*convert_tekken_tokenizer\("):
        PolicyConfig(source=str(folder)).tokenizer()
