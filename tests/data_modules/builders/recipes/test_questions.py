"""Questions read from what a model wrote."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import bench, drive

from data_modules.builders.recipes.base import DroppedError
from data_modules.builders.recipes.questions import Cloze, SelfInstruct, parse_questions


@pytest.mark.parametrize(
    ("text", "questions"),
    [
        ("1. What is it?\n2) Who came?\n3: Why?", ["What is it?", "Who came?", "Why?"]),
        ('Here they are:\n- **Who?**\n\u2022 "Why?"', ["Who?", "Why?"]),
        ("Q1: Who?\nQuestion 2. Why?", ["Who?", "Why?"]),
        ("Who was it?\nNo question here.", ["Who was it?"]),
        ("1. Who?\n2. Who?", ["Who?"]),
        ("nothing", []),
        ("1. ...\n2. Who?", ["Who?"]),
        ("<think>\n1. The text is about Ada.\n</think>\n\n1. Who?", ["Who?"]),
        ("1. It is about Ada.\n</think>\n1. Who?", ["Who?"]),
        ("<think>\n1. The text is about", []),
        ("1\u3001\u8c01\uff1f\n2\uff0e\u4f55\uff1f", ["\u8c01\uff1f", "\u4f55\uff1f"]),
        ("1. Who sings?\n- Ada\n2. Who dances?\n- Cora", ["Who sings?", "Who dances?"]),  # with their answers
        ("1. When?\n* 1912\n2. How long?\n* 12.5 hours\n3. Who?\n* Quincy", ["When?", "How long?", "Who?"]),
        ("1. Who sings?\n- Who dances?\n- Ada", ["Who sings?", "Who dances?"]),
        ("1. **Q:** Who?\n   **A:** Ada\n2. **Q:** Why?\n   **A:** Rain", ["Who?", "Why?"]),
        (
            "1. Singing\n- Who sings?\n2. Dancing\n- Name who dances.",
            ["Singing", "Who sings?", "Dancing", "Name who dances."],
        ),
        ("(1) Who?\n\uff082\uff09\u8c01\uff1f", ["Who?", "\u8c01\uff1f"]),
        ("1\\. Who?\n2- Why?\n#3 When?\n#4: Where?", ["Who?", "Why?", "When?", "Where?"]),
        ("a) Who?\nb. Why?", ["Who?", "Why?"]),
        ("i. Who?\nii. Why?", ["Who?", "Why?"]),
        ("1. Which town?\na) Oslo\nb) Rome\n2. Why?", ["Which town?", "Why?"]),  # choices are none
        ("> 1. Who?\n- [ ] Why?", ["Who?", "Why?"]),
        ("1\ufe0f\u20e3 Who?\n\u2461 Why?", ["Who?", "Why?"]),
        ("1-2 players are needed for what?", ["1-2 players are needed for what?"]),
        ("  1. Who?\n    2. Why?", ["Who?", "Why?"]),  # distilabel#940
        ("1. Who? 2. Why?  3) What is 2. Punic?", ["Who?", "Why?", "What is 2. Punic?"]),  # babyagi#22: one question
        ("**1. Who?** 2. Why?", ["Who?", "Why?"]),
        ("1\u3001\u8c01\uff1f2\u3001\u4f55\uff1f", ["\u8c01\uff1f", "\u4f55\uff1f"]),
        ("1. Which is it? 1) Oslo 2) Rome\n2. Why?", ["Which is it?", "Why?"]),  # choices are no questions
        ("1. What is pi? 3. 14 or so\n2. Why?", ["What is pi?", "Why?"]),
        ("[1] Who?\nQ2 - Why?", ["Who?", "Why?"]),
        ("\u95ee\u98981\uff1a\u8c01\uff1f\n\u4e8c\u3001\u4f55\uff1f", ["\u8c01\uff1f", "\u4f55\uff1f"]),
        ("\u0645\u0646\u061f\n\u0645\u062a\u0649\u061f", ["\u0645\u0646\u061f", "\u0645\u062a\u0649\u061f"]),
    ],
)
def test_lists_of_questions_are_read_whatever_their_marks(text, questions):
    assert parse_questions(text) == questions


def test_questions_are_read_behind_thoughts_that_the_prompt_opened():
    def asked(**options):
        return drive(SelfInstruct().steps("A chunk.", "c", bench(**options)), lambda request: "1. Is it Ada?")[0].text

    assert asked() == "Is it Ada?"
    with pytest.raises(DroppedError, match="no question could be read"):
        asked(opened=True)


def test_headings_are_no_questions_and_repeated_numbers_go():
    reply = "Questions about the text:\n1. 2. Who sings?\n2. Questions to answer:\n3. Who dances?"
    assert parse_questions(reply) == ["Who sings?", "Who dances?"]


@pytest.mark.parametrize(
    ("text", "questions"),
    [
        ("1. 3.5 is what?\n2. Who?", ["3.5 is what?", "Who?"]),  # bounty-challenge#16790: an item of "5 is what?"
        ("3.14 is called what?\nAt what time was it?", ["3.14 is called what?", "At what time was it?"]),
        ("1. 12:30 is when?", ["12:30 is when?"]),
        ("1.2019\u5e74?\n2.\u8c01?", ["2019\u5e74?", "\u8c01?"]),
        (
            "1. What is the capital\n   of the old country?\n2. Who?",
            ["What is the capital of the old country?", "Who?"],
        ),
    ],
)
def test_an_item_is_whole(text, questions):
    """The pair's question was what was left of a decimal or of a line."""
    assert parse_questions(text) == questions


@pytest.mark.parametrize(
    ("item", "question"),
    [
        *((f"Who sings?{answer}", "Who sings?") for answer in (" Ada.", " (Ada)", " Answer: Ada", " [Answer: Ada]")),
        ("**Who sings?** Ada", "**Who sings?"),
        ("\u8c01\u5531\u6b4c\uff1f\u7b54\u6848\uff1a\u4ed6", "\u8c01\u5531\u6b4c\uff1f"),
        ("\u0645\u0646\u061f \u0622\u062f\u0627", "\u0645\u0646\u061f"),
        *((whole, whole) for whole in ('What does "Who?" mean here?', "Who asks 'Why?' in the end", "Who? And why?")),
        ("True or false? Ada sings.", "True or false? Ada sings."),
        ("Name who sings.", "Name who sings."),
    ],
)
def test_answers_behind_a_question_mark_are_not_asked(item, question):
    """Small models write them on the question's line: both answers of the pair then copied them."""
    assert parse_questions(f"1. {item}") == [question.strip("*")]


@given(st.text())
def test_any_reply_can_be_read(text):
    assert all(question.strip() for question in parse_questions(text))


def test_a_decimal_point_ends_no_sentence():
    """What stood before it was asked for as the sentence's last word: "It is 3", of a mill 3.5 metres high."""
    found, _ = drive(Cloze().steps("The old mill stands 3.5 metres high.", "chunk0", bench()), str)
    assert (found.text, found.answers) == ("Complete: The old mill stands 3.5 metres", ("high",))
