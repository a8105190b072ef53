"""Texts that are probably not what was meant."""

import csv
import json
import logging

import pytest
from support.word_pairs import FORMAT, pair

from data_modules.preference import PreferenceDataModule
from data_modules.records import Message, Turn
from data_modules.rows.suspect_texts import SuspectTexts
from lit_longpo.objectives import DPO


def test_every_field_is_looked_at():
    one = pair(0)
    texts = {"system": "nan", "long_context": "null", "question": "undefined", "short_context": "NaT"}
    again = Turn("None", "<NA>", "NULL", ("none",))
    said = type(one)(**vars(one) | texts | {"history": (Message("user", "NaN"),), "turns": (again,)})
    found = SuspectTexts()
    assert list(found.counted([one, said])) == [one, said]
    assert found.printed == {
        "system": 1, "long_context": 1, "messages": 1, "question": 2, "short_context": 2, "chosen": 1, "rejected": 1
    }  # fmt: skip


def test_what_holds_such_a_word_is_text(tmp_path):
    said = type(pair(0))(**vars(pair(0)) | {"chosen": "None of them", "rejected": ("NA",), "system": " nan"})
    found = SuspectTexts()
    assert list(found.counted([said])) == [said]
    assert found == SuspectTexts()


@pytest.mark.parametrize("name", ["pairs.csv", "pairs.jsonl"])
def test_a_blank_cell_that_was_printed_is_told(tmp_path, caplog, name):
    """As unsloth#10813: blank cells became the word None, and training ended without a warning."""
    rows = [["word1 word2", "word4", "word5"], ["word3", None, "word6"]]
    path, columns = tmp_path / name, ("prompt", "chosen", "rejected")
    with open(path, "w", newline="") as file:
        if name.endswith("csv"):
            csv.writer(file).writerows([columns, *([str(cell) for cell in row] for row in rows)])
        else:
            file.writelines(f"{json.dumps(dict(zip(columns, map(str, row), strict=True)))}\n" for row in rows)
    data = PreferenceDataModule(str(path), views=DPO().views, prompt_format=FORMAT, val_fraction=0)
    with caplog.at_level(logging.WARNING):
        data.setup("fit")
    said = [record.message for record in caplog.records if "missing value" in record.message]
    assert len(said) == 1
    assert "1 in `chosen`" in said[0]
    assert data.reports()["suspect_texts"]["train"] == {
        "printed": {"chosen": 1},
        "damaged": 0,
        "alike": 0,
        "repeating": 0,
        "listed": 0,
        "pictures": 0,
    }


@pytest.mark.parametrize(
    ("chosen", "rejected", "listed"),
    [
        ("['Paris']", (), 1),
        ('["Paris", "Rome"]', ("Oslo",), 1),
        ("['Paris']", ("['Oslo']",), 0),
        ("['Paris']", ("[]",), 0),
        ("Paris [1]", ("Oslo",), 0),
    ],
)
def test_a_printed_list_as_the_chosen_answer_is_told(chosen, rejected, listed):
    """Unless the rejected answers are lists too: then lists are asked for."""
    found = SuspectTexts()
    said = type(pair(0))(**vars(pair(0)) | {"chosen": chosen, "rejected": rejected})
    assert list(found.counted([said])) == [said]
    assert found.listed == listed
    assert [("1 of 3 records have a chosen answer that is a printed list" in text) for text in found.warnings(3)] == (
        [True] * listed
    )


LATIN = ["caf\u00e9", "don\u2019t", "a \u2013 b", "10\u00b0", "a\u00a0b"]


@pytest.mark.parametrize("damaged", ["caf\ufffd", *(text.encode().decode("cp1252") for text in LATIN)])
def test_letters_of_a_wrong_decoding_are_counted(damaged):
    found = SuspectTexts()
    texts = [damaged, *LATIN, "\u00c2 la fin", "S\u00c3O", "\u00e2ge", "\u00c3"]
    pairs = [type(pair(0))(**vars(pair(0)) | {"history": (Message("user", text),)}) for text in texts]
    assert len(list(found.counted(pairs))) == len(texts)
    assert found.damaged == 1
    (line,) = found.warnings(len(texts))
    assert line.startswith(f"1 of {len(texts)} records hold what a wrong decoding leaves")


@pytest.mark.parametrize(
    ("chosen", "rejected", "alike"),
    [
        ("Z\u00fcrich", "Zu\u0308rich", True),
        ("\u03ac\u03bb\u03c6\u03b1", "\u03b1\u0301\u03bb\u03c6\u03b1 ", True),  # Greek, with a tonos of its own
        ("Oslo", "Os\u200blo", True),
        ("Zurich", "Z\u00fcrich", False),
        ("\u0915\u094d\u0937", "\u0915\u094d\u200d\u0937", False),  # a joiner shows half a letter in Hindi
        ("2", "\u00b2", False),
    ],
)
def test_answers_that_look_the_same_are_counted(chosen, rejected, alike):
    found, before = SuspectTexts(), {**vars(pair(0)), "chosen": "yes", "rejected": ("no",)}
    again = Turn("again", "there", chosen, ("other", rejected))
    pairs = [type(pair(0))(**before), type(pair(0))(**before | {"turns": (again,)})]
    assert list(found.counted(pairs)) == pairs
    assert found.alike == alike
    assert [line[:31] for line in found.warnings(2)] == ["1 of 2 records have a rejected "] * alike


ASKED = "Question: who lives in Oslo?\nAnswer:"


@pytest.mark.parametrize(
    ("texts", "repeating"),
    [
        ({"question": ASKED, "chosen": f"{ASKED} Ada", "rejected": (f"{ASKED} Ben",)}, 1),
        ({"question": "", "long_context": f" {ASKED}", "chosen": f"{ASKED} Ada", "rejected": ()}, 1),
        ({"followup": (Message("user", ASKED),), "chosen": f"\n{ASKED} Ada", "rejected": (f"{ASKED} Ben",)}, 1),
        ({"question": ASKED, "chosen": f"{ASKED} Ada", "rejected": ("Ben",)}, 0),
        ({"question": "Who?", "chosen": "Who? Ada", "rejected": ("Who? Ben",)}, 0),
    ],
)
def test_answers_that_are_stored_with_their_prompt_are_counted(texts, repeating):
    """As reward models take them (OpenRLHF#909); DPO trained the prompt as part of the answer."""
    found = SuspectTexts()
    list(found.counted([type(pair(0))(**vars(pair(0)) | texts)]))
    assert found.repeating == repeating
    assert [line[:45] for line in found.warnings(1)] == ["1 of 1 records have answers that begin with t"] * repeating


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("<image>\nWhat is it?", 1),  # LLaVA's and LLaMA-Factory's exports
        ("What is it?\n<video> ", 1),
        ("![3](<image>) is how Markdown writes it", 0),  # LLaMA-Factory#8440
        ("word1", 0),
    ],
)
@pytest.mark.parametrize("field", ["long_context", "question", "history"])
def test_a_question_about_a_picture_that_is_not_there_is_told(field, text, told):
    said = (Message("user", text), Message("assistant", "<image>")) if field == "history" else text
    found = SuspectTexts()
    assert len(list(found.counted([type(pair(0))(**vars(pair(0)) | {field: said})]))) == 1
    assert found.pictures == told
    assert ["place of a picture" in line for line in found.warnings(1)] == [True] * told
