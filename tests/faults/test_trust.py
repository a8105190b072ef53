"""The trust boundary of SECURITY.md: what of other people is read, and that none of it runs.

Each gift would leave a file behind. Checkpoints are in tests/lit_longpo/checkpoints/test_unpickling.py, the option that
allows a model's code in tests/lit_longpo/test_consent.py.
"""

import json
import os
import re

import pytest
import torch
import yaml
from jinja2.exceptions import SecurityError
from peft import LoraConfig
from support import pages
from transformers import LlamaConfig

from lit_longpo.__main__ import main
from lit_longpo.errors import InputError, UserError
from lit_longpo.export.command import export_checkpoint
from lit_longpo.export.run import read_run
from lit_longpo.policy import PolicyConfig
from lit_longpo.policy.locations import locate

TINY = {"vocab_size": 32, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}


@pytest.fixture
def marker(tmp_path):
    path = tmp_path / "ran"
    yield path
    assert not path.exists(), "it ran"


@pytest.fixture
def model_folder(tmp_path):
    folder = tmp_path / "model"
    LlamaConfig(**TINY).save_pretrained(folder)
    return folder


class Bomb:
    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return open, (self.marker, "w")


def add_code(folder, marker):
    """What `trust_remote_code` would import."""
    (folder / "gift.py").write_text(f"open({str(marker)!r}, 'w')\nclass Config: pass\nclass Model: pass\n")
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "gift"}
    config["auto_map"] = {"AutoConfig": "gift.Config", "AutoModelForCausalLM": "gift.Model"}
    (folder / "config.json").write_text(json.dumps(config))


def test_code_of_a_model_is_not_run(model_folder, marker):
    add_code(model_folder, marker)
    with pytest.raises(UserError, match="trust_remote_code"):
        PolicyConfig(source=str(model_folder)).load()


def test_a_runs_configuration_cannot_allow_it(model_folder, marker, tmp_path):
    """`export` finds config.yaml beside a checkpoint, wherever that comes from."""
    add_code(model_folder, marker)
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": {}}, path)
    gift = {"policy": {"source": str(model_folder), "trust_remote_code": True}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(gift))
    assert not read_run(path, None).policy.trust_remote_code
    for config in (None, str(tmp_path / "config.yaml")):
        with pytest.raises(UserError):
            export_checkpoint(str(path), str(tmp_path / "out"), config)
    assert read_run(path, None, trust_remote_code=True).policy.trust_remote_code


GIFTS = {
    "lora": lambda named, called: {"lora": named},
    "options": lambda named, called: {"template": {"options": {"x": [called]}}},
}


ASK = ["ask", "--document", "SECURITY.md", "--question", "What?"]


@pytest.mark.parametrize("words", [["export", "--output", "{0}/out", "--checkpoint"], [*ASK, "--model"]])
@pytest.mark.parametrize("gift", GIFTS)
def test_a_runs_configuration_names_no_class(gift, words, marker, tmp_path, monkeypatch):
    """Beside a checkpoint it is data: what it names is neither imported nor called."""
    (tmp_path / f"{gift}_{words[0]}.py").write_text(f"open({str(marker)!r}, 'w')\nclass Gift: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    called = {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", str(marker)]}}
    policy = {"source": "embedded", **GIFTS[gift](f"{gift}_{words[0]}.Gift", called)}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"policy": policy}))
    torch.save({"state_dict": {}}, tmp_path / "last.ckpt")
    with pytest.raises(SystemExit, match=r"config.yaml: the `policy` section: field"):
        main([*(word.format(tmp_path) for word in words), str(tmp_path / "last.ckpt")])


@pytest.mark.parametrize("words", [ASK, ["evaluate", "--config", "needle", "--output", "nowhere"]])
def test_a_model_card_names_no_class(words, model_folder, marker):
    called = {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", str(marker)]}}
    card = f"---\nprompt_template: {json.dumps({'options': {'x': called}})}\n---\n"
    (model_folder / "README.md").write_text(card)
    with pytest.raises(SystemExit, match=r"README.md: prompt_template: field 'class_path'"):
        main([*words, "--model", str(model_folder)])


@pytest.mark.parametrize("name", ["pytorch_model.bin", "adapter_model.bin"])
def test_weights_are_not_unpickled(name, model_folder, marker, tmp_path):
    folder = model_folder
    if name.startswith("adapter"):
        folder = tmp_path / "adapters"
        LoraConfig(r=1, target_modules=["q_proj"], base_model_name_or_path=locate("embedded")).save_pretrained(folder)
    torch.save({"model.norm.weight": Bomb(marker)}, folder / name)
    with pytest.raises(InputError, match=r"expected tensors in the weights at .*, got a pickle with io.open") as error:
        PolicyConfig(source=str(folder)).load()
    assert "\n" not in str(error.value)


def test_adapters_import_nothing(marker, tmp_path, monkeypatch):
    """peft imports the package that a file of adapters names for Megatron's layers, if the name begins alike."""
    (tmp_path / "megatron_gift.py").write_text(f"open({str(marker)!r}, 'w')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = tmp_path / "adapters"
    LoraConfig(r=1, target_modules=["q_proj"], base_model_name_or_path=locate("embedded")).save_pretrained(folder)
    (folder / "adapter_model.safetensors").write_bytes(b"")
    settings = json.loads((folder / "adapter_config.json").read_text())
    settings |= {"megatron_config": {"a": 1}, "megatron_core": "megatron_gift"}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match=r"got those of Megatron, whose package it names \(megatron_gift\)"):
        PolicyConfig(source=str(folder)).load()


@pytest.mark.parametrize("place", ["--config", "--policy", "beside a checkpoint"])
def test_yaml_makes_no_objects(place, marker, tmp_path):
    text = f"!!python/object/apply:os.system ['touch {marker}']\n"
    if place == "beside a checkpoint":
        (tmp_path / "config.yaml").write_text(f"policy: {text}")
        torch.save({"state_dict": {}}, tmp_path / "last.ckpt")
        words = ["export", "--checkpoint", str(tmp_path / "last.ckpt"), "--output", str(tmp_path / "out")]
    else:
        (tmp_path / "gift.yaml").write_text(f"policy: {text}" if place == "--config" else f"source: {text}")
        words = ["fit", "--config", "dpo", place, str(tmp_path / "gift.yaml")]
    with pytest.raises(SystemExit) as error:
        main(words)
    assert error.value.code not in (0, None)


def test_chat_templates_reach_nothing(marker):
    """Jinja's way to Python's modules; transformers renders in a sandbox."""
    reach = "{{ cycler.__init__.__globals__.os.system('touch MARKER') }}".replace("MARKER", str(marker))
    policy = PolicyConfig()
    tokenizer = policy.tokenizer()
    tokenizer.chat_template = reach
    with pytest.raises(SecurityError):
        tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)


@pytest.mark.parametrize("row", [line for line in pages.text("SECURITY.md").splitlines() if "test_" in line])
def test_every_row_of_the_page_names_its_tests(row):
    named = re.findall(r"(tests/[\w/]+\.py)(?:::(\w+))?", row)
    assert named
    for path, test in named:
        assert os.path.exists(pages.ROOT / path), path
        assert not test or f"def {test}(" in pages.text(path), test
