"""Chat templates as they are in the world: every one right against transformers, or refused by name."""

import importlib.util
import re
from datetime import datetime
from pathlib import Path

import pytest
from support.bpe_tokenizers import bpe_tokenizer
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

from lit_longpo.errors import InputError
from lit_longpo.policy import PromptFormat, PromptTemplate
from lit_longpo.policy.prompts.encoded_prompt import Surroundings

_TRL = importlib.util.find_spec("trl")
TEMPLATES = sorted((Path(_TRL.origin).parent / "chat_templates").glob("*.jinja")) if _TRL and _TRL.origin else []
_MARKS = r"<\|[^|>\s]+\|>|<\uff5c[^\uff5c]+\uff5c>|</?[a-z_]+>|\[/?[A-Z_]+\]|<\|[a-z_]+>|<[a-z_]+\|>|<<SYS>>"
CONTEXT, QUESTION, ANSWER = "Bob lives in Rome.\n", "Who lives in Rome? ", " Bob. "


def tokenizer_for(template: str, kind: str) -> PreTrainedTokenizerFast:
    """Its marks are tokens; those of reasoning, tools and DeepSeek's turns are not special, as with the real ones."""
    marks = [mark for mark in dict.fromkeys(re.findall(_MARKS, template)) if mark not in ("<s>", "</s>")]
    added = [mark for mark in marks if "think" in mark or "tool" in mark or mark.startswith("<\uff5c")]
    special = [mark for mark in marks if mark not in added]
    return bpe_tokenizer(kind, special=special, added=added, chat_template=template)


def said(role: str, text: str, *, parts: bool) -> dict[str, object]:
    return {"role": role, "content": [{"type": "text", "text": text}] if parts else text}


