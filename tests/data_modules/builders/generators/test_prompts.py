"""Requests that a local model cannot read."""

from data_modules.builders.generators.prompts import RequestPrompts
from data_modules.builders.generators.requests import Decoding, Request
from lit_longpo.policy import PolicyConfig, PromptTemplate

PROMPTS = RequestPrompts(PolicyConfig(template=PromptTemplate(chat=False)))
ASKED = [Request(str(size), "the " * size, Decoding(max_new_tokens=4)) for size in (7, 6, 5)]


def test_prompt_and_answer_fit_together():
    fitting, failures = PROMPTS.part_by_room(ASKED, 11)
    assert [request.id for request in fitting] == ["6", "5"]
    assert [(failure.request, failure.prompt_tokens) for failure in failures] == [("7", 8)]  # with the one in front
    assert "a prompt of 8 tokens and 4 of an answer exceed the 11 positions" in failures[0].error
    assert "lower `max_new_tokens`" in failures[0].error


def test_models_that_state_no_window_read_everything():
    assert PROMPTS.part_by_room(ASKED, None) == (ASKED, [])
