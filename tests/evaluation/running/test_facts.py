"""What a report says about the model that answered."""

from support.byte_tokenizer import byte_tokenizer
from support.tiny_models import tiny_model
from transformers import GPT2Config, GPT2LMHeadModel

from evaluation.running import facts
from evaluation.running.facts import ROTARY, model_facts
from lit_longpo.policy import PromptFormat, PromptTemplate, RoPE

FORM = PromptFormat(byte_tokenizer(), PromptTemplate())


def test_rotary_settings_are_those_that_are_used():
    """They may be a configuration's, which the command does not show, and `--compare` has to name them."""
    model = tiny_model("Llama", vocab_size=260, max_position_embeddings=512)
    RoPE(type="yarn", factor=4.0, theta=1e6).apply(model.config)
    expected = "factor 4.0, original_max_position_embeddings 512, rope_theta 1000000.0, rope_type yarn"
    assert model_facts(model, FORM)[ROTARY] == expected
    lists = [
        {"full_attention": {"rope_type": "longrope", "long_factor": [1.0, number]}, "sliding_attention": {"factor": 2}}
        for number in (2.0, 3.0)
    ]
    said = []
    for settings in lists:
        model.config.rope_parameters = settings
        said.append(model_facts(model, FORM)[ROTARY])
    assert said[0] != said[1]
    assert said[0].startswith("full_attention (long_factor sha256 ")
    assert said[0].endswith(", rope_type longrope), sliding_attention (factor 2)")


def test_models_without_rotary_positions_say_nothing_of_them():
    config = GPT2Config(vocab_size=260, n_embd=32, n_layer=1, n_head=2)
    assert ROTARY not in model_facts(GPT2LMHeadModel(config), FORM)


def test_copied_files_without_history_say_that_their_commit_is_unknown(tmp_path, monkeypatch):
    """As on a machine to which the files were carried: neither a checkout nor installed."""

    def version(name):
        raise facts.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(facts, "_ROOT", tmp_path)
    monkeypatch.setattr(facts.metadata, "version", version)
    assert facts.commit.__wrapped__() == "unknown (neither installed nor a checkout)"