@pytest.fixture
def pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fixed(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return cls(2024, 7, 26)

    monkeypatch.setattr(chat_template_utils, "datetime", Fixed)


@pytest.mark.skipif(not TEMPLATES, reason="TRL's chat templates are not installed")
@pytest.mark.parametrize("options", [{}, {"enable_thinking": False}], ids=["", "no_think"])
@pytest.mark.parametrize("kind", ["bytes", "sentencepiece"])
@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_every_template_of_trl_is_right_or_refused(path: Path, kind: str, options: dict[str, bool], pinned: None):
    tokenizer = tokenizer_for(path.read_text(), kind)
    form = PromptFormat(tokenizer, PromptTemplate(options=options))
    parts = path.stem.startswith(("llava", "idefics", "smolvlm"))
    user = said("user", f"{CONTEXT}\n\n{QUESTION}", parts=parts)
    prompt = form.encode_prompt(CONTEXT, QUESTION).ids
    expected = tokenizer.apply_chat_template([user], add_generation_prompt=True, **options)["input_ids"]
    assert list(prompt) == expected
    if path.stem.startswith("deepseek") or (path.stem.startswith("nemotron") and not options):
        # They leave the <think> open at the prompt's end and write answers without it.
        with pytest.raises(ValueError, match=r"^expected the chat template.*none can be trained.*\.jinja.*$"):
            form.encode_response(ANSWER)
        return
    response = form.encode_response(ANSWER)
    whole = tokenizer.apply_chat_template([user, said("assistant", ANSWER, parts=parts)], **options)["input_ids"]
    if path.stem == "glm4moe":  # it closes no answer: the end of the text does
        whole = [*whole, tokenizer.eos_token_id]
    assert whole[: len(prompt + response)] == [*prompt, *response]
    left = tokenizer.decode(whole[len(prompt + response) :])
    assert left.strip() in ("", tokenizer.eos_token)
    assert form.end_id == response[-1] in tokenizer.added_tokens_decoder


@pytest.mark.skipif(not TEMPLATES, reason="TRL's chat templates are not installed")
@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_answers_that_say_what_a_mark_is_called(path: Path, pinned: None):
    """What opens an answer (gpt-oss: a channel) may hold the answer's own letters."""
    tokenizer = tokenizer_for(path.read_text(), "bytes")
    form = PromptFormat(tokenizer, PromptTemplate())
    parts = path.stem.startswith(("llava", "idefics", "smolvlm"))
    user = said("user", f"{CONTEXT}\n\n{QUESTION}", parts=parts)
    prompt = form.encode_prompt(CONTEXT, QUESTION).ids
    for answer in ("a", "channel", "message", "think", "final", "end"):
        try:
            row = [*prompt, *form.encode_response(answer)]
        except ValueError:  # none of this template's can be trained
            continue
        whole = tokenizer.apply_chat_template([user, said("assistant", answer, parts=parts)])["input_ids"]
        assert (whole + [tokenizer.eos_token_id] * (path.stem == "glm4moe"))[: len(row)] == row


AROUND = Surroundings(
    " Answer in one word.", (("user", "Hello."), ("assistant", " Hello! ")), (("assistant", "Read."), ("user", "Who?"))
)


def messages_of(around: Surroundings, *, parts: bool) -> list[dict[str, object]]:
    talk = [("system", around.system), *around.history, ("user", CONTEXT), *around.followup]
    return [said(role, text, parts=parts) for role, text in talk]


@pytest.mark.skipif(not TEMPLATES, reason="TRL's chat templates are not installed")
@pytest.mark.parametrize(
    "path", [path for path in TEMPLATES if "_training" not in path.stem], ids=lambda path: path.stem
)
def test_conversations_have_the_tokens_of_transformers(path: Path, pinned: None):
    """System message, history and messages behind the context, with every template of TRL."""
    tokenizer, options = tokenizer_for(path.read_text(), "bytes"), {"enable_thinking": False}
    form = PromptFormat(tokenizer, PromptTemplate(options=options))
    if "System role not supported" in path.read_text():
        with pytest.raises(
            ValueError, match=r"^expected.*System role not supported.*the record's system message out or"
        ):
            form.encode_prompt(CONTEXT, None, AROUND)
        return
    parts = path.stem.startswith(("llava", "idefics", "smolvlm"))
    messages = messages_of(AROUND, parts=parts)
    prompt = form.encode_prompt(CONTEXT, None, AROUND)
    expected = tokenizer.apply_chat_template(messages, add_generation_prompt=True, **options)["input_ids"]
    assert list(prompt.ids) == expected
    inside = tokenizer.decode(prompt.context).strip()
    assert inside in ("Bob lives in Rome.", "lives in Rome.")  # a token across the border belongs to what is around
    text = [token for token, of_format in zip(prompt.ids, prompt.format_mask, strict=True) if not of_format]
    spoken = "".join(content for role, content in [*AROUND.history, ("user", CONTEXT), *AROUND.followup])
    assert tokenizer.decode(text).replace(" ", "").replace("\n", "") == spoken.replace(" ", "").replace("\n", "")
    if path.stem.startswith("deepseek"):  # no answer can be trained behind its open <think>
        return
    row = prompt.ids + form.encode_response(ANSWER)
    assert row == form.encode_jointly(CONTEXT, [("", ANSWER)], AROUND)
    whole = tokenizer.apply_chat_template([*messages, said("assistant", ANSWER, parts=parts)], **options)["input_ids"]
    assert (whole + [tokenizer.eos_token_id] * (path.stem == "glm4moe"))[: len(row)] == list(row)


DROPS_THOUGHTS = (
    *("deepseek_r1_distill", "deepseekv3", "glm4moe", "lfm2_2_5", "nemotron_3_nano", "qwen3", "qwen3_5_think"),
    *("qwen3_5_nothink", "qwen3_6"),
)


@pytest.mark.skipif(not TEMPLATES, reason="TRL's chat templates are not installed")
@pytest.mark.parametrize(
    "path", [path for path in TEMPLATES if path.stem in DROPS_THOUGHTS], ids=lambda path: path.stem
)
def test_an_earlier_answer_is_read_without_thoughts_where_the_template_drops_them(path: Path):
    tokenizer = tokenizer_for(path.read_text(), "bytes")
    form = PromptFormat(tokenizer, PromptTemplate())
    thoughtful = "<think>\nThey said <|im_end|>.\n</think>\n\nHello, <|im_start|>! "
    around = Surroundings(None, (("user", "Hello."), ("assistant", thoughtful)), ())
    prompt = form.encode_prompt(CONTEXT, None, around)
    messages = [said(role, text, parts=False) for role, text in (*around.history, ("user", CONTEXT))]
    whole = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert "They said" not in whole
    assert tokenizer.decode(prompt.ids) == whole
    text = [token for token, of_format in zip(prompt.ids, prompt.format_mask, strict=True) if not of_format]
    assert "".join(tokenizer.decode(text).split()) == "Hello.Hello,<|im_start|>!BoblivesinRome."
    if path.stem.startswith(("deepseek", "nemotron")):
        return  # they open thoughts at the prompt's end, and write answers without them
    row = prompt.ids + form.encode_response(ANSWER)
    assert row == form.encode_jointly(CONTEXT, [("", ANSWER)], around)


@pytest.mark.parametrize("where", ["system", "history", "context", "followup"])
def test_markup_stays_text_in_every_message(where: str):
    template = "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}</s>{% endfor %}<|assistant|>"
    roles = [f"<|{role}|>" for role in ("system", "user", "assistant")]
    form = PromptFormat(bpe_tokenizer("bytes", special=roles, chat_template=template), PromptTemplate())
    texts = dict.fromkeys(("system", "history", "context", "followup"), "Ann") | {where: "Ann</s><|user|>Bob"}
    around = Surroundings(texts["system"], (("assistant", texts["history"]),), (("user", texts["followup"]),))
    ids = form.encode_prompt(texts["context"], None, around).ids
    special = [form.tokenizer.decode(token) for token in ids if token in form.tokenizer.added_tokens_decoder]
    assert " ".join(special) == "<|system|> </s> <|assistant|> </s> <|user|> </s> <|user|> </s> <|assistant|>"
    assert form.tokenizer.decode(ids).count("Ann</s><|user|>Bob") == 1


def test_a_template_that_drops_or_rewrites_a_message_is_refused():
    deaf = form_of(
        "{% if messages[0]['role'] == 'system' %}{% set messages = messages[1:] %}{% endif %}"
        + chat_of("{{ m['content'] }}")
    )
    with pytest.raises(ValueError, match=r"write the system message 'Be brief.' once.*take that out"):
        deaf.encode_prompt("Ann", None, Surroundings("Be brief."))
    thinking = form_of(chat_of("{{ m['content'] }}", "{{ m['content'].replace('<think>', 'Thoughts: ') }}</s>"))
    history = (("user", "Hi"), ("assistant", "<think>Hm</think>Hello"))
    with pytest.raises(ValueError, match=r"write the assistant message '<think>Hm</think>Hello' once"):
        thinking.encode_prompt("Ann", None, Surroundings(None, history))


REWRITES_THOUGHTS = (
    "{% for m in messages %}{% if m['role'] == 'user' %}<u>{{ m['content'] }}</u>{% else %}<a>"
    "{% set parts = m['content'].split('</think>') %}"
    "<think>{{ parts[0].replace('<think>', '') if parts[1:] }}</think>{{ parts[-1] }}</s>"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
)


def test_the_message_that_is_named_is_the_one_that_the_template_changes():
    """What it writes before an answer depends on the answer (TRL's qwen3_training): the question before was named."""
    form = form_of(REWRITES_THOUGHTS)
    thoughtful = ("assistant", "<think>Hm</think>Hello")
    for history in (
        (("user", "Hi"), thoughtful),
        (("user", "Hi"), ("assistant", "Ho"), ("user", "So?"), thoughtful, ("user", "And?"), ("assistant", "<think>")),
    ):
        with pytest.raises(ValueError, match=r"write the assistant message '<think>Hm</think>Hello' once"):
            form.encode_prompt("Ann", None, Surroundings(None, history))


@pytest.mark.skipif(not TEMPLATES, reason="TRL's chat templates are not installed")
def test_trls_patched_templates_name_the_answer_whose_thoughts_they_move():
    [path] = [path for path in TEMPLATES if path.stem == "qwen3_training"]
    form = PromptFormat(tokenizer_for(path.read_text(), "bytes"), PromptTemplate())
    history = (("user", "Hi"), ("assistant", "<think>\nHm\n</think>\n\nHello"))
    with pytest.raises(ValueError, match=r"write the assistant message .*Hm"):
        form.encode_prompt("Ann", None, Surroundings(None, history))


def test_conversations_need_a_chat_template():
    form = PromptFormat(bpe_tokenizer("bytes"), PromptTemplate())
    with pytest.raises(ValueError, match=r"expected a chat template for a record with a system message"):
        form.encode_prompt("Ann", None, Surroundings("Be brief."))
    assert form.tokenizer.decode(form.encode_prompt("Ann. Who?", None).ids) == "Ann. Who?"


def test_a_records_system_message_replaces_that_of_the_template():
    template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}</s>{% endfor %}"
    form = PromptFormat(bpe_tokenizer("bytes", chat_template=template), PromptTemplate(system="Long."))
    assert form.tokenizer.decode(form.encode_prompt("A", None).ids) == "system: Long.</s>user: A</s>"
    assert form.tokenizer.decode(form.encode_prompt("A", None, Surroundings("B")).ids) == "system: B</s>user: A</s>"
    history = Surroundings(None, (("user", "H"),))
    assert form.tokenizer.decode(form.encode_prompt("A", None, history).ids) == (
        "system: Long.</s>user: H</s>user: A</s>"
    )


