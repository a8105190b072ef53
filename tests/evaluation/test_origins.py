"""What a checkpoint, a run, an exported folder and a foreign one say about prompt and base."""

import json
import shutil
from dataclasses import asdict

import pytest
import torch
import yaml
from support.small_fit import fit
from support.tiny_models import tiny_model
from support.word_tokenizer import word_tokenizer

from evaluation.asking.questions import DocumentQuestions, PromptRules
from evaluation.asking.sides import Prepared, Side
from evaluation.command import parse_evaluation
from evaluation.origins import origin_of
from evaluation.own_settings import own_settings
from evaluation.running.batching import Batching
from lit_longpo.export.card import model_card
from lit_longpo.policy import LoRA, PolicyConfig, PromptTemplate, Quantization

USER = "Read: {context}\nAsk: {question}\n---\n"


@pytest.fixture(scope="module")
def run(policy_folder, tmp_path_factory):
    """A run's folder: config.yaml, checkpoints and model."""
    folder = tmp_path_factory.mktemp("run") / "version_0"
    policy = PolicyConfig(str(policy_folder), lora=LoRA(r=2), template=PromptTemplate(USER, system=None))
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump({"policy": asdict(policy) | {"trust_remote_code": True}}))
    fit(policy, folder)
    return folder


def test_a_checkpoint_is_put_into_its_runs_policy_and_the_base_is_that_policy_before(run, policy_folder):
    checkpoint = run / "step=2.ckpt"
    found = origin_of(str(checkpoint))
    assert (found.source, found.checkpoint, found.name) == (str(policy_folder), checkpoint, str(checkpoint))
    assert found.settings["lora"]["r"] == 2
    assert found.settings["template"]["user"] == USER
    assert found.base.source == str(policy_folder)
    assert (found.base.settings["lora"], found.base.checkpoint) == (None, None)
    assert found.base.settings["template"]["user"] == USER
    assert not {"trust_remote_code"} & {*found.settings, *found.base.settings}  # code runs only if somebody types it


def test_a_checkpoint_answers_as_the_model_that_the_run_has_left(run, policy_folder):
    """Reported of others: the demo shows the base, because adapters were never put on."""
    asked = DocumentQuestions("word1 word2 word3 " * 20, ("word4",), (("word5", "word6"),))

    def margin(side):
        [reply] = Prepared.of(side, asked, PromptRules(max_new_tokens=2)).replies(
            asked, torch.device("cpu"), Batching()
        )
        return reply.margin

    policy = PolicyConfig(str(policy_folder), lora=LoRA(r=2), template=PromptTemplate(USER))
    checkpoint = margin(Side("trained", "x", policy, run / "step=2.ckpt"))
    model = margin(Side("trained", "x", PolicyConfig(str(run / "model"), template=PromptTemplate(USER))))
    assert checkpoint == pytest.approx(model, abs=1e-4)
    assert abs(checkpoint - margin(Side("base", "x", policy))) > 1e-3


def test_a_runs_folder_means_its_model_and_without_one_its_newest_checkpoint(run, policy_folder, tmp_path):
    found = origin_of(str(run))
    assert (found.source, found.checkpoint) == (str(run / "model"), None)
    assert set(found.settings) == {"template", "dtype", "attention", "quantization"}
    assert found.base.source == str(policy_folder)
    shutil.copy(run / "config.yaml", tmp_path)
    with pytest.raises(FileNotFoundError, match="expected a model or a checkpoint of the run in"):
        origin_of(str(tmp_path))
    shutil.copy(run / "step=2.ckpt", tmp_path)
    assert origin_of(str(tmp_path)).checkpoint == tmp_path / "step=2.ckpt"


def test_an_exported_folder_anywhere_knows_its_prompt_and_adapters_their_base(run, policy_folder, tmp_path):
    folder = shutil.copytree(run / "model", tmp_path / "elsewhere")
    found = origin_of(str(folder))
    assert found.settings["template"]["user"] == USER
    assert found.told_by == str(folder / "README.md")
    assert (found.base.source, found.base.beneath) == (str(policy_folder), str(folder))
    assert found.base.settings == found.settings


