from dataclasses import replace
from types import SimpleNamespace

import pytest

from data_modules.formats.loading import StreamedPairs
from data_modules.messages import Message
from data_modules.records import Passage, PreferencePair, QARecord
from data_modules.splitting import keys_of
from evaluation.benchmarks.pair_questions import ValidationQuestions, questions_of
from evaluation.benchmarks.qa import QA
from evaluation.benchmarks.questions import Question, document_by_question
from lit_longpo.policy.prompts.encoded_prompt import Surroundings
from lit_longpo.shared_texts import DocumentKeys

PAIR = PreferencePair("p", "Who?", "Ann.", "Bob. Ann. Tom.", "It is Ann", ("Bob",), ("Ann",), supporting=((5, 9),))


def test_pairs_are_asked_about_either_context():
    assert questions_of([PAIR], "long") == [Question("p", "Who?", ("Ann",), "Bob. Ann. Tom.", 5 / 14)]
    assert questions_of([PAIR], "short") == [Question("p", "Who?", ("Ann",), "Ann.", 0.0)]


def test_a_preferred_answer_stands_for_a_gold_one_and_is_marked():
    pair = PreferencePair("p", "Who?", "Ann.", "Bob. Ann.", "Ann", ("Bob",))
    assert questions_of([pair], "long") == [Question("p", "Who?", ("Ann",), "Bob. Ann.", 5 / 9, is_gold=False)]


def test_a_preferred_answer_is_compared_without_its_thoughts():
    """Those of the model are left out: no answer could equal one with thoughts, and F1 counted their words."""
    for chosen in ("<think>Bob?</think>Ann", "Bob?</think>\n\nAnn", "[THINK]Bob?[/THINK]Ann"):
        pair = PreferencePair("p", "Who?", "Ann.", "Bob. Ann.", chosen, ("Bob",))
        assert questions_of([pair], "long")[0].answers == ("Ann",)
    pair = PreferencePair("p", "Who?", "Ann.", "Bob. Ann.", "<think>Bob", ("Bob",))
    assert questions_of([pair], "long")[0].answers == ()


def test_what_is_said_around_the_context_comes_along():
    said = (Message("user", "Hi."), Message("assistant", "Hello."))
    pair = PreferencePair("p", "", "", "Ann. Who?", "Ann", ("Bob",), system="Be brief.", history=said)
    [question] = questions_of([pair], "long")
    assert question.around == Surroundings("Be brief.", (("user", "Hi."), ("assistant", "Hello.")))
    assert (question.question, question.context) == ("", "Ann. Who?")


def test_passages_are_joined_and_the_supporting_one_has_the_depth():
    record = QARecord("q", "Who?", ("Ann",), (Passage("", "Bob."), Passage("One", "Ann.", supporting=True)))
    assert questions_of([record], "long") == [Question("q", "Who?", ("Ann",), "Bob.\n\nOne\nAnn.", 6 / 14)]


def test_questions_share_documents_as_the_pairs_that_are_held_out_do():
    """Copies that were cut, facts among other passages, passages in another order and under a title."""
    story = " ".join(f"On day {n} Ines counted {n * 7} crates." for n in range(90))

    def pair(name, text, supporting=()):
        return PreferencePair(name, "Who?", "", text, "Ann", ("Bob",), ("Ann",), supporting=supporting)

    def record(name, *passages):
        return QARecord(name, "Who?", ("Ann",), passages)

    fact, other, ann = Passage("", "Bob."), Passage("", "Tom."), Passage("One", "Ann.", supporting=True)
    apart = [
        pair("a", story),
        pair("b", story[:2500]),
        pair("c", "Some " + story),
        pair("d", "Ann. Bob.", ((0, 4),)),
        pair("e", "Tom. Ann.", ((5, 9),)),
        pair("f", "Ann. Tom.", ((5, 9),)),
    ]
    for items in (apart, [record("a", fact, other, ann), record("b", replace(ann, title=""), other, fact)]):
        expected = DocumentKeys.of(map(keys_of, items)).specific().labels().tolist()
        shown = list(document_by_question(questions_of(items, "long")).values())
        assert [shown.index(text) for text in shown] == expected
        assert len(set(expected)) < len(items)


def test_a_missing_context_is_said():
    with pytest.raises(ValueError, match="expected a short context in the record 'p', got none; set `context`"):
        questions_of([PreferencePair("p", "Who?", "", "Ann.", "Ann", ("Bob",))], "short")


def test_a_run_asks_about_its_own_validation_pairs():
    source = ValidationQuestions()
    data = SimpleNamespace(pairs=lambda split: [PAIR] if split == "val" else [])
    source.read(SimpleNamespace(datamodule=data), "val")
    assert [item.id for item in source.questions()] == ["p"]
    with pytest.raises(ValueError, match=r"expected pairs in the test split of SimpleNamespace .*val_fraction"):
        source.read(SimpleNamespace(datamodule=data), "test")
    with pytest.raises(ValueError, match="got none"):
        source.read(SimpleNamespace(datamodule=None), "val")


def test_pairs_of_one_id_are_refused():
    data = SimpleNamespace(pairs=lambda split: [PAIR, PAIR])
    with pytest.raises(ValueError, match=r"an id of its own for every pair of the val split, got 'p' 2 times"):
        ValidationQuestions().read(SimpleNamespace(datamodule=data), "val")


def test_a_streamed_file_is_left_where_first_has_its_questions():
    """At the next context; of a list, whose questions of one context may lie apart, everything is there."""
    contexts = [0, 1, 0, 1, 2, 3, 0, *range(4, 50)]
    pairs = [PreferencePair(f"p{n}", "Who?", "", f"Ann {which}.", "Ann", ("Bob",)) for n, which in enumerate(contexts)]
    passed = []

    def streamed():
        for pair in pairs:
            passed.append(pair.id)
            yield pair

    found = []
    for records in (pairs, StreamedPairs(streamed)):
        source = ValidationQuestions(first=4)
        source.read(SimpleNamespace(datamodule=SimpleNamespace(pairs=lambda split, given=records: given)), "val")
        found.append({item.id for item in QA(questions=source, first=4).asked})
    assert found == [{"p0", "p1", "p2", "p3", "p6"}, {"p0", "p1", "p2", "p3"}]
    assert passed == ["p0", "p1", "p2", "p3", "p4"]
    messages = [PreferencePair(f"m{n}", "", "", f"Ann {n}. Who?", "Ann", ("Bob",)) for n in range(9)]
    data = SimpleNamespace(pairs=lambda split: StreamedPairs(lambda: iter(messages)))
    source.read(SimpleNamespace(datamodule=data), "val")
    assert [item.id for item in source.questions()] == ["m0", "m1", "m2", "m3"]