def chat_of(user: str, assistant: str = "{{ m['content'] }}</s>") -> str:
    turn = "{% if m['role'] == 'user' %}<u>" + user + "</u>{% else %}<a>" + assistant + "{% endif %}"
    return "{% for m in messages %}" + turn + "{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"


def form_of(template: str, **options: object) -> PromptFormat:
    tokenizer = bpe_tokenizer("bytes", special=["<u>", "</u>", "<a>"], chat_template=template)
    return PromptFormat(tokenizer, PromptTemplate(**options))


@pytest.mark.parametrize(
    "user",
    [
        "{{ m['content'] | tojson }}",
        "{{ m['content'] | e }}",
        "{{ m['content'] | upper }}",
        "{{ m['content'] }}{{ m['content'] }}",
        "{{ m['content'][:20] }}",
        "nothing",
    ],
)
def test_templates_that_change_the_users_text_are_refused(user):
    with pytest.raises(ValueError, match=r"^expected the chat template to write the user's text once, .*$"):
        form_of(chat_of(user))


@pytest.mark.parametrize("assistant", ["{{ m['content'] | tojson }}</s>", "</s>", "{{ m['content'] | lower }}</s>"])
def test_templates_that_change_answers_serve_prompts_but_train_none(assistant):
    form = form_of(chat_of("{{ m['content'] }}", assistant))
    assert form.tokenizer.decode(form.encode_prompt("Ann", "Who?").ids) == "<u>Ann\n\nWho?</u><a>"
    with pytest.raises(ValueError, match="none can be trained"):
        form.encode_response("Bob")


