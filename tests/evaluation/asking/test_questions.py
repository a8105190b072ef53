import pytest
from support.word_tokenizer import WORDS, word_tokenizer

from evaluation.asking.questions import DocumentQuestions, PromptRules, unknown_tokens
from evaluation.benchmarks.qa import QA
from evaluation.benchmarks.questions import Question
from evaluation.running.settings import default_max_length
from lit_longpo.policy import PromptFormat, PromptTemplate

DOCUMENT = " ".join(WORDS * 3)
FORMAT = PromptFormat(word_tokenizer(), PromptTemplate())


class Listed:
    def questions(self):
        return [Question("1", "word1 word2 ?", ("word3",), DOCUMENT)]


@pytest.mark.parametrize("window", [4096, 200])
def test_prompts_are_those_of_evaluate(window):
    """Read whole and cut in the middle, by the same rule; given answers are no part of it."""
    qa = QA(questions=Listed(), max_new_tokens=8)
    length = default_max_length(qa, qa.tasks, FORMAT, window)
    expected = qa.prompt(next(iter(qa.examples("qa"))), FORMAT, length, window=window)
    for answers in ((), (("word3", "word4"),)):
        asked = DocumentQuestions(DOCUMENT, ("word1 word2 ?",), answers)
        assert PromptRules(max_new_tokens=8).prompts(asked, FORMAT, window) == [expected]
    assert bool(expected.num_lost) == (window == 200)


def test_a_document_over_the_window_is_refused_where_that_is_wanted():
    asked = DocumentQuestions(DOCUMENT, ("word1 ?", "word1 word2 ?"))
    with pytest.raises(ValueError, match=r"question of at most 100 tokens, got 243; type --on_overlength truncate"):
        PromptRules(max_length=100, on_overlength="error").prompts(asked, FORMAT, 4096)
    assert all(p.num_lost == 0 for p in PromptRules(on_overlength="error").prompts(asked, FORMAT, 4096))


@pytest.mark.parametrize(
    ("questions", "answers", "said"),
    [
        ((), (), "expected questions, got"),
        (("  ",), (), "expected questions, got"),
        (("a", "b"), (("x", "y"),), "for each of 2 questions, got 1 lists"),
        (("a",), (("x", " "),), "expected answers that are not empty"),
        (("a",), (("x", "y", "x"),), "expected different answers"),
    ],
)
def test_questions_and_answers_that_mean_nothing_are_refused(questions, answers, said):
    with pytest.raises(ValueError, match=said):
        DocumentQuestions("text", questions, answers)


def test_text_that_the_tokenizer_does_not_know_is_said_or_refused():
    def lines(document):
        return list(
            unknown_tokens(PromptRules().prompts(DocumentQuestions(document, ("word1",)), FORMAT, 4096), FORMAT)
        )

    assert lines(DOCUMENT) == []
    assert "1% of the prompt's tokens" in lines(DOCUMENT + " dog cat")[0]
    with pytest.raises(ValueError, match="got 71% unknown tokens; set --model"):
        lines("the cat sat on it")
