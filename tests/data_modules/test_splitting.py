"""What is held out: a share of documents, the old choice where every item is a document of its own."""

import random
import textwrap
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_modules.messages import Message
from data_modules.records import Passage, PreferencePair, QARecord
from data_modules.splitting import (
    Chosen,
    compared_keys,
    documents_of,
    first_of,
    held_out_elsewhere,
    hold_out,
    keys_of,
    share_of,
    shared_documents,
)
from lit_longpo.log_once import log_once
from lit_longpo.shared_texts import DocumentKeys


@pytest.fixture(autouse=True)
def _nothing_is_said_yet():
    log_once.cache_clear()


def document_labels(items):
    """For each item the number of the first one of the same document."""
    return DocumentKeys.of(map(keys_of, items)).specific().labels()


@given(st.integers(2, 60), st.floats(0, 0.9), st.integers(0, 3))
def test_held_out_share(count: int, fraction: float, seed: int) -> None:
    expected = max(1, round(fraction * count)) if fraction else 0
    if expected >= count:
        with pytest.raises(ValueError, match=r"lower `data.init_args.val_fraction`"):
            hold_out(range(count), fraction, seed)
        return
    kept, held = map(list, hold_out(range(count), fraction, seed))
    assert sorted(kept + held) == list(range(count))
    assert len(held) == expected
    assert (kept, held) == tuple(map(list, hold_out(range(count), fraction, seed)))
    assert (kept, held) == (sorted(kept), sorted(held))


def records(documents):
    """One pair for each document named."""
    return [PreferencePair(f"p{n}", "q", "short", name, "yes", ("no",)) for n, name in enumerate(documents)]


@given(st.integers(2, 60), st.integers(0, 3), st.sampled_from([0.05, 0.2, 0.5]))
def test_records_that_share_nothing_are_held_out_as_ever(count, seed, fraction):
    """The choice of earlier versions, so that runs and figures stay what they are."""
    pairs = records(f"document {n}" for n in range(count))
    numbers = random.Random(seed).sample(range(count), max(1, round(fraction * count)))
    kept, held = hold_out(pairs, fraction, seed)
    assert held == [pairs[n] for n in sorted(numbers)]
    assert kept == [pair for pair in pairs if pair not in held]


@given(
    st.lists(st.integers(0, 6), min_size=2, max_size=40).filter(lambda names: len(set(names)) > 1), st.integers(0, 9)
)
def test_no_document_is_on_both_sides(names, seed):
    pairs = records(map(str, names))
    train, val = (share_of(split, pairs, 0.3, seed) for split in ("train", "val"))
    assert not {pair.long_context for pair in train} & {pair.long_context for pair in val}
    assert sorted(pair.id for pair in (*train, *val)) == sorted(pair.id for pair in pairs)
    assert len({pair.long_context for pair in val}) == max(1, round(0.3 * len(set(names))))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            "aaaaaaaaaabbbbbbbbbbccccccccccdddddddddd",
            "`data.init_args.val_fraction: 0.1` holds out 10 of 40 examples (25 %)",
        ),
        ("abcdefghijklmnopqrst", ""),
        ("abcde", ""),  # one is the least there is
    ],
)
def test_a_share_far_above_the_one_that_was_asked_for_is_said(names, said, caplog):
    pairs = records(names)
    share_of("val", pairs, 0.1, 0)
    assert not caplog.text  # the training split says it, once
    train = share_of("train", pairs, 0.1, 0)
    assert said in caplog.text
    assert bool(said) == bool(caplog.text) == (len(train) < 0.85 * len(pairs) - 1)


def test_a_share_far_below_the_one_that_was_asked_for_is_said(caplog):
    """One document has most of the examples: half of the documents, without it, are a tenth of the examples."""
    pairs = records("a" * 80 + "bcdefghijklmnopqrstuvwxyz"[:19])
    train, val = next(
        (train, val)
        for seed in range(9)
        if len(val := share_of("val", pairs, 0.5, seed)) < 40 and (train := share_of("train", pairs, 0.5, seed))
    )
    assert len(train) + len(val) == len(pairs)
    assert f"`data.init_args.val_fraction: 0.5` holds out {len(val)} of 99 examples (10 %)" in caplog.text