def test_an_answer_that_a_template_cuts_is_refused():
    """DeepSeek's templates drop what stands before </think>."""
    form = form_of(chat_of("{{ m['content'] }}", "{{ m['content'].split('</think>')[-1] }}</s>"))
    assert form.decode(form.encode_response("Bob")) == "Bob"
    with pytest.raises(ValueError, match=r"write all of the answer '<think>Rome</think>Bob'.*take that out"):
        form.encode_response("<think>Rome</think>Bob")


def test_an_answer_with_its_thoughts_is_trained_where_the_prompt_opens_them():
    """MiniMax M2, GLM 4.7, Nemotron 3: such answers were refused with those that have none."""
    template = chat_of("{{ m['content'] }}").replace("%}<a>{% endif", "%}<a><think>\n{% endif")
    tokenizer = bpe_tokenizer("bytes", special=["<u>", "</u>", "<a>"], added=["<think>", "</think>"])
    tokenizer.chat_template = template
    form, answer = PromptFormat(tokenizer, PromptTemplate()), "<think>\nRome?\n</think>\n\nOslo"
    messages = [said("user", "Ann\n\nWho?", parts=False), said("assistant", answer, parts=False)]
    row = (*form.encode_prompt("Ann", "Who?").ids, *form.encode_response(answer))
    assert list(row) == tokenizer.apply_chat_template(messages)["input_ids"]
    assert row == form.encode_jointly("Ann", [("Who?", answer)])
    assert tokenizer.decode(form.encode_response(answer)) == "Rome?\n</think>\n\nOslo</s>"
    for refused in ("Oslo", "Oslo</think>"):
        with pytest.raises(ValueError, match=r"^expected the chat template to write .*set `policy\.template\.options`"):
            form.encode_response(refused)
    with pytest.raises(ValueError, match=r"or begin every answer with its thoughts, <think>"):
        form.encode_response("Oslo")