def test_adapters_are_read_over_the_precision_that_they_were_trained_over(run, policy_folder, tmp_path):
    """Their base may be stored in another one, and peft's files have fp32 for any (Qwen3#379)."""
    made = tmp_path / "version_0"
    shutil.copytree(run, made)
    config = yaml.safe_load((made / "config.yaml").read_text())
    config["policy"]["dtype"] = "bfloat16"
    (made / "config.yaml").write_text(yaml.safe_dump(config))
    card = made / "model" / "README.md"
    card.write_text(card.read_text().replace("| dtype | float32 |", "| dtype | bfloat16 |"))
    copied = shutil.copytree(made / "model", tmp_path / "elsewhere")
    for source in (made / "model", copied):
        assert origin_of(str(source)).settings["dtype"] == "bfloat16"
        assert own_settings({"source": str(source)})["policy.dtype"] == "bfloat16"
    assert "policy.dtype" not in own_settings({"source": str(copied), "dtype": "float32"})
    assert own_settings({"source": str(policy_folder)})["policy.dtype"] == "float32"


@pytest.mark.parametrize(
    "quantization", ["4bit", {"type": "fp4", "double": False, "compute_dtype": "float16"}], ids=str
)
def test_adapters_are_read_over_the_bits_that_they_were_trained_over(quantization, run, tmp_path):
    """`evaluate` asked them over the whole base, another model than the training's; `ask` did not."""
    made = shutil.copytree(run, tmp_path / "version_0")
    config = yaml.safe_load((made / "config.yaml").read_text())
    config["policy"]["quantization"] = quantization
    (made / "config.yaml").write_text(yaml.safe_dump(config))
    (made / "model" / "README.md").write_text(model_card(config, {}, adapters=True))
    copied = shutil.copytree(made / "model", tmp_path / "elsewhere")
    for source in (made / "model", copied):
        words = ["--config", "configs/eval/needle.yaml", "--model", str(source), "--output", str(tmp_path / "report")]
        assert parse_evaluation(words)[1].policy.quantized == (
            Quantization() if quantization == "4bit" else Quantization(**quantization)
        )
        assert "policy.quantization" not in own_settings({"source": str(source), "quantization": None})


def test_a_whole_model_is_read_in_the_precision_of_its_files(policy_folder, tmp_path):
    """Adapters that had to be merged are written in fp32; the run's bf16 would round them away."""
    shutil.copytree(policy_folder, tmp_path / "model")
    policy = asdict(PolicyConfig(str(policy_folder), dtype="bfloat16", lora=LoRA(r=2)))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"policy": policy}))
    for source in (tmp_path, tmp_path / "model"):
        assert set(origin_of(str(source)).settings) == {"template", "attention"}
    assert own_settings({"source": str(tmp_path / "model")})["policy.dtype"] == "float32"


def test_a_gguf_file_needs_no_other_file_beside_it(tmp_path):
    (tmp_path / "tiny.gguf").touch()
    assert origin_of(str(tmp_path), "tiny.gguf").source == str(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"type --policy.gguf_file tiny\.gguf"):
        origin_of(str(tmp_path))


def test_a_foreign_model_says_nothing(policy_folder, tmp_path):
    (folder := tmp_path / "foreign").mkdir()
    tiny_model("Llama").save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    quantizers = (
        "---\nbase_model: a/b\nprompt_template: '[INST] {prompt} [/INST]\n\n  '\n---\n"  # others' cards have the key
    )
    behind = "---\nbase_model: a/b\n---\nprompt_template: x\n"
    for card in (None, "# My model\nprompt_template: {}\n", "", behind, quantizers):
        if card is not None:
            (folder / "README.md").write_text(card)
        found = origin_of(str(folder))
        assert (found.settings, found.told_by, found.base) == ({}, None, None)


def test_the_embedded_model_is_asked_as_it_was_trained():
    assert origin_of("embedded").settings["template"]["user"] == "{context} Complete: {question} "


def test_a_base_that_is_gone_or_was_drawn_at_random_is_none(run, tmp_path):
    for changed in ({"source": str(tmp_path / "gone")}, {"weights": "random"}):
        config = yaml.safe_load((run / "config.yaml").read_text())
        folder = tmp_path / json.dumps(list(changed))
        shutil.copytree(run / "model", folder / "model")
        (folder / "config.yaml").write_text(yaml.safe_dump({"policy": config["policy"] | changed}))
        assert origin_of(str(folder)).base is None


def test_what_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"expected a whole checkpoint at .*it is not there; set --model"):
        origin_of(str(tmp_path / "last.ckpt"))
    (tmp_path / "cut.ckpt").write_bytes(b"PK")
    with pytest.raises(ValueError, match="was cut off; set --model"):
        origin_of(str(tmp_path / "cut.ckpt"))
    with pytest.raises(FileNotFoundError, match="expected a model folder at"):
        origin_of(str(tmp_path / "nothing"))
