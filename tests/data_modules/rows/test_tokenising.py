"""What the tokens of a split depend on, and what was found in it."""

import datetime
import logging
from dataclasses import asdict, replace

import numpy as np
import pytest
from support.bpe_tokenizers import bpe_tokenizer
from support.word_pairs import FORMAT, LONGPO, SOLOPO_DPO, pair
from support.word_tokenizer import word_tokenizer

from data_modules.rows.positions import PositionSynthesis
from data_modules.rows.split_report import SplitReport
from data_modules.rows.tokenising import Tokenising, with_progress
from data_modules.rows.truncation import LengthPolicy
from lit_longpo.errors import InputError
from lit_longpo.policy import PromptFormat, PromptTemplate
from lit_longpo.policy.prompts.tokenizing import TextEncoder

BASE = Tokenising(FORMAT, SOLOPO_DPO, LengthPolicy())


def other_words():
    tokenizer = word_tokenizer()
    tokenizer.add_tokens(["another"])
    return PromptFormat(tokenizer, PromptTemplate())


CHANGES = {
    "template": {"prompt_format": PromptFormat(word_tokenizer(), PromptTemplate("{context} and {question}"))},
    "vocabulary": {"prompt_format": other_words()},
    "views": {"views": LONGPO},
    "margins": {"views": replace(SOLOPO_DPO, margins=True)},
    "length policy": {"lengths": LengthPolicy(64, "truncate")},
    "sharing": {"prefix_sharing": False},
    "positions": {"positions": PositionSynthesis(400)},
    "positions' seed": {"positions": PositionSynthesis(400, seed=1)},
    "source of long prompts": {"long_from_short": True},
}


def test_everything_that_tokens_depend_on_is_in_the_key():
    keys = [replace(BASE, **change).key("data") for change in CHANGES.values()]
    keys += [BASE.key("data"), BASE.key("other data")]
    assert len(set(keys)) == len(CHANGES) + 2
    again = Tokenising(PromptFormat(word_tokenizer(), PromptTemplate()), SOLOPO_DPO, LengthPolicy())
    assert again.key("data") == BASE.key("data")


def test_what_a_tokenizer_was_last_called_with_is_not_in_the_key():
    """It is in its state: such a cache was made anew again and again (huggingface/datasets 7982)."""
    tokenizer = word_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    key = replace(BASE, prompt_format=PromptFormat(tokenizer, PromptTemplate())).key("data")
    before = tokenizer.backend_tokenizer.to_str()
    tokenizer(["word1 word2", "word3"], truncation=True, max_length=1, padding="max_length")
    assert tokenizer.backend_tokenizer.to_str() != before
    assert replace(BASE, prompt_format=PromptFormat(tokenizer, PromptTemplate())).key("data") == key


def test_a_report_comes_back_from_json():
    tokenising, report = replace(BASE, positions=PositionSynthesis(60, 2)), SplitReport()
    pairs = [replace(pair(n, long=20 + 30 * n), weight=1.0 + n) for n in range(3)]
    assert len(list(tokenising.examples(pairs, report))) == 3
    assert report.positions == {"stretched": 2, "too_long": 1}
    assert (report.seams.checked, report.lengths.examples, report.weighted) == (3, 3, 2)
    assert SplitReport.of(asdict(report)) == report


@pytest.mark.parametrize("own", [{}, {"weight": 2.0}, {"margin": 3.2}])
def test_numbers_of_records_that_change_the_loss_are_said(own, caplog):
    """Published data calls a reward model's difference `margin`, which TRL's DPO passes over."""
    tokenising, report = replace(BASE, views=replace(SOLOPO_DPO, margins=True)), SplitReport()
    list(tokenising.examples([replace(pair(0), **own), pair(1)], report))
    with caplog.at_level(logging.INFO):
        tokenising.log_found("train", report, np.array([3]))
    said = [line for line in caplog.messages if line.startswith("train: 1 of 2 records have a `weight`")]
    assert len(said) == bool(own)


@pytest.mark.parametrize("end", ["", " <eos>", " word9"])
def test_an_end_that_the_chat_template_does_not_write_or_writes_as_text_is_said(end, caplog):
    template = "{% for m in messages %}word70 {{ m['content'] }}END {% endfor %}".replace("END", end)
    form = PromptFormat(word_tokenizer(chat_template=template), PromptTemplate("{context} {question}"))
    with caplog.at_level(logging.INFO):
        replace(BASE, prompt_format=form).log_found("train of a", SplitReport(), np.array([3]))
    said = "train of a: the chat template writes no end after answers; <eos> is trained as their end"
    assert (said in caplog.messages) == (not end)
    said = "train of a: the chat template ends answers with 'word9', which is text to this tokenizer: it is trained, "
    assert any(line.startswith(f"{said}and <eos> behind it") for line in caplog.messages) == ("word9" in end)


