"""A tokenizer.model alone: transformers 5 makes other tokens of some than SentencePiece, by which they were made."""

import io
import json

import pytest
import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from support.bpe_tokenizers import bpe_tokenizer
from support.tiny_models import tiny_config

from lit_longpo.errors import MissingFileError
from lit_longpo.policy import PolicyConfig
from lit_longpo.policy.tokenizer.stored_rules import TEXTS

_LINES = ["def f(a):", "    return a  # two  spaces", "Hello world, the night train", "        return y"] * 40
_NO_SCORE = -1e9  # of runs of spaces in Llama's and Mistral's files


def stored(folder, settings, *, spaces_last: bool):
    """A vocabulary as Llama's and Mistral's are made."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(_LINES),
        model_writer=written,
        vocab_size=330,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        minloglevel=2,
    )
    model = sentencepiece_model_pb2.ModelProto.FromString(written.getvalue())
    for piece in model.pieces:
        if spaces_last and not piece.piece.strip("▁"):
            piece.score = _NO_SCORE
    (folder / "tokenizer.model").write_bytes(model.SerializeToString())
    named = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", **settings}
    (folder / "tokenizer_config.json").write_text(json.dumps(named))
    tiny_config("Mistral" if "tokenizer_class" not in settings else "Llama", vocab_size=512).save_pretrained(folder)
    return PolicyConfig(source=str(folder))


LLAMA = {"tokenizer_class": "LlamaTokenizer"}


@pytest.mark.parametrize("settings", [LLAMA, LLAMA | {"add_prefix_space": True}])
def test_sentencepieces_own_tokens_are_taken(settings, tmp_path, caplog):
    """But where a text begins with a space: there transformers 4 had SentencePiece's, and today's has one less."""
    tokenizer = stored(tmp_path, settings, spaces_last=False).tokenizer()
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    for text in TEXTS:
        assert tokenizer.encode(text, add_special_tokens=False) == pieces.encode(text)
    assert tokenizer.encode(" Hello", add_special_tokens=False) != pieces.encode(" Hello")
    assert caplog.text.count("begins with a space, transformers makes other tokens than SentencePiece") == 1


@pytest.mark.parametrize(("settings", "spaces_last"), [(LLAMA, True), ({}, False)])
def test_other_tokens_are_refused(settings, spaces_last, tmp_path):
    """Of indented lines; of every text's beginning. Such models were trained on other tokens without a word."""
    policy = stored(tmp_path, settings, spaces_last=spaces_last)
    with pytest.raises(MissingFileError, match=r"found tokenizer\.model alone.*other tokens than SentencePiece"):
        policy.tokenizer()


def test_a_tokenizer_json_beside_it_decides(tmp_path):
    policy = stored(tmp_path, LLAMA, spaces_last=True)
    whole = bpe_tokenizer("sentencepiece")
    whole.save_pretrained(tmp_path)
    assert policy.tokenizer().get_vocab() == whole.get_vocab()
