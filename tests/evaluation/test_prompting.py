import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.byte_tokenizer import CHAT, byte_tokenizer
from support.word_tokenizer import word_tokenizer
from tokenizers.processors import TemplateProcessing

from evaluation import truncate_middle
from evaluation.prompting import Rules, build_prompt
from lit_longpo.policy import PromptFormat, PromptTemplate

plain = PromptFormat(byte_tokenizer(), PromptTemplate())
chat = PromptFormat(byte_tokenizer(chat_template=CHAT), PromptTemplate())
BOS, EOS, END = plain.tokenizer.convert_tokens_to_ids(["<bos>", "<eos>", "<end>"])
styles = st.sampled_from(["longbench", "longbench_v2"])


def text_of(prompt):
    return plain.tokenizer.decode(list(prompt.ids))


@given(st.text(max_size=40))
@settings(max_examples=30, deadline=None)
def test_what_fits_is_left_alone(text):
    prompt = build_prompt(text, plain, Rules("longbench", 5), 500)
    assert plain.decode_whole(prompt.ids) == text
    assert (prompt.num_lost, prompt.num_tokens, prompt.ids[0]) == (0, len(prompt.ids), BOS)


def test_the_beginning_of_text_counts_and_the_middle_goes():
    """Bytes 0-9 behind <bos>: 11 tokens, of which 6 stay, <bos> among them."""
    prompt = build_prompt("0123456789", plain, Rules("longbench", 5), 6)
    assert text_of(prompt) == "<bos>01789"
    assert (prompt.num_tokens, prompt.num_lost) == (11, 5)


@pytest.mark.parametrize(("style", "expected"), [("longbench", "<bos>01789"), ("longbench_v2", "<bos>016789")])
def test_odd_lengths_differ_by_style(style, expected):
    assert text_of(build_prompt("0123456789", plain, Rules(style, 5), 7)) == expected


@pytest.mark.parametrize(("style", "kept"), [("longbench", "\ufffd\ufffdab"), ("longbench_v2", "\u4e2dab")])
def test_longbench_decodes_the_halves_apart_and_v2_does_not(style, kept):
    """<bos> E4 B8 | AD a b: the ends of two characters make one again only if they are decoded together."""
    prompt = build_prompt("\u4e2d....\u4e2dab", plain, Rules(style, 5), 6)
    assert plain.decode_whole(prompt.ids) == kept
    assert prompt.num_lost == 13 - 6
    assert len(prompt.ids) == (9 if style == "longbench" else 6)  # replacement characters take three bytes each


def test_no_end_of_the_text_stands_before_the_answer():
    """`add_eos_token: true`, which many a fine-tuned model leaves in its files: it would answer an ended text."""
    tokenizer = byte_tokenizer()
    ends = [("<bos>", BOS), ("<eos>", EOS)]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing("<bos> $A <eos>", special_tokens=ends)
    assert tokenizer("01")["input_ids"][-1] == EOS
    form = PromptFormat(tokenizer, PromptTemplate())
    for length, kept in ((500, "<bos>0123456789"), (6, "<bos>01789")):
        assert text_of(build_prompt("0123456789", form, Rules("longbench", 5), length)) == kept


def test_decoded_text_is_not_cleaned_up():
    """As some tokenizers' settings ask for, which is not what the model wrote."""
    tokenizer = word_tokenizer(["x", "!"])
    tokenizer.clean_up_tokenization_spaces = True
    form = PromptFormat(tokenizer, PromptTemplate())
    assert form.decode_whole(tokenizer.encode("x ! x ?", add_special_tokens=False)) == "x ! x ?"


def test_the_chat_template_comes_after_truncation():
    prompt = build_prompt("0123456789", chat, Rules("longbench", 5), 6)
    assert text_of(prompt) == "<bos>[user]01789<end>[assistant]"
    assert prompt.ids.count(BOS) == 1
    assert prompt.uses_chat


def test_a_system_message_comes_first():
    brief = PromptFormat(byte_tokenizer(chat_template=CHAT), PromptTemplate(system="Be brief."))
    assert text_of(build_prompt("x", brief, Rules("longbench", 5), 6)).startswith("<bos>[system]Be brief.<end>[user]x")


def test_tasks_may_go_without_the_chat_template():
    prompt = build_prompt("0123", chat, Rules("longbench", 5, chat=False), 50)
    assert text_of(prompt) == "<bos>0123"
    assert not prompt.uses_chat
    assert set(prompt.stop_ids) == {END, EOS}


def test_a_newline_ends_the_answer_but_cannot_be_all_of_it():
    prompt = build_prompt("x", plain, Rules("longbench", 5, stop_at_newline=True), 50)
    newline = plain.tokenizer.encode("\n", add_special_tokens=False)
    assert prompt.stop_ids == (EOS, *newline)
    assert prompt.only_these_stops
    assert prompt.min_new_tokens == 1
    assert build_prompt("x", plain, Rules("longbench", 5), 50).stop_ids == (EOS,)
    blind = PromptFormat(word_tokenizer(), PromptTemplate())  # it has no token for a newline
    assert build_prompt("word1", blind, Rules("longbench", 5, stop_at_newline=True), 50).stop_ids == (blind.end_id,)


def test_room_for_the_answer_is_checked():
    rules = Rules("longbench", 5)
    assert len(build_prompt("0123456789", plain, rules, 6, window=11).ids) == 6
    with pytest.raises(ValueError, match=r"prompt of 6 tokens; set max_length to 5 or less"):
        build_prompt("0123456789", plain, rules, 6, window=10)
    with pytest.raises(ValueError, match="at least 2 tokens"):
        build_prompt("0123456789", plain, rules, 1)


def test_responses_are_not_stripped():
    assert plain.decode_whole(plain.tokenizer("\n x ")["input_ids"]) == "\n x "


@pytest.mark.parametrize(
    ("style", "max_length", "kept"),
    [
        ("longbench", 4, [0, 1, 8, 9]),
        ("longbench", 5, [0, 1, 8, 9]),  # an odd length loses one token
        ("longbench_v2", 4, [0, 1, 8, 9]),
        ("longbench_v2", 5, [0, 1, 7, 8, 9]),  # and here it does not
        ("longbench_v2", 1, [9]),
        ("longbench", 1, list(range(10))),  # two slices of zero: everything stays
        ("longbench", 10, list(range(10))),
    ],
)
def test_tokens_are_cut_by_the_official_rules(style, max_length, kept):
    assert truncate_middle(range(10), max_length, style=style) == kept


@given(st.integers(0, 200), st.integers(2, 200), styles)
def test_a_cut_keeps_a_head_and_a_tail(num_tokens, max_length, style):
    kept = truncate_middle(range(num_tokens), max_length, style=style)
    lost_to_halves = 1 if style == "longbench" and max_length % 2 and num_tokens > max_length else 0
    assert len(kept) == min(num_tokens, max_length - lost_to_halves)
    gaps = [second - first for first, second in itertools.pairwise(kept) if second - first > 1]
    assert len(gaps) <= 1
    assert not kept or (kept[0], kept[-1]) == (0, num_tokens - 1)


def test_nonsensical_cuts_are_refused():
    with pytest.raises(ValueError, match="at least 1 token"):
        truncate_middle([1], 0, style="longbench")
    with pytest.raises(ValueError, match="longbench, longbench_v2"):
        truncate_middle([1], 5, style="lveval")