@pytest.mark.parametrize("markup", ["text", "control"])
def test_an_answer_that_begins_with_a_mark_of_the_template_is_said(markup, caplog):
    """As rendered data of gpt-oss has it (a channel before every answer): the mark was trained as text, unseen."""
    why = "{% if m['thinking'] is defined %}<|why|>{{ m['thinking'] }}{% endif %}"
    template = f"{{% for m in messages %}}<|turn|>{why}{{{{ m['content'] }}}}<|end|>{{% endfor %}}"
    template += "{% if add_generation_prompt %}<|turn|>{% endif %}"
    tokenizer = bpe_tokenizer("bytes", special=["<|turn|>", "<|end|>", "<|why|>"], chat_template=template)
    form, report = PromptFormat(tokenizer, PromptTemplate("{context} {question}", markup=markup)), SplitReport()
    answers = ("<|why|>Oslo", "Oslo", "why Oslo")
    pairs = [replace(pair(number), chosen=answer, rejected=("Rome",)) for number, answer in enumerate(answers)]
    tokenising = replace(BASE, prompt_format=form)
    assert len(list(tokenising.examples(pairs, report))) == 3
    tokenising.log_found("train", report, np.array([3]))
    assert report.marked == (markup == "text")
    assert ("train: 1 records have answers that write out a control token" in caplog.text) == (markup == "text")


@pytest.mark.parametrize("markup", ["text", "control"])
@pytest.mark.parametrize("chat", [True, False])
def test_an_answer_that_writes_out_a_new_control_token_is_said(chat, markup):
    """The rows of `added_special_tokens` stayed the mean of the others: every answer with one was trained as letters.

    `<s>` is HTML, the end of a turn closes an answer, and what documents say stays text without a word.
    """
    template = "{% for m in messages %}<|turn|>{{ m['content'] }}<|end|>{% endfor %}<|turn|>" if chat else None
    tokenizer = bpe_tokenizer("bytes", special=["<|turn|>", "<|end|>", "<cite>"], chat_template=template)
    form = PromptFormat(tokenizer, PromptTemplate("{context} {question}", markup=markup))
    answers = ("Oslo <cite> it is.", "Oslo, <s>not</s> Rome", f"Oslo{'<|end|>' if chat else '</s>'}", "Oslo")
    pairs = [replace(pair(number), chosen=answer, rejected=("Rome",)) for number, answer in enumerate(answers)]
    pairs[-1] = replace(pairs[-1], long_context="Facts about people <cite> are here.")
    report = SplitReport()
    cite = tokenizer.convert_tokens_to_ids("<cite>")
    examples = list(replace(BASE, prompt_format=form).examples(pairs, report))
    read = [cite in response.token_ids for group in examples[0].policy for response in group.responses]
    assert any(read) == (markup == "control")
    assert report.marked == (markup == "text")


_THINKS = "<think>Rome?</think>"
_OWN = "{% if m['thinking'] is defined %}<|why|>{{ m['thinking'] }}<|so|>{% endif %}{{ m['content'] }}"


