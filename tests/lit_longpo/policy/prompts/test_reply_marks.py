"""Replies whose thoughts stand between special tokens, which vanish when text is decoded."""

import pytest
from support.bpe_tokenizers import bpe_tokenizer
from support.chat_formats import chat_bpe_tokenizer
from support.word_tokenizer import word_tokenizer
from transformers import PreTrainedTokenizerFast

from lit_longpo.policy import PromptFormat, PromptTemplate
from lit_longpo.policy.prompts.thoughts import is_thinking, without_thoughts

_TURN = "{% for m in messages %}<|start|>{{ m['role'] }}ANSWER<|text|>{{ m['content'] }}<|end|>{% endfor %}"
_NEXT = "{% if add_generation_prompt %}<|start|>assistantOPENED{% endif %}"
_MARKS = ("<|start|>", "<|text|>", "<|end|>", "<|why|>", "<|so|>")
# What stands before an answer's text: with thoughts and without, and what the prompt ends in.
CHANNELS = ("<|why|>word<|text|>{{ m['thinking'] }}<|end|><|start|>assistant", "<|so|>final", "")  # as gpt-oss
OPENED = ("<|why|>{{ m['thinking'] }}<|so|>", "<|why|><|so|>", "<|why|>")  # as Cohere 2 MoE


def tokenizer_of(thinking: str, answer: str, opened: str) -> PreTrainedTokenizerFast:
    behind = answer if "final" in answer else ""
    parts = "{% if m['thinking'] is defined %}BOTH{% elif m['role'] == 'assistant' %}ALONE{% endif %}"
    parts = parts.replace("BOTH", thinking + behind).replace("ALONE", answer)
    template = _TURN.replace("ANSWER", parts) + _NEXT.replace("OPENED", opened)
    return bpe_tokenizer("bytes", special=_MARKS, eos="<|end|>", bos=None, chat_template=template)


def reply_of(tokenizer: PreTrainedTokenizerFast, text: str, **fields: str) -> list[int]:
    """What transformers writes behind the prompt, less the end."""
    asked = {"role": "user", "content": "Where?"}
    prompt = tokenizer.apply_chat_template([asked], add_generation_prompt=True)["input_ids"]
    whole = tokenizer.apply_chat_template([asked, {"role": "assistant", "content": text, **fields}])["input_ids"]
    assert whole[: len(prompt)] == prompt
    return whole[len(prompt) : -1]


@pytest.mark.parametrize("parts", [CHANNELS, OPENED], ids=["channels", "opened"])
def test_an_answer_is_told_from_its_thoughts_and_from_what_stands_before_it(parts):
    """The reply read `wordRome? No.assistantfinalOslo`, and a trained one `finalOslo`."""
    tokenizer = tokenizer_of(*parts)
    form = PromptFormat(tokenizer, PromptTemplate())
    thought = form.decode(reply_of(tokenizer, "Oslo", thinking="Rome? No."))
    assert "Rome? No." in thought
    assert without_thoughts(thought) == "Oslo"
    assert form.decode(reply_of(tokenizer, "Oslo")) == "Oslo"
    assert form.decode(form.encode_response("Oslo")) == "Oslo"  # as it is trained


def test_a_system_message_of_the_settings_hides_no_thoughts():
    """They were one with the answer then."""
    tokenizer = tokenizer_of(*CHANNELS)
    form = PromptFormat(tokenizer, PromptTemplate(system="Be brief."))
    thought = form.decode(reply_of(tokenizer, "Oslo", thinking="Rome? No."))
    assert without_thoughts(thought) == "Oslo"
    assert "Rome? No." in thought
    assert is_thinking(form.decode(reply_of(tokenizer, "Oslo", thinking="Rome? No.")[:6]))


@pytest.mark.parametrize("parts", [CHANNELS, OPENED], ids=["channels", "opened"])
def test_a_reply_that_is_cut_off_in_its_thoughts_has_no_answer(parts):
    tokenizer = tokenizer_of(*parts)
    form = PromptFormat(tokenizer, PromptTemplate())
    cut = form.decode(reply_of(tokenizer, "Oslo", thinking="Rome? No.")[:6])
    assert is_thinking(cut)
    assert without_thoughts(cut) == ""


_PART = "{% for p in m['content'] %}{% if p.type == 'thinking' %}<|why|>THOUGHT<|so|>{% else %}{{ p.text }}{% endif %}"
_MISTRAL, _APERTUS = (
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}PARTS{% endfor %}{% endif %}".replace("PARTS", parts)
    for parts in (
        _PART.replace("THOUGHT", "{{ p.thinking }}"),
        "{% for p in m['content'].blocks %}{% if p.type == 'thoughts' %}<|why|>{{ p.text }}<|so|>"
        "{% else %}{{ p.text }}{% endif %}",
    )
)
_LISTS = _MISTRAL.replace("{{ p.thinking }}", "{% for t in p.thinking %}{{ t['text'] }}{% endfor %}")
_THOUGHT = {"type": "thinking", "thinking": "Rome? No."}
_OSLO = {"type": "text", "text": "Oslo"}