LAYOUTS = {
    "before": "{1}\n\n{0}",
    "behind": "Answer in a few words.\n\n{0}\n\n{1}",
    "next line": "Answer in a few words.\n{0}\n{1}",
    "shared rules": "Answer in a few words and say in which paragraph the answer was found. " * 3 + "\n{0}\n{1}",
    "system": "{1}",
    "history": "{1}",
}
DOCUMENTS = {
    "one line": [f"Document {n}: " + "words " * 100 for n in range(4)],
    "paragraphs": ["\n\n".join(f"Paragraph {k} of document {n}, " + "word " * 40 for k in range(9)) for n in range(4)],
    "short lines": ["\n".join(f"Line {k} of document {n}." for k in range(30)) for n in range(4)],
}


def test_the_first_contexts_come_with_all_of_their_questions():
    items = [
        QARecord(f"q{n}", "?", ("a",), (Passage("", about, True), Passage("", "same", False)))
        for n, about in enumerate("aabbabccd")
    ]

    def numbers(first):
        return [int(item.id[1:]) for item in first_of(items, first)]

    assert numbers(None) == list(range(9))
    assert numbers(1) == numbers(3) == [0, 1, 4]
    assert numbers(4) == [0, 1, 2, 3, 4, 5]
    assert numbers(90) == list(range(9))


def messages_about(documents, layout):
    """Three whole messages about each document, with a question each."""
    pairs = []
    for number, (text, ask) in enumerate((text, f"Question {n}?") for text in documents for n in range(3)):
        around = {"system": {"system": text}, "history": {"history": (Message("user", text),)}}.get(layout, {})
        said = LAYOUTS[layout].format(ask, text)
        pairs.append(PreferencePair(f"{number // 3}/{number}", "", "", said, "yes", ("no",), **around))
    return pairs


