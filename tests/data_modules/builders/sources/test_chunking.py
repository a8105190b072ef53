"""The union of the chunks is the document, whatever the document."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_modules.builders.sources.chunking import Chunking


def words(text):
    return len(text.split())


ALPHABET = st.sampled_from(
    ["word", " ", "\n", "\n\n", ". ", "# Head\n", "\u3002", "x" * 30, "CHAPTER I.", "\t", "\r\n"]
)
TEXTS = st.lists(ALPHABET, max_size=120).map("".join) | st.text(max_size=200)


@given(TEXTS, st.integers(1, 40), st.booleans())
def test_joined_chunks_are_the_document(text, budget, balance):
    chunks = Chunking(budget, balance).split(text, len)
    assert "".join(chunks) == text
    assert all(0 < len(chunk) <= budget for chunk in chunks)


@given(TEXTS, st.integers(1, 12), st.booleans())
def test_no_chunk_exceeds_its_budget(text, budget, balance):
    chunks = Chunking(budget, balance).split(text, words)
    assert "".join(chunks) == text
    assert all(words(chunk) <= budget for chunk in chunks)


def test_cuts_lie_at_paragraphs_if_these_fit():
    text = "\n\n".join(f"paragraph {number} says this." for number in range(12))
    for chunk in Chunking(9).split(text, words):
        assert chunk.startswith("paragraph")
        assert chunk.rstrip().endswith("this.")


def test_tables_and_code_are_cut_between_lines():
    """They were cut at any blank: a row lost its last cells to the next chunk (qmd#955, dify#6421)."""
    for line in ("| the option {0} | of {0} | as text |", "    return value(of={0}) + the_rest(of={0})"):
        text = "\n".join(line.format(number) for number in range(30))
        chunks = Chunking(25).split(text, words)
        assert len(chunks) > 3
        assert all(chunk.endswith("\n") for chunk in chunks[:-1])


def test_sections_that_fit_are_whole_and_share_chunks():
    """Each opened a chunk once the one before was half full: forty short ones gave ten of 412 (memsearch#609)."""
    sections = [f"# Head {number}\n\n" + "word " * 50 + "\n\n" + "word " * 50 + "\n\n" for number in range(40)]
    chunks = Chunking(1000).split("".join(sections), words)
    assert chunks == ["".join(sections[start : start + 8]) for start in range(0, 40, 8)]
    assert Chunking(150).split("".join(sections), words) == sections


@pytest.mark.parametrize("budget", [12, 60])
@pytest.mark.parametrize("below", ["one two three. " * 3, "one two three four\n" * 30], ids=["prose", "table"])
@pytest.mark.parametrize("head", ["Head", "Why? Where. How?"])
def test_a_heading_stays_with_the_text_below_it(head, below, budget):
    """That asks a question it was a sentence of its own, and above a long table a line of its own."""
    text = "".join(f"{'#' * (1 + number % 3)} {head}\n\n{below}\n\n" for number in range(9))
    text = f"# Book\n\n{text}{'four five six.' * 2}\n\n"
    chunks = Chunking(budget).split(text * 3, words)
    assert "".join(chunks) == text * 3
    for chunk in chunks:
        assert not chunk.rstrip().rpartition("\n")[2].startswith("#")


def test_lines_that_only_look_like_headings_are_cut_as_others():
    comments, line = "# one two three\n" * 40, f"# {'one two three. ' * 40}"
    assert all(chunk.endswith("\n") for chunk in Chunking(30).split(comments, words))
    assert all(chunk.rstrip().endswith("three.") for chunk in Chunking(30).split(line, words))


def test_balance_leaves_no_small_remainder():
    text = "\n\n".join(["a b c"] * 11)
    assert [words(chunk) for chunk in Chunking(30, balance=False).split(text, words)] == [30, 3]
    sizes = [words(chunk) for chunk in Chunking(30).split(text, words)]
    assert max(sizes) - min(sizes) <= 3


def test_an_impossible_length_is_refused():
    with pytest.raises(ValueError, match="max_tokens"):
        Chunking(0)


def test_a_book_of_one_line_is_not_counted_anew_with_every_word():
    """Each chunk was counted with every word that joined it: 200 kB took minutes."""
    text, counted = "word " * 5000, []

    def count(part):
        counted.append(len(part))
        return words(part)

    chunks = Chunking(500).split(text, count)
    assert [words(chunk) for chunk in chunks] == [500] * 10
    assert sum(counted) < 20 * len(text)


def test_chunks_keep_their_budget_where_borders_cost_tokens():
    def count(part):
        return words(part) ** 2

    chunks = Chunking(9).split("a b c d e f g h", count)
    assert "".join(chunks) == "a b c d e f g h"
    assert all(count(chunk) <= 9 for chunk in chunks)
