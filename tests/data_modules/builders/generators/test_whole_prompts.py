"""Whether a server has read a prompt whole."""

from types import SimpleNamespace

import pytest

from data_modules.builders.generators.whole_prompts import WholePrompts


def server(characters, window, log):
    """Makes a token of so many characters, reads at most `window`, and takes ten for its template."""

    def ask(text):
        log.append(len(text))
        return SimpleNamespace(usage=SimpleNamespace(prompt_tokens=min(window, len(text) // characters + 10)))

    return ask


@pytest.mark.parametrize(
    ("characters", "window", "size", "expected", "asked"),
    [
        (1, 4096, 8000, "4,096 of about 8,020 tokens", 3),
        (1, 4096, 20000, "4,096 of about 20,000 tokens", 3),  # the halves are cut, too
        (1, 9000, 8000, "", 1),
        (2, 9000, 8000, "", 3),  # a thriftier tokenizer
        (2, 3000, 8000, "3,000 of about 8,000 tokens", 3),
        (1, 512, 1000, "", 1),  # no window is as small
    ],
)
def test_too_few_tokens_are_those_that_the_halves_have_more_of(characters, window, size, expected, asked):
    log = []
    ask, text = server(characters, window, log), "x" * size
    assert WholePrompts(len).missing(text, ask(text), ask) == expected
    assert len(log) == asked


def test_a_thriftier_tokenizer_is_found_out_once():
    log = []
    ask, whole_prompts = server(2, 9000, log), WholePrompts(len)
    for size in (8000, 6000, 4000):
        assert whole_prompts.missing("x" * size, ask("x" * size), ask) == ""
    assert log == [8000, 4000, 4000, 6000, 4000]
    assert whole_prompts.missing("x" * 30000, ask("x" * 30000), ask) == "9,000 of about 30,000 tokens"


def test_a_spendthrift_tokenizer_hides_no_cut():
    """The policy makes half as many tokens: the window is full before its number of them is read."""
    log = []
    ask, whole_prompts = server(1, 4096, log), WholePrompts(lambda text: len(text) // 2)
    assert whole_prompts.missing("x" * 4000, ask("x" * 4000), ask) == ""
    assert whole_prompts.missing("x" * 3900, ask("x" * 3900), ask) == ""
    assert len(log) == 1 + 2 + 1  # what is shorter than a prompt that was read whole is not asked by halves
    assert whole_prompts.missing("x" * 7000, ask("x" * 7000), ask) == "4,096 of about 7,020 tokens"


def test_one_language_says_nothing_of_another():
    """Of four characters to a token in one, and one in the other, that a cut prompt has a share as large."""
    log = []
    ask, whole_prompts = server(4, 9000, log), WholePrompts(len)
    assert whole_prompts.missing("x" * 8000, ask("x" * 8000), ask) == ""
    ask = server(1, 4096, log)
    assert whole_prompts.missing("y" * 8000, ask("y" * 8000), ask) == "4,096 of about 8,020 tokens"


def test_servers_that_do_not_count_are_taken_at_their_word():
    for reply in (SimpleNamespace(usage=None), SimpleNamespace(usage=SimpleNamespace(prompt_tokens=0))):
        assert WholePrompts(len).missing("x" * 8000, reply, pytest.fail) == ""
