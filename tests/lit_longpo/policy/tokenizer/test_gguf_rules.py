"""Texts have the tokens that the makers of a gguf file's vocabulary give them."""

import pytest
import sentencepiece
from support.gguf_files import write_gguf
from support.tiny_models import tiny_model
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import BPE

from lit_longpo.errors import InputError
from lit_longpo.policy import PromptFormat, PromptTemplate
from lit_longpo.policy.model_files import ModelFiles

pytest.importorskip("gguf")
WORDS = ["<|end|>", "h", "i", "a", "1", "2", "Ġ", "Ċ", "ĊĊ", "ĠĠ", "hi"]  # no merge makes the last
MERGES = ["Ċ Ċ", "Ġ Ġ"]
TEXTS = ["a\n\n12", "a  1", "a 1", "a\n\nh", "2\n"]
SPACED = ["hi there", " hi", "  hi there", "there  hi\n hi", " "]


def byte_level(rule, flag=None):
    def add(writer, _):
        writer.add_tokenizer_model("gpt2")
        if rule:
            writer.add_tokenizer_pre(rule)
        writer.add_token_list(WORDS)
        writer.add_token_types([3] + [1] * (len(WORDS) - 1))
        writer.add_token_merges(MERGES)
        writer.add_eos_token_id(0)
        writer.add_bos_token_id(0)
        if flag is not None:
            writer.add_add_bos_token(flag)

    return add


def pieces(model, settings):
    """A vocabulary of SentencePiece as llama.cpp's converter writes it."""
    kinds = [(2, model.is_unknown), (3, model.is_control), (6, model.is_byte)]

    def add(writer, _):
        numbers = range(model.get_piece_size())
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_token_list([model.id_to_piece(number) for number in numbers])
        writer.add_token_scores([model.get_score(number) for number in numbers])
        writer.add_token_types([next((kind for kind, is_one in kinds if is_one(number)), 1) for number in numbers])
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_unk_token_id(0)
        for name, value in settings.items():
            writer.add_bool(name, value)

    return add


def read(folder, vocabulary, size):
    write_gguf(tiny_model("Qwen2", vocab_size=size), folder / "tiny.gguf", vocabulary=vocabulary)
    return ModelFiles(str(folder), "tiny.gguf").tokenizer()


def ids(tokenizer, text):
    return tokenizer.encode(text, add_special_tokens=False)


def trained(tmp_path, **options):
    """A small vocabulary of pairs, as Llama's was made."""
    texts = [*SPACED, "a b c d e hi there hither thither there [INST] hi [/INST]"] * 20
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_prefix=str(tmp_path / "pieces"),
        model_type="bpe",
        vocab_size=300,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        hard_vocab_limit=False,
        minloglevel=2,
        **options,
    )
    return sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "pieces.model"))


@pytest.mark.parametrize(("rule", "alone"), [("smollm", True), ("starcoder", True), ("gpt-2", False), ("olmo", False)])
def test_digits_are_words_where_the_file_says_so(rule, alone, tmp_path):
    """As tokenizer.json of SmolLM2 and StarCoder 2 has it: two line breaks before a number are one token there."""
    made = Tokenizer(BPE(vocab={word: n for n, word in enumerate(WORDS)}, merges=[tuple(m.split()) for m in MERGES]))
    digits = [pre_tokenizers.Digits(individual_digits=True)] if alone else []
    made.pre_tokenizer = pre_tokenizers.Sequence([*digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer = read(tmp_path, byte_level(rule), len(WORDS))
    assert [ids(tokenizer, text) for text in TEXTS] == [made.encode(text).ids for text in TEXTS]
    assert (ids(tokenizer, "a\n\n12")[1] == WORDS.index("ĊĊ")) is alone


def test_words_that_are_tokens_are_not_cut(tmp_path):
    """Llama 3's tokenizer.json says `ignore_merges: true`; llama.cpp's own list has "Việt" for it."""
    assert ids(read(tmp_path, byte_level("llama-bpe"), len(WORDS)), "hi") == [WORDS.index("hi")]


@pytest.mark.parametrize(
    ("rule", "flag", "begun"),
    [("llama-bpe", None, True), ("tekken", None, True), ("llama-bpe", False, False), ("qwen2", None, False)],
)
def test_texts_begin_as_those_of_their_makers(rule, flag, begun, tmp_path):
    """Llama 3's and Mistral's tokenizer.json put a token in front; files of 2024 have no flag for it."""
    tokenizer = read(tmp_path, byte_level(rule, flag), len(WORDS))
    assert (tokenizer.encode("a")[0] == 0) is begun
    assert PromptFormat(tokenizer, PromptTemplate()).added_in_front == ((0,) if begun else ())


@pytest.mark.parametrize("rule", ["falcon", "deepseek-llm", "default", None])
def test_a_rule_that_nobody_knows_is_refused(rule, tmp_path):
    """ollama#17698, llama.cpp#7476: old files, and other converters', name none or the default one."""
    with pytest.raises(InputError, match=rf"expected a rule that cuts texts .* in tiny.gguf, got {rule or 'none'}: "):
        read(tmp_path, byte_level(rule), len(WORDS))


@pytest.mark.parametrize("begins", [None, True, False])
def test_spaces_are_sentencepieces(begins, tmp_path):
    """Also behind control tokens, where chat templates begin each turn."""
    model = trained(tmp_path, add_dummy_prefix=begins is not False)
    settings = {} if begins is None else {"tokenizer.ggml.add_space_prefix": begins}
    tokenizer = read(tmp_path, pieces(model, settings), model.get_piece_size())
    assert [ids(tokenizer, text) for text in SPACED] == [model.encode(text) for text in SPACED]
    assert ids(tokenizer, "<s>hi</s> there") == [1, *model.encode("hi"), 2, *model.encode(" there")]


def test_a_space_stands_before_the_first_text_alone_where_turns_have_control_tokens(tmp_path):
    """Mistral's third vocabulary: `prepend_scheme: first` in its tokenizer.json."""
    model = trained(tmp_path, control_symbols=["[INST]", "[/INST]"])
    tokenizer = read(tmp_path, pieces(model, {}), model.get_piece_size())
    assert ids(tokenizer, "[INST] hi") == [model.piece_to_id("[INST]"), *model.encode("hi")]