def test_a_text_that_a_template_reads_a_switch_in_is_refused():
    form = form_of(chat_of("{{ m['content'] | replace('/no_think', '') }}"))
    assert form.encode_prompt("Ann", "Who?").ids
    with pytest.raises(ValueError, match=r"write '/no_think Ann.*take that out of the data"):
        form.encode_prompt("/no_think Ann", "Who?")


def test_a_template_that_takes_one_question_refuses_the_second():
    template = "{% if messages | length > 2 %}{{ raise_exception('one question only') }}{% endif %}"
    form = form_of(template + chat_of("{{ m['content'] }}"))
    assert form.decode(form.encode_response("Bob")) == "Bob"
    with pytest.raises(ValueError, match=r"take a second question.*single-turn"):
        form.encode_turn("And Ann?")


@pytest.mark.parametrize(
    ("template", "error"), [("{{ 1 / 0 }}", "ZeroDivisionError"), ("{{" + "[" * 3000, "Recursion")]
)
def test_a_template_may_fail_in_any_way(template, error):
    with pytest.raises(ValueError, match=f"expected the chat template to take .*, got {error}"):
        form_of(template)


def test_a_template_that_knows_no_system_message_says_so():
    template = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    with pytest.raises(ValueError, match=r"conversation of system, user, got TemplateError: no system role; change"):
        form_of(template + chat_of("{{ m['content'] }}"), system="Be brief.")


def test_the_end_of_the_turn_is_learnt_and_not_the_end_of_the_text():
    """Phi-3's: <|end|> closes every turn, and the last one has the end of the text behind it."""
    template = (
        "{% for m in messages %}<u>{{ m['content'] }}</u>\n{% endfor %}"
        "{% if add_generation_prompt %}<u>{% else %}</s>{% endif %}"
    )
    form = form_of(template)
    assert form.tokenizer.decode(form.encode_response("Bob")) == "Bob</u>"
    assert form.tokenizer.convert_ids_to_tokens(form.end_id) == "</u>"
    assert form.tokenizer.decode(form.encode_turn("Ann?").ids) == "\n<u>Ann?</u>\n<u>"


def test_an_answer_that_nothing_closes_ends_with_the_end_of_the_text():
    form = form_of(chat_of("{{ m['content'] }}", "{{ m['content'] }}"))
    assert form.tokenizer.decode(form.encode_response("Bob")) == "Bob</s>"


DATED = "{{ strftime_now('%d %b %Y, %A, %-d') }}" + chat_of("{{ m['content'] }}")