@pytest.mark.parametrize(
    ("said", "opened", "told"),
    [
        (_OWN, "", True),  # gpt-oss, Ministral 3, Apertus: marks of their own
        ("{% if m['role'] == 'assistant' %}</think>{% endif %}{{ m['content'] }}", "", True),  # Kimi K2, Laguna
        ("{{ m['content'] }}", "</think>", True),  # DeepSeek V4, SmolLM3 without thinking
        ("{{ m['content'] }}", "<think>", True),  # Nemotron Nano 2
        ("{{ m['content'] }}", "", False),
        (f"{{{{ m['content'].replace('{_THINKS}', '{_THINKS}\n') }}}}", "", False),  # Qwen3, GLM 4.6
    ],
)
def test_thoughts_that_become_a_part_of_the_answer_are_told(said, opened, told, caplog):
    """R1's answers in the prompts of others: `</think><think>Rome?</think>Oslo` was trained without a word."""
    given = "{% if m['role'] == 'assistant' %}OPENED{% endif %}".replace("OPENED", opened)
    template = f"{{% for m in messages %}}<|turn|>{given}{said}<|end|>{{% endfor %}}"
    template += f"{{% if add_generation_prompt %}}<|turn|>{opened}{{% endif %}}"
    added = ["<think>", "</think>", "<|why|>", "<|so|>"]
    tokenizer = bpe_tokenizer("bytes", special=["<|turn|>", "<|end|>"], added=added, chat_template=template)
    form, report = PromptFormat(tokenizer, PromptTemplate("{context} {question}")), SplitReport()
    answers = (f"{_THINKS}Oslo", "Oslo", f"Oslo {_THINKS}")
    pairs = [replace(pair(number), chosen=answer, rejected=("Rome",)) for number, answer in enumerate(answers)]
    tokenising = replace(BASE, prompt_format=form)
    assert len(list(tokenising.examples(pairs, report))) == 3
    tokenising.log_found("train", report, np.array([3]))
    assert report.other_thoughts == told
    assert ("train: 1 records have answers with <think>...</think> where" in caplog.text) == told


@pytest.mark.parametrize("writes", [True, False])
def test_answers_with_thoughts_are_examples_where_the_prompt_opens_thoughts(writes):
    """The probe of an answer has none."""
    said = "{{ m['content'] }}" if writes else "{{ m['content'].split('</think>')[-1] }}"
    template = f"{{% for m in messages %}}<|turn|>{said}</s>{{% endfor %}}"
    template += "{% if add_generation_prompt %}<|turn|><think>{% endif %}"
    tokenizer = bpe_tokenizer("bytes", special=["<|turn|>"], added=["<think>", "</think>"], chat_template=template)
    tokenising = replace(BASE, prompt_format=PromptFormat(tokenizer, PromptTemplate("{context} {question}")))
    if not writes:
        with pytest.raises(InputError, match="none can be trained"):
            tokenising.key("data")
        return
    answers = ("<think>North.</think>Oslo", "<think>South.</think>Rome")
    chosen, rejected = (tokenising.prompt_format.encode_response(answer) for answer in answers)
    report, key = SplitReport(), tokenising.key("data")
    (example,) = tokenising.examples([replace(pair(0), chosen=answers[0], rejected=answers[1:])], report)
    assert {response.token_ids for group in example.policy for response in group.responses} == {chosen, rejected}
    assert report.seams.differing == 0
    assert key != BASE.key("data")


def test_pairs_pass_with_and_without_a_bar(monkeypatch):
    monkeypatch.setattr("rich.console.Console.is_terminal", property(lambda _: True))
    assert list(with_progress([1, 2, 3], "train")) == [1, 2, 3]
    assert list(with_progress([1, 2, 3], "train", shown=False)) == [1, 2, 3]


def test_a_template_that_tells_the_day_tokenises_anew_tomorrow(monkeypatch):
    class Tomorrow(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2031, 5, 6)

    pytest.importorskip("jinja2")
    tokenizer = word_tokenizer()
    tokenizer.chat_template = (
        "{{ strftime_now('word%d') }} {% for m in messages %}{{ m['role'] }} {{ m['content'] }} {{ eos_token }}"
        "{% endfor %}{% if add_generation_prompt %}assistant {% endif %}"
    )

    def key():
        form = PromptFormat(tokenizer, PromptTemplate(date=None))
        return Tokenising(form, SOLOPO_DPO, LengthPolicy()).key("data")

    today = key()
    assert key() == today
    monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", Tomorrow)
    from transformers.utils import chat_template_utils

    chat_template_utils._compile_jinja_template.cache_clear() if hasattr(
        chat_template_utils._compile_jinja_template, "cache_clear"
    ) else None
    assert key() != today


def test_a_text_is_encoded_no_oftener_than_it_takes(monkeypatch):
    encoded = list[str]()
    whole = TextEncoder.encode

    def counting(self, text, data=()):
        encoded.append(text)
        return whole(self, text, data)

    form = PromptFormat(word_tokenizer(), PromptTemplate())
    tokenising = Tokenising(form, SOLOPO_DPO, LengthPolicy())
    list(tokenising.examples([pair(0)], SplitReport()))  # which also encodes what stands before answers
    monkeypatch.setattr(TextEncoder, "encode", counting)
    list(tokenising.examples([pair(1)], SplitReport()))
    # Two prompts and two answers for the rows; two prompts and three sequences whose seams are compared.
    assert len(encoded) == 9
