"""Folders of models and checkpoints with one thing wrong: refused in one line, or read as transformers reads them."""

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, get_peft_model
from support.mutations import Refused, changed, damaged, fuzz, outcome
from support.tiny_models import tiny_model
from support.word_tokenizer import word_tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from lit_longpo.checkpoints.reading import read_record, read_weights
from lit_longpo.checkpoints.whole import complete, partial_name, refuse_broken
from lit_longpo.engine import generation_mode
from lit_longpo.policy import PolicyConfig

IDS = torch.tensor([[3, 9, 17, 5, 30, 8]])
few_and_many = pytest.mark.parametrize("examples", [6, pytest.param(1500, marks=pytest.mark.slow)])


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("valid"))


def write_model(folder: Path) -> Path:
    tiny_model("Llama").save_pretrained(folder)
    word_tokenizer(chat_template="{% for m in messages %}{{ m['content'] }}{% endfor %}").save_pretrained(folder)
    return folder


def copy_of(folder: Path, to: Path) -> Path:
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(folder, to)
    return to


@torch.no_grad()
def logits(folder: Path) -> torch.Tensor:
    """Of the policy as it is loaded."""
    model = PolicyConfig(source=str(folder)).load()
    with generation_mode(model):
        return model(IDS).logits


@torch.no_grad()
def plain_logits(folder: Path) -> tuple[torch.Tensor, set[str]]:
    """Transformers' own, and weights that it has not found."""
    model, told = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, dtype=torch.float32)
    return model.eval()(IDS).logits, {*map(str, told["missing_keys"]), *map(str, told["mismatched_keys"])}


@few_and_many
def test_a_models_configuration(examples: int, model_folder: Path, tmp_path: Path) -> None:
    valid = json.loads((model_folder / "config.json").read_text())

    def check(data: st.DataObject) -> None:
        folder = copy_of(model_folder, tmp_path / "model")
        path = folder / "config.json"
        if data.draw(st.integers(0, 3)):
            path.write_text(json.dumps(changed(data.draw, valid)))
        else:
            path.write_bytes(damaged(data.draw, path.read_bytes()))
        found = outcome(lambda: logits(folder))
        if not isinstance(found, Refused):
            assert_transformers_agrees(folder, found)

    fuzz(check, examples)


def assert_transformers_agrees(folder: Path, found: torch.Tensor) -> None:
    expected, missing = plain_logits(folder)
    assert not missing
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4, equal_nan=True)


def with_other_header(draw: Any, raw: bytes) -> bytes:
    """A safetensors file whose header has another value."""
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.dumps(changed(draw, json.loads(raw[8 : 8 + length]))).encode()
    return struct.pack("<Q", len(header)) + header + raw[8 + length :]


@few_and_many
def test_a_models_weights(examples: int, model_folder: Path, tmp_path: Path) -> None:
    """A bit of a weight is another weight to all who read it; headers and lengths are refused."""

    def check(data: st.DataObject) -> None:
        folder = copy_of(model_folder, tmp_path / "model")
        path = folder / "model.safetensors"
        change = data.draw(st.sampled_from([with_other_header, with_other_header, damaged]))
        path.write_bytes(change(data.draw, path.read_bytes()))
        found = outcome(lambda: logits(folder))
        if not isinstance(found, Refused):
            assert_transformers_agrees(folder, found)

    fuzz(check, examples)


@few_and_many
def test_adapters_of_a_model(examples: int, model_folder: Path, tmp_path: Path) -> None:
    """peft reads them beside: other values are another model to both, or refused."""
    adapters = tmp_path / "valid adapters"
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    model = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    model.peft_config["default"].base_model_name_or_path = str(model_folder)
    model.save_pretrained(adapters)

    def check(data: st.DataObject) -> None:
        folder = copy_of(adapters, tmp_path / "adapters")
        path = folder / data.draw(st.sampled_from(["adapter_config.json", "adapter_model.safetensors"]))
        raw = path.read_bytes()
        if not data.draw(st.integers(0, 3)):
            path.write_bytes(damaged(data.draw, raw))
        elif path.suffix == ".json":
            path.write_text(json.dumps(changed(data.draw, json.loads(raw))))
        else:
            path.write_bytes(with_other_header(data.draw, raw))
        found = outcome(lambda: logits(folder))
        if not isinstance(found, Refused):
            with torch.no_grad():
                base = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
                expected = PeftModel.from_pretrained(base, folder).eval()(IDS).logits
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4, equal_nan=True)

    fuzz(check, examples)


@few_and_many
def test_a_tokenizers_files(examples: int, model_folder: Path, tmp_path: Path) -> None:
    names = ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]
    text = "word1 word2 . word3 ?"

    def check(data: st.DataObject) -> None:
        folder = copy_of(model_folder, tmp_path / "model")
        path = folder / data.draw(st.sampled_from(names))
        raw = path.read_bytes()
        if path.suffix == ".json" and data.draw(st.integers(0, 3)):
            path.write_text(json.dumps(changed(data.draw, json.loads(raw))))
        else:
            path.write_bytes(damaged(data.draw, raw))

        def read() -> list[int]:
            made = PolicyConfig(source=str(folder)).prompt_format()
            return list(made.encode(text))

        found = outcome(read)
        if not isinstance(found, Refused):
            plain = AutoTokenizer.from_pretrained(folder)
            control = {token.content for token in plain.added_tokens_decoder.values() if token.special}
            written = [token for token in {*plain.all_special_tokens, *control} if token in text]  # they stay text
            if not any(token.isalnum() for token in written):  # one that is a part of words cuts them into pieces
                assert found == plain.encode(text, add_special_tokens=False, split_special_tokens=bool(written))

    fuzz(check, examples)


@few_and_many
def test_a_damaged_checkpoint_is_never_other_weights(examples: int, tmp_path: Path) -> None:
    weights = {f"model.layer{number}": torch.randn(40, 8) for number in range(3)}
    contents = {"state_dict": weights, "run": {"settings": {"policy.source": "x"}}, "epoch": 1, "global_step": 7}
    for name in ("file.ckpt", "folder.ckpt"):
        partial = partial_name(tmp_path / name)
        if name == "folder.ckpt":
            partial.mkdir()
            torch.save(contents, partial / "meta.pt")
            (partial / "shard_0.distcp").write_bytes(torch.randn(300).numpy().tobytes())
        else:
            torch.save(contents, partial)
        complete(partial, tmp_path / name, "one", 1)
    originals = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def check(data: st.DataObject) -> None:
        for path, raw in originals.items():
            path.write_bytes(raw)
        path = data.draw(st.sampled_from(sorted(originals)))
        raw = damaged(data.draw, originals[path])
        path.write_bytes(raw)
        whole = tmp_path / ("file.ckpt" if path.name == "file.ckpt" else "folder.ckpt")

        def read() -> Any:
            refuse_broken(whole, "--ckpt_path")
            return read_weights(whole) if whole.is_file() else read_record(tmp_path / "file.ckpt")

        found = outcome(read)
        if isinstance(found, Refused):
            assert str(whole) in found.message
        elif whole.is_file():
            assert found.keys() == {name.removeprefix("model.") for name in weights}
            assert all(torch.equal(found[name.removeprefix("model.")], tensor) for name, tensor in weights.items())
        else:
            assert path.name == "checkpoint.json" or raw == originals[path]

    fuzz(check, examples)