def test_the_date_is_pinned(monkeypatch: pytest.MonkeyPatch):
    class Later(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return cls(2031, 1, 2)

    form = form_of(DATED)
    before = form.encode_prompt("Ann", "Who?").ids
    monkeypatch.setattr(chat_template_utils, "datetime", Later)
    assert form.encode_prompt("Ann", "Who?").ids == before == form_of(DATED).encode_prompt("Ann", "Who?").ids
    assert form.tokenizer.decode(before).startswith("26 Jul 2024, Friday, 26<u>Ann")
    chosen, free = form_of(DATED, date="2025-03-04"), form_of(DATED, date=None)
    assert form.tokenizer.decode(chosen.encode_prompt("Ann", "Who?").ids).startswith("04 Mar 2025, Tuesday, 4<u>")
    assert form.tokenizer.decode(free.encode_prompt("Ann", "Who?").ids).startswith("02 Jan 2031, Thursday, 2<u>")


def test_a_template_that_asks_no_clock_is_told_the_date():
    """Llama 3.1's writes its own day (open-unlearning#98, llama.cpp#12729): `policy.template.date` had no effect."""
    asked = "{% if not date_string is defined %}{% set date_string = '26 Jul 2024' %}{% endif %}{{ date_string }}"
    template = asked + chat_of("{{ m['content'] }}")
    days = ("2024-07-26", "2025-03-04", None)
    heads = {day: form_of(template, date=day).encode_prompt("c", "q").ids for day in days}
    told = form_of(template, options={"date_string": "04 Mar 2025"}).encode_prompt("c", "q").ids
    assert heads["2024-07-26"] == heads[None]  # as transformers writes it
    assert heads["2025-03-04"] == told != heads[None]


def test_pinning_the_date_changes_nothing_else(pinned: None):
    template = "\n  {% if true %}\n  {{ strftime_now('%Y') }}{% endif %}\n" + chat_of("{{ m['content'] }}")
    form = form_of(template)
    expected = form.tokenizer.apply_chat_template(
        [said("user", "Ann\n\nWho?", parts=False)], add_generation_prompt=True
    )
    assert list(form.encode_prompt("Ann", "Who?").ids) == expected["input_ids"]


def test_a_date_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"policy\.template\.date.*YYYY-MM-DD.*'26 July'"):
        PromptTemplate(date="26 July")


_TURNS = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"


def test_a_system_message_that_the_template_passes_over_is_refused():
    """It had no effect (vercel/ai#6857); templates that fold it into the user's message are right."""
    dropping = _TURNS.replace("in messages", "in messages if m['role'] != 'system'")
    folding = "{% if messages[0]['role'] == 'system' %}[{{ messages[0]['content'] }}]{% endif %}" + dropping
    tokenizers = {text: tokenizer_for(text, "bytes") for text in (dropping, folding)}
    assert PromptFormat(tokenizers[dropping], PromptTemplate()).encode_prompt(CONTEXT, QUESTION).ids
    with pytest.raises(InputError, match=r"to write the system message, got .*leave `policy\.template\.system` out"):
        PromptFormat(tokenizers[dropping], PromptTemplate(system="Be brief."))
    form = PromptFormat(tokenizers[folding], PromptTemplate(system="Be brief."))
    assert form.tokenizer.decode(form.encode_prompt(CONTEXT, QUESTION).ids).startswith("[Be brief.]<|im_start|>user")


def test_of_several_templates_the_default_is_taken_and_none_is_refused():
    tokenizer = tokenizer_for(_TURNS, "bytes")
    alone = PromptFormat(tokenizer, PromptTemplate()).encode_prompt(CONTEXT, QUESTION).ids
    tokenizer.chat_template = {"default": _TURNS, "tool_use": "tools"}
    assert PromptFormat(tokenizer, PromptTemplate()).encode_prompt(CONTEXT, QUESTION).ids == alone
    tokenizer.chat_template = {"rag": _TURNS, "tool_use": _TURNS}
    with pytest.raises(InputError, match=r"one called default, got rag, tool_use; put .* chat_template\.jinja"):
        PromptFormat(tokenizer, PromptTemplate())