@pytest.mark.parametrize(
    ("template", "content"),
    [
        (_MISTRAL, [_THOUGHT, _OSLO]),  # Magistral, Ministral 3
        (_LISTS, [_THOUGHT | {"thinking": [{"type": "text", "text": "Rome? No."}]}, _OSLO]),  # mistral-common's
        (_APERTUS, {"blocks": [{"type": "thoughts", "text": "Rome? No."}, {"type": "response", "text": "Oslo"}]}),
    ],
    ids=["mistral", "mistral-common", "apertus"],
)
def test_thoughts_that_templates_read_from_parts_of_the_content(template, content):
    """The reply read `Rome? No.Oslo`, the answer with its thoughts in one (vllm#38855's kind)."""
    text = _TURN.replace("ANSWER", "").replace("{{ m['content'] }}", template) + _NEXT.replace("OPENED", "")
    tokenizer = bpe_tokenizer("bytes", special=_MARKS, eos="<|end|>", bos=None, chat_template=text)
    form, asked = PromptFormat(tokenizer, PromptTemplate()), {"role": "user", "content": "Where?"}
    said = [asked, {"role": "assistant", "content": content}]
    written = tokenizer.apply_chat_template(said, tokenize=False).partition("assistant<|text|>")[2]
    reply = form.decode(tokenizer.encode(written, add_special_tokens=False)[:-1])
    assert reply == "<think>Rome? No.</think>Oslo"
    assert without_thoughts(reply) == "Oslo"
    assert form.decode(form.encode_response("Oslo")) == "Oslo"


@pytest.mark.parametrize("kind", ["reads", "opens", "plain"])
def test_thoughts_whose_marks_are_special_tokens_are_still_between_them(kind):
    """verl#1724: a tokenizer that has <think> as a special token; the template may read thoughts, or open them."""
    template = (
        "{% for m in messages %}<|start|>{{ m['role'] }}\n{% if m['reasoning_content'] is defined %}<think>\n"
        "{{ m['reasoning_content'] }}\n</think>\n\n{% endif %}{{ m['content'] }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|start|>assistant\nOPENED{% endif %}"
    )
    template = template.replace("OPENED", "<think>\n" if kind == "opens" else "")
    marks = ("<|start|>", "<|end|>", "<think>", "</think>")
    chat = None if kind == "plain" else template
    tokenizer = bpe_tokenizer("bytes", special=marks, eos="<|end|>", bos=None, chat_template=chat)
    form, written = PromptFormat(tokenizer, PromptTemplate()), "<think>\nRome?\n</think>\n\nOslo"
    ids = tokenizer.encode(written, add_special_tokens=False)
    if kind == "opens":
        ids = ids[2:]
    else:  # an answer is trained in the tokens of transformers
        assert form.encode_response(written)[:-1] == tuple(ids)
    assert without_thoughts(form.decode(ids)) == "Oslo"
    assert "Rome?" in form.decode(ids)
    assert is_thinking(form.decode(ids[:3]), opened=form.opens_thoughts)


@pytest.mark.parametrize("name", ["chatml", "qwen3", "llama3", "mistral"])
def test_other_replies_are_read_as_they_are_written(name):
    tokenizer = chat_bpe_tokenizer(name)
    form = PromptFormat(tokenizer, PromptTemplate())
    for text in ("<think>\nRome?\n</think>\n\nOslo", " Oslo and  Rome\n", "<think>\nRome?"):
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert form.decode_reply(ids) == text


def test_an_end_that_the_tokenizer_does_not_know_is_none():
    """ChatML behind a vocabulary of words: its unknown token was the end of answers, and of every generated one."""
    chatml = (
        "{% for m in messages %}word7 {{ m['content'] }} <|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}word7 {% endif %}"
    )
    tokenizer = word_tokenizer(chat_template=chatml)
    form = PromptFormat(tokenizer, PromptTemplate())
    assert form.end_id == tokenizer.eos_token_id != tokenizer.unk_token_id
    assert form.stop_ids == (tokenizer.eos_token_id,)
    assert form.encode_response("word3")[-1] == tokenizer.eos_token_id
    assert form.closing_text == "<|im_end|>"  # told as text before a training


@pytest.mark.parametrize("end", ["", "{{ eos_token }}", "{% if m['role'] == 'assistant' %}</s>{% endif %}"])
def test_a_reply_ends_where_the_template_ends_answers_though_it_is_text(end):
    """A template of marks that the tokenizer does not have: the reply read `Oslo<|im_end|>`."""
    turn = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>END\n{% endfor %}"
    turn = turn.replace("END", end)
    template = turn + "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    form = PromptFormat(bpe_tokenizer("bytes", chat_template=template), PromptTemplate())
    trained = form.encode_response("Oslo")
    assert form.tokenizer.decode(trained) == "Oslo<|im_end|></s>"
    assert (form.closing_text, form.decode(trained)) == ("<|im_end|>", "Oslo")
    assert form.decode([*trained[:-1], *form.encode("\n<|im_start|>user")]) == "Oslo"
    assert PromptFormat(chat_bpe_tokenizer("chatml"), PromptTemplate()).closing_text == ""
    assert PromptFormat(bpe_tokenizer("bytes"), PromptTemplate()).closing_text == ""
