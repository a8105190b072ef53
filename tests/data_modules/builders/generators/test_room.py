"""Requests that a local model cannot read."""

from data_modules.builders.generators.requests import Decoding, Request
from data_modules.builders.generators.room import part_by_room

ASKED = [Request(str(size), "x" * size, Decoding(max_new_tokens=4)) for size in (7, 6, 5)]


def test_prompt_and_answer_fit_together():
    fitting, failures = part_by_room(ASKED, 10, lambda request: len(request.text))
    assert [request.id for request in fitting] == ["6", "5"]
    assert [(failure.request, failure.prompt_tokens) for failure in failures] == [("7", 7)]
    assert "a prompt of 7 tokens and 4 of an answer exceed the 10 positions" in failures[0].error
    assert "lower `max_new_tokens`" in failures[0].error


def test_models_that_state_no_window_read_everything():
    assert part_by_room(ASKED, None, len) == (ASKED, [])