@pytest.mark.parametrize("kind", DOCUMENTS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_whole_messages_about_one_document_stay_together(layout, kind, caplog):
    pairs = messages_about(DOCUMENTS[kind], layout)
    assert document_labels(pairs).tolist() == [number // 3 * 3 for number in range(12)]
    train, val = (share_of(split, pairs, 0.25, 0) for split in ("train", "val"))
    assert len({pair.id[0] for pair in val}) == 1
    assert len(val) == 3
    assert not {pair.id[0] for pair in train} & {pair.id[0] for pair in val}
    assert shared_documents(hashes(train=train, val=val)) == {"train": 3, "val": 1, "train and val": 0}
    assert not caplog.text


SENTENCE = "In {0} the keeper of lock {1} wrote that {2} boats had passed since the {3} and that the gate was mended."
SAME_LINE = {
    "behind": "{doc} {ask}",
    "before": "{ask} {doc}",
    "around": "Read this and answer in one word, or say that you cannot. Text: {doc} Question: {ask} Answer:",
    "many shots": "Q: What is lit? A: The lamp. " * 60 + "Read: {doc} Q: {ask}",
}


def one_line(draw, count):
    return " ".join(SENTENCE.format(*(draw.randrange(10**6) for _ in range(4))) for _ in range(count))


@pytest.mark.parametrize("count", [4, 400])
@pytest.mark.parametrize("layout", SAME_LINE)
def test_a_document_in_one_line_with_its_question_stays_together(layout, count, caplog):
    draw = random.Random(0)
    texts = [one_line(draw, count) for _ in range(4)]
    said = [
        SAME_LINE[layout].format(doc=text, ask=f"Where is lock {n}{number}?")
        for number, text in enumerate(texts)
        for n in range(3)
    ]
    pairs = [PreferencePair(f"{n // 3}/{n}", "", "", text, "yes", ("no",)) for n, text in enumerate(said)]
    assert document_labels(pairs).tolist() == [number // 3 * 3 for number in range(12)]
    assert len({pair.id[0] for pair in share_of("val", pairs, 0.25, 0)}) == 1
    assert not caplog.text


def prose(draw, paragraphs):
    """Paragraphs of a few sentences; between some of them a heading."""
    parts = [one_line(draw, draw.randrange(3, 8)) for _ in range(paragraphs)]
    return "\n\n".join(part if number % 3 else f"Part {number}\n\n{part}" for number, part in enumerate(parts))


def broken_at(width, text):
    return "\n\n".join(textwrap.fill(part, width) for part in text.split("\n\n"))


COPIES = {  # of one document, as different projects store it
    "as it is": str,
    "one line": lambda text: " ".join(text.split()),
    "wide spaces": lambda text: text.replace(" ", "\u00a0 \t"),
    "carriage returns": lambda text: f"  {text}\n".replace("\n", "\r\n"),
    "broken": lambda text: broken_at(80, text),
    "broken elsewhere": lambda text: broken_at(64, text),
    "first half": lambda text: text[: len(text) // 2],
    "question in front": lambda text: f"Which boat came first? Answer in a few words.\n\n{text}",
    "question in its line": lambda text: f"Which boat came first? {' '.join(text.split())} Answer:",
}


@pytest.mark.parametrize("paragraphs", [4, 20])
def test_copies_of_a_document_stay_together(paragraphs):
    draw = random.Random(paragraphs)
    texts = [prose(draw, paragraphs) for _ in range(8)]
    pairs = [
        PreferencePair(f"{number}/{kind}", "", "", change(text), "yes", ("no",))
        for number, text in enumerate(texts)
        for kind, change in COPIES.items()
    ]
    labels = document_labels(pairs).tolist()
    assert labels == [number // len(COPIES) * len(COPIES) for number in range(len(pairs))]
    random.Random(0).shuffle(pairs)
    train, val = hold_out(pairs, 0.25, 0)
    of_train, of_val = ({pair.id.partition("/")[0] for pair in part} for part in (train, val))
    assert len(of_val) == 2
    assert not of_train & of_val


def test_copies_of_a_context_stay_together():
    """Question apart: spaced otherwise, or cut behind 2,000 characters; passages that many hold are no documents."""
    draw = random.Random(0)
    passages = [one_line(draw, 12) for _ in range(30)]
    texts = ["\n\n".join([one_line(draw, 25), *draw.sample(passages, 8)]) for _ in range(8)]
    kinds = [kind for kind in COPIES if not kind.startswith("question")]
    pairs = [
        PreferencePair(f"{number}/{kind}", "Which boat?", "", COPIES[kind](text), "yes", ("no",))
        for number, text in enumerate(texts)
        for kind in kinds
    ]
    assert document_labels(pairs).tolist() == [number // len(kinds) * len(kinds) for number in range(len(pairs))]
    haystack = [replace(pairs[0], id=str(n), long_context=f"{texts[0]} The boat was the {n}.") for n in range(4)]
    assert document_labels(haystack).tolist() == [0, 1, 2, 3]  # what all begin with tells none apart


def test_one_question_about_many_documents_is_no_document():
    """A long instruction that a third of the messages hold with one of three short questions behind it."""
    rules = one_line(random.Random(5), 4)
    asks = ["What is it about?", "Who wrote it?", "Where was it?"]
    said = [f"{rules}\n{asks[n % 3]}\n{one_line(random.Random(10 + n), 3)}" for n in range(12)]
    pairs = [PreferencePair(str(n), "", "", text, "yes", ("no",)) for n, text in enumerate(said)]
    assert document_labels(pairs).tolist() == list(range(12))


def test_overlapping_parts_of_one_line_stay_together():
    """As a splitter of documents cuts them, each with its own question behind it."""
    text = one_line(random.Random(1), 60)
    parts = [text[start : start + 1500] for start in range(0, len(text) - 1500, 1200)]
    pairs = [PreferencePair(str(n), "", "", f"{part} Is {n} said?", "yes", ("no",)) for n, part in enumerate(parts)]
    assert not document_labels(pairs).any()


@pytest.mark.parametrize("filler", [".", "- ", "=", "no such page. "])
def test_what_says_nothing_is_no_document(filler):
    """Lines of dots and the like, as in contents of books, in some of the records."""
    said = [f"Chapter {n} of book {n} {filler * (400 * (n < 4))} page {n}" for n in range(9)]
    pairs = [PreferencePair(str(n), "", "", text, "yes", ("no",)) for n, text in enumerate(said)]
    assert document_labels(pairs).tolist() == list(range(9))


def hashes(**splits):
    return {name: {"": DocumentKeys.of(map(keys_of, items))} for name, items in splits.items()}


def test_whole_messages_that_share_only_an_instruction_are_held_out_as_ever(caplog):
    pairs = [replace(pair, question="", system="Rules. " * 100) for pair in records(f"Is {n} even?" for n in range(8))]
    numbers = random.Random(0).sample(range(8), 2)
    assert share_of("val", pairs, 0.25, 0) == [pairs[n] for n in sorted(numbers)]
    share_of("train", pairs, 0.25, 0)
    assert caplog.text.count("held out one by one") == 1
    assert "most of the 8 examples share a long text and nothing else" in caplog.text


def test_the_same_message_in_all_examples_is_held_out_one_by_one(caplog):
    assert len(share_of("val", [replace(pair, question="") for pair in records("a" * 8)], 0.25, 0)) == 2
    assert "held out one by one" in caplog.text


def test_one_document_alone_cannot_be_split():
    with pytest.raises(ValueError, match=r"3 in all, with 1 of 1 documents held out"):
        hold_out(records("aaa"), 0.05, 0)


def naive_labels(items):
    labels = list(range(len(items)))
    changed = True
    while changed:
        changed = False
        for a, one in enumerate(items):
            for b, other in enumerate(items):
                shared = any(x == y for x, y in zip(documents_of(one), documents_of(other), strict=True))
                if shared and labels[a] != labels[b]:
                    labels[a] = labels[b] = min(labels[a], labels[b])
                    changed = True
    return labels


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=14))
def test_documents_are_followed_along_chains(numbers):
    items = [QARecord(str(n), "q", ("a",), (Passage("", f"f{fact}", True), Passage("", f"p{rest}"))) for n, (fact, rest)
             in enumerate(numbers)]  # fmt: skip
    assert document_labels(items).tolist() == naive_labels(items)


def test_pairs_that_share_their_supporting_passage_share_a_document():
    pair = PreferencePair("a", "q", "s", "fact noise", "yes", ("no",), supporting=((0, 4),))
    other = replace(pair, id="b", long_context="other fact", supporting=((6, 10),))
    alien = replace(pair, id="c", long_context="none here", supporting=())
    assert document_labels([pair, alien, other]).tolist() == [0, 1, 0]


def test_questions_of_one_article_share_it():
    texts = ("one", "two")
    asked = [QARecord(str(n), "q", ("a",), tuple(Passage("", t, i == n) for i, t in enumerate(texts))) for n in (0, 1)]
    assert document_labels(asked).tolist() == [0, 0]


def test_what_is_no_list_is_not_copied():
    kept, held = hold_out(range(10), 0.2, 0)
    assert isinstance(kept, Chosen)
    assert sorted([*kept, *held]) == list(range(10))
    assert [kept[n] for n in range(len(kept))] == list(kept)
    assert list(kept[2:4]) == list(kept)[2:4]
    assert isinstance(kept.numbers, np.ndarray)


def test_documents_on_both_sides_are_counted_and_warned_of(caplog):
    splits = hashes(train=records("aab"), val=records("bc"))
    assert shared_documents(splits) == {"train": 2, "val": 2, "train and val": 1}
    assert "val: 1 of 2 documents are also in the training split" in caplog.text
    assert shared_documents({"val": splits["val"]}) == {"val": 2}
    assert shared_documents({}) == {}


def test_a_fact_on_both_sides_is_warned_of(caplog):
    pair = PreferencePair("a", "q", "s", "fact noise", "yes", ("no",), supporting=((0, 4),))
    other = replace(pair, id="b", long_context="other fact", supporting=((6, 10),))
    assert shared_documents(hashes(train=[pair], val=[other]))["train and val"] == 1
    assert "1 of 1 documents" in caplog.text


def test_an_instruction_of_one_source_is_no_document_of_a_mixture():
    """All messages of a source hold it, a third of the mixture."""
    rules = [replace(one, question="", system="Rules. " * 30) for one in records(f"Is {n} even?" for n in range(9))]
    rest = records(f"document {n}" for n in range(20))
    keys = {"train": {"a": rules[:6], "b": rest[:15]}, "val": {"a": rules[6:], "b": rest[15:]}}
    keys = {name: {k: DocumentKeys.of(map(keys_of, v)) for k, v in parts.items()} for name, parts in keys.items()}
    assert shared_documents(keys) == {"train": 21, "val": 8, "train and val": 0}
    keys["val"]["b"] = DocumentKeys.of(map(keys_of, rest[13:]))
    assert shared_documents(keys)["train and val"] == 2


LAID_OUT = {  # a document with its question, as sources hold it
    "message": lambda text: {"question": "", "long_context": f"{text}\n\nWhich boat?"},
    "in the question's line": lambda text: {"question": "", "long_context": f"Which boat? {text}"},
    "system": lambda text: {"question": "", "long_context": "Which boat?", "system": text},
    "context": lambda text: {"long_context": text},
    "under a heading": lambda text: {"long_context": f"Some heading.\n{text}"},
    "broken under a heading": lambda text: {"long_context": f"Some heading.\n\n{broken_at(70, text)}"},
    "with a supporting passage": lambda text: {"long_context": text, "supporting": ((0, 120),)},
    "with another one": lambda text: {"long_context": f"Heading.\n{text}", "supporting": ((400, 600),)},
}


def laid_out(texts, name):
    pair = PreferencePair("", "Which boat?", "", "-", "yes", ("no",))
    return [replace(pair, id=str(number), **LAID_OUT[name](text)) for number, text in enumerate(texts)]


def compared(pairs):
    return DocumentKeys.of(map(compared_keys, pairs))


@pytest.mark.parametrize("other", LAID_OUT)
@pytest.mark.parametrize("one", LAID_OUT)
def test_a_document_that_is_laid_out_otherwise_elsewhere_is_left_out(one, other, caplog):
    texts = [one_line(random.Random(n), 20 + n) for n in range(8)]
    held, train = laid_out(texts, one), laid_out(texts[::-1], other)
    documents = {"train": {"a": compared(held[2:]), "b": compared(train)}, "val": {"a": compared(held[:2])}}
    found = held_out_elsewhere(documents)
    assert {name: numbers.tolist() for name, numbers in found.items()} == {"a": [], "b": [6, 7]}
    assert shared_documents(documents)["train and val"] == 2
    assert "2 of 2 documents are also in the training split" in caplog.text
    documents["train"]["b"] = compared(train[:6])
    assert shared_documents(documents)["train and val"] == 0


def test_contexts_with_passages_in_common_are_not_left_out_elsewhere():
    """Unless it is the passage that a question is about, or all that another source holds."""
    passages = [one_line(random.Random(n), 8) for n in range(220)]
    draw = random.Random(0)
    mixed = ["\n\n".join([passages[n], *draw.sample(passages[20:], 9)]) for n in range(8)]
    elsewhere = ["\n\n".join([passages[n], *draw.sample(passages[20:], 9)]) for n in range(10, 18)]
    known = [replace(one, supporting=((0, len(passages[n])),)) for n, one in enumerate(laid_out(mixed, "context"))]
    sources = {"b": laid_out(elsewhere, "context"), "c": laid_out(passages[20:], "message")}
    sources["d"] = laid_out(passages[:8], "message")
    documents = {"train": {k: compared(v) for k, v in sources.items()}, "val": {"a": compared(known)}}
    documents["train"]["a"] = compared([])
    found = held_out_elsewhere(documents)
    assert {name: numbers.tolist() for name, numbers in found.items()} == {"a": [], "b": [], "c": [], "d": [*range(8)]}
    documents["val"]["a"] = compared(laid_out(mixed, "context"))  # nothing says which passage matters
    found = held_out_elsewhere(documents)
    assert not len(found["b"])
    assert found["d"].tolist() == [*range(8)]
    assert len(found["c"])


def test_a_validation_file_in_another_layout_is_warned_of(caplog):
    texts = [one_line(random.Random(n), 20) for n in range(6)]
    train, val = laid_out(texts, "context"), laid_out(texts[:2], "message")
    documents = {"train": {"": compared(train)}, "val": {"": compared(val)}}
    assert shared_documents(documents) == {"train": 6, "val": 2, "train and val": 2}
    assert "val: 2 of 2 documents" in caplog.text
