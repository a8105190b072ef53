"""Model and paper configurations: each serves a tiny random twin of its architecture, chat format included."""

import json
from pathlib import Path

import pytest
from support.chat_formats import FORMATS, chat_bpe_tokenizer
from support.command_line import CONFIGS, build, parse
from support.seams import compare_seams
from support.tiny_models import tiny_model

from data_modules.records import PreferencePair
from data_modules.rows.encoding import PairEncoder
from data_modules.rows.truncation import LengthPolicy, SplitLengths
from lit_longpo.engine import check_model, pack, score
from lit_longpo.objectives import SoLoPO
from lit_longpo.policy import PolicyConfig
from lit_longpo.policy.weights.vocabulary import check_vocabulary

# model file -> (architecture class of the twin, chat format)
TWINS = {
    "smollm2_135m": ("Llama", "chatml"),
    "qwen2.5_0.5b": ("Qwen2", "chatml"),
    "qwen2.5_7b": ("Qwen2", "chatml"),
    "chat": ("Qwen2", "chatml"),
    "qwen3_8b": ("Qwen3", "qwen3"),
    "mistral_7b_v0.2": ("Mistral", "mistral"),
    "llama3_8b": ("Llama", "llama3"),
}
PAPERS = sorted((CONFIGS / "paper").glob("*.yaml"))
PAIR = PreferencePair("p", "word1 word2", "word3", "word3 word4 word5", "word6 word7", ("word8",))


def test_every_model_has_a_twin():
    assert {path.stem for path in (CONFIGS / "model").glob("*.yaml")} == {*TWINS, "tiny"}


@pytest.fixture(scope="module", params=TWINS)
def twin(request, tmp_path_factory):
    """The policy that a model file describes, its weights and tokenizer replaced by tiny ones."""
    folder = tmp_path_factory.mktemp("twin")
    name, chat = TWINS[request.param]
    overrides = {"sliding_window": None} if name == "Mistral" else {}
    tokenizer = chat_bpe_tokenizer(chat, eos="<|endoftext|>")  # a base model's, so that the turn's end is found
    tiny_model(name, vocab_size=len(tokenizer), **overrides).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    here = ("--policy.source", folder, "--policy.gguf_file", "null", "--policy.dtype", "float32")
    made = build("--config", CONFIGS / "solopo.yaml", "--policy", CONFIGS / "model" / f"{request.param}.yaml", *here)
    assert isinstance(made.model.policy, PolicyConfig)
    return made.model.policy, FORMATS[chat]


def test_the_twin_trains_in_packed_rows(twin):
    policy, _ = twin
    model, form = policy.load(), policy.prompt_format()
    check_vocabulary(model, form.tokenizer)
    assert check_model(model) < 1e-4
    encoded = PairEncoder(form, SoLoPO().views, LengthPolicy()).encode(PAIR, SplitLengths())
    score(model, pack(encoded.policy)).sums.sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_apart_is_as_good_as_jointly(twin):
    """Prompt and answer tokenised apart are the tokens of the joint chat text, and both end the turn."""
    policy, chat = twin
    form = policy.prompt_format()
    report = compare_seams(form, [PAIR], SoLoPO().views)
    assert (report.checked, report.differing) == (1, 0)
    assert form.tokenizer.convert_ids_to_tokens(form.end_id) == chat.end_of_turn
    prompt = form.encode_prompt("word3 word4", "word1")
    assert set(form.tokenizer.convert_ids_to_tokens(prompt.head + prompt.tail)) & set(chat.marks)
    assert "word3 word4" in form.tokenizer.decode(prompt.ids)
    assert form.encode_response("word6")[-1] == form.end_id


@pytest.mark.parametrize("paper", PAPERS, ids=lambda path: path.stem)
def test_paper_configurations_parse(paper):
    config = parse("--config", paper)
    assert config.trainer.default_root_dir == f"runs/{paper.stem}"
    assert config.policy.dtype == "bfloat16"


SHRUNK = [
    *("--policy.dtype", "float32", "--policy.template.chat", "false", "--policy.rope.max_length", "4096"),
    *("--trainer.strategy", "auto", "--trainer.precision", "32-true"),
    *("--trainer.accelerator", "cpu", "--trainer.devices", "1"),
    *("--trainer.max_steps", "2", "--trainer.accumulate_grad_batches", "1"),
    *("--data", CONFIGS / "data" / "synthetic_turns.yaml", "--data.init_args.num_train", "8"),
    *("--data.init_args.num_val", "2", "--data.init_args.max_examples", "2"),
]


@pytest.mark.filterwarnings("ignore")
def test_longpo_rounds_chain_through_exported_models(tmp_path, monkeypatch):
    """128K -> 256K -> 512K on the embedded model: each round starts from the folder that an earlier one wrote."""
    monkeypatch.chdir(tmp_path)
    sources = ["embedded", "runs/longpo_mistral7b_128k/model", "runs/longpo_mistral7b_128k/model"]
    for length, source in zip(("128k", "256k", "512k"), sources, strict=True):
        recipe = CONFIGS / "paper" / f"longpo_mistral7b_{length}.yaml"
        first = ["--policy.source", source] if source == "embedded" else []
        cli = build("--config", recipe, *SHRUNK, *first)
        assert cli.model.policy.source == source
        cli.trainer.fit(cli.model, cli.datamodule)
        exported = json.loads(Path(f"runs/longpo_mistral7b_{length}/model/config.json").read_text())
        assert exported["rope_parameters"]["rope_theta"] == 1e7
        assert cli.trainer.global_step == 2
