import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.bpe_tokenizers import bpe_tokenizer
from support.chat_formats import FORMATS, chat_bpe_tokenizer
from support.word_tokenizer import WORDS, word_tokenizer

from lit_longpo.errors import InputError
from lit_longpo.policy import PromptFormat, PromptTemplate

CHAT = (
    "{% for m in messages %}word70 {{ {'system': 'word71', 'user': 'word72', 'assistant': 'word74'}[m['role']] }} "
    "{{ m['content'] }} word73 {% endfor %}{% if add_generation_prompt %}word70 word74 {% endif %}"
)
texts = st.lists(st.sampled_from(WORDS[:60]), max_size=8).map(" ".join)
plain = PromptFormat(word_tokenizer(), PromptTemplate(user="{context} Question: {question} Answer:"))
chat = PromptFormat(word_tokenizer(chat_template=CHAT), PromptTemplate(system="word9"))


@given(context=texts, question=texts)
def test_parts_join_to_the_whole_prompt(context, question):
    prompt = plain.encode_prompt(context, question)
    whole = plain.tokenizer.encode(f"<bos> {context} Question: {question} Answer:", add_special_tokens=False)
    assert list(prompt.ids) == whole
    assert plain.decode(prompt.context) == context


@given(context=texts, question=texts)
def test_chat_wraps_context_and_question_and_opens_the_answer(context, question):
    prompt = chat.encode_prompt(context, question)
    assert plain.decode(prompt.head) == "word70 word71 word9 word73 word70 word72"
    assert plain.decode(prompt.context) == context
    assert plain.decode(prompt.tail) == f"{question} word73 word70 word74".strip()


def test_a_question_that_looks_like_a_placeholder_is_left_alone():
    prompt = plain.encode_prompt("word1", "{context} word2")
    assert plain.decode(prompt.context) == "word1"
    assert "word2" in plain.decode(prompt.tail)


def test_responses_end_with_the_end_of_sequence_token():
    ids = plain.encode_response("word1 word2")
    assert ids[-1] == plain.tokenizer.eos_token_id
    assert plain.decode(ids) == "word1 word2"


TURNS = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}END{% endfor %}"
UNLESS_LAST = "{% if not loop.last or add_generation_prompt %}END{% endif %}"


@pytest.mark.parametrize(
    ("behind", "end", "told"),
    [
        ("<|im_end|>\n", "<|im_end|>", False),
        (UNLESS_LAST.replace("END", "<|im_end|>\n"), "<|im_end|>", False),  # the end of the sequence came in between
        (UNLESS_LAST.replace("END", "</s>"), "</s>", False),  # which was there twice
        ("\n", "</s>", True),
        (UNLESS_LAST.replace("END", "<s>"), "</s>", True),  # begins a turn
    ],
)
def test_an_answer_that_the_template_leaves_open_ends_as_the_earlier_ones(behind, end, told):
    template = TURNS.replace("END", behind) + "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    tokenizer = bpe_tokenizer("bytes", special=["<|im_start|>", "<|im_end|>"], chat_template=template)
    form = PromptFormat(tokenizer, PromptTemplate(user="{context}{question}"))
    assert tokenizer.decode(form.encode_response("Oslo")) == f"Oslo{end}"
    assert (form.end_id, form.leaves_answers_open) == (tokenizer.convert_tokens_to_ids(end), told)
    apart = (*form.encode_prompt("who ", "is it?").ids, *form.encode_response("Oslo"), *form.encode_turn("Why?").ids)
    together = form.encode_jointly("who ", [("is it?", "Oslo"), ("Why?", "b")])
    assert told or (*apart, *form.encode_response("b")) == together


@pytest.mark.parametrize("format", [plain, chat])
@pytest.mark.parametrize("answer", ["<eos>", " <eos> <eos>\n", "<bos> <eos>"])
def test_an_answer_of_marks_alone_is_refused(format, answer):
    with pytest.raises(InputError, match="expected an answer with text in it"):
        format.encode_response(answer)


@pytest.mark.parametrize("user", ["{question}", "{context}", "{context} {question} {context}"])
def test_templates_without_both_placeholders_are_refused(user):
    with pytest.raises(ValueError, match=r"policy\.template\.user"):
        PromptTemplate(user=user)


@pytest.mark.parametrize(
    ("user", "prompt", "later"),
    [
        ("{question} {context}", "Q word1 word2", "Q"),
        ("{question}\n\n{context}", "Q word1 word2", "Q"),
        (
            "Question: {question}\nword9 {context}\nAnswer:",
            "Question : Q word9 word1 word2 Answer :",
            "Question : Q Answer :",
        ),
        ("{question} {context} {question}", "Q word1 word2 Q", "Q"),
        ("{context} Answer: word9 {question} .", "word1 word2 Answer : word9 Q .", "Answer : word9 Q ."),
    ],
)
def test_the_question_stands_before_behind_or_around_the_context(user, prompt, later):
    form, question = PromptFormat(word_tokenizer(), PromptTemplate(user)), "word5 word6"
    encoded = form.encode_prompt("word1 word2", question)
    assert plain.decode(encoded.ids) == prompt.replace("Q ", question + " ").replace(" Q", " " + question)
    assert plain.decode(encoded.context) == "word1 word2"
    assert plain.decode(form.encode_turn(question).ids) == (later + " ").replace("Q ", question + " ").strip()
    before, after = form.template.around(question)
    assert plain.encode(f"{before}word1 word2{after}") == encoded.ids[1:]


def test_what_the_tokenizer_lacks_is_named():
    with pytest.raises(ValueError, match="chat: false"):
        PromptFormat(word_tokenizer(), PromptTemplate(chat=True))
    with pytest.raises(ValueError, match="system message needs a chat template"):
        PromptFormat(word_tokenizer(), PromptTemplate(system="be brief"))
    tokenizer = word_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(ValueError, match="end-of-sequence"):
        PromptFormat(tokenizer, PromptTemplate())


def test_a_special_token_of_white_space_is_refused():
    blank, as_text = word_tokenizer(), word_tokenizer(["\n"])
    blank.add_special_tokens({"pad_token": " "})
    with pytest.raises(
        InputError, match=r"that ordinary text does not contain, got ' ' in the tokenizer of the model; correct"
    ):
        PromptFormat(blank, PromptTemplate())
    as_text.pad_token = ""
    PromptFormat(as_text, PromptTemplate())


def test_what_a_model_writes_is_not_cleaned_up():
    """As transformers does it where a tokenizer's settings say so, for other tokenizers than byte pairs to this day."""
    tokenizer = word_tokenizer(["x", "!", "="])
    tokenizer.clean_up_tokenization_spaces = True
    ids = tokenizer.encode("x ! = x ?", add_special_tokens=False)
    assert tokenizer.decode(ids) == "x! = x?"
    form = PromptFormat(tokenizer, PromptTemplate())
    assert form.decode(ids) == form.decode_whole(ids) == "x ! = x ?"


@pytest.mark.parametrize("name", ["chatml", "llama3"])
def test_templates_that_always_open_an_answer_do_not_train_its_opening(name):
    """Llama 3's first one (llama3#29, transformers#32252): the next turn's mark was trained behind the end."""
    told, always = chat_bpe_tokenizer(name), chat_bpe_tokenizer(name)
    turns, _, opening = told.chat_template.partition("{% if add_generation_prompt %}")
    always.chat_template = f"{turns}{{{{ {opening.removesuffix('{% endif %}')!r} }}}}"
    said = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]
    assert always.apply_chat_template(said, tokenize=False) == told.apply_chat_template(
        said, tokenize=False, add_generation_prompt=True
    )
    right, forms = PromptFormat(told, PromptTemplate()), PromptFormat(always, PromptTemplate())
    assert right.stop_ids == forms.stop_ids == (told.convert_tokens_to_ids(FORMATS[name].end_of_turn),)
    assert forms.encode_response("So.") == right.encode_response("So.")
    assert forms.encode_turn("And?") == right.encode_turn("And?")
    asked = ("Read this.", [("Why?", "So."), ("And?", "No.")])
    assert forms.encode_jointly(*asked) == right.encode_jointly(*asked)


@pytest.mark.parametrize("name", ["chatml", "llama3", "qwen3"])
def test_an_answer_in_its_turns_marks_is_the_answer(name):
    """As data rendered beside its prompt has it (xfactlab/orpo 7): its opening was trained, as text."""
    options = {"enable_thinking": False} if name == "qwen3" else {}
    form = PromptFormat(chat_bpe_tokenizer(name), PromptTemplate(options=options))
    messages = [{"role": "user", "content": "Where?"}]
    closed, opened = (
        form.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=answer_next, **options)
        for answer_next in (False, True)
    )
    opening = opened.removeprefix(closed)
    for written in (f"{opening}In Oslo.", f"\n{opening}In Oslo.{FORMATS[name].end_of_turn}\n"):
        assert form.encode_response(written) == form.encode_response("In Oslo.")
        assert form.encode_jointly("x", [("Where?", written)]) == form.encode_jointly("x", [("Where?", "In Oslo.")])
    said = f"It begins with {opening.strip()}"
    assert form.decode(form.encode_response(said)) == said


def test_empty_thoughts_that_the_prompt_writes_are_not_trained_again():
    """Qwen3's with thinking off: data has its turn's marks, its thoughts, or both."""
    form = PromptFormat(chat_bpe_tokenizer("qwen3"), PromptTemplate(options={"enable_thinking": False}))
    marks, thoughts = "<|im_start|>assistant\n", "<think>\n\n</think>\n\n"
    for opening in (marks, thoughts, marks + thoughts):
        assert form.encode_response(f"{opening}In Oslo.<|im_end|>") == form.encode_response("In Oslo.")
    thinking = "<think>\nWhere?\n</think>\n\nIn Oslo."
    assert "Where?" in form.tokenizer.decode(form.encode_response(thinking))


@pytest.mark.parametrize("name", ["chatml", "llama3", "mistral"])
def test_a_prompt_that_was_rendered_without_opening_an_answer_is_known(name):
    form = PromptFormat(chat_bpe_tokenizer(name), PromptTemplate())
    messages = [{"role": "user", "content": "Where?"}]
    for answer_next in (False, True):
        text = form.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=answer_next)
        assert form.traces.in_message(text)
    assert not form.traces.in_message(
        f"A page about {FORMATS[name].marks[0]} and {FORMATS[name].end_of_turn} as marks."
    )


@pytest.mark.parametrize("name", ["chatml", "llama3", "mistral"])
def test_without_a_template_a_rendered_prompt_is_known_where_its_marks_are_read_as_text(name):
    """Rendered prompts whose control tokens become letters train another format, in silence (aprender#3993)."""
    tokenizer = chat_bpe_tokenizer(name)
    text = tokenizer.apply_chat_template([{"role": "user", "content": "Where?"}], tokenize=False)
    read, control = (
        PromptFormat(tokenizer, PromptTemplate(chat=False, markup=markup)) for markup in ("text", "control")
    )
    assert read.traces.in_message(text)
    assert not read.traces.in_message(f"A page about {FORMATS[name].marks[0]} as a mark.")
    assert not control.traces.in_message(text)
    assert control.encode(text) == tuple(tokenizer(text, add_special_tokens=False).input_ids)


@pytest.mark.parametrize(("chat", "markup"), [(True, "text"), (False, "text"), (False, "control")])
@pytest.mark.parametrize("name", ["chatml", "llama3", "mistral"])
def test_a_prompt_of_another_familys_template_is_known(name, chat, markup):
    """Its marks are letters to this tokenizer, which were trained inside this template in silence (trl#1115)."""
    form = PromptFormat(chat_bpe_tokenizer(name), PromptTemplate(chat=chat, markup=markup))
    others = {
        "chatml": "<|im_start|>user\nWhere?",
        "mistral": "<s>[INST] Where? [/INST]",
        "gemma": "<start_of_turn>user",
    }
    assert all(form.traces.in_message(text) for other, text in others.items() if other != name)
    assert not form.traces.in_message("Which family writes [INST], and which <|im_start|>?")


def test_a_rendered_prompt_begins_once():
    """Its own beginning-of-text token is the one that the tokenizer would add (trl#1114, open-r1#462)."""
    tokenizer = bpe_tokenizer("bytes", special=["[INST]", "[/INST]"], adds_bos=True)
    form = PromptFormat(tokenizer, PromptTemplate(chat=False, markup="control"))
    text = "<s>[INST]Where?[/INST]"
    once = tuple(tokenizer(text, add_special_tokens=False).input_ids)
    assert once.count(tokenizer.bos_token_id) == 1
    assert form.encode_prompt(text, None).ids == form.encode_text(text) == form.encode_message(text) == once
    assert form.encode_jointly(text, [("", "Rome")])[: len(once)] == once
    bare = text.removeprefix("<s>")
    assert form.encode_prompt(bare, None).ids == form.encode_text(bare) == form.encode_message(bare) == once


@pytest.mark.parametrize(
    ("before", "opening"),
    [
        ("<|im_start|>system\nThink in <think> and </think>.<|im_end|>\n", ""),  # SmolLM3
        ("", "<think>\n"),  # Nemotron Nano 2, and whatever opens thoughts behind marks that are special
        ("", "</think>"),  # Laguna: no thoughts
    ],
)
def test_thoughts_that_an_answer_writes_are_tokens_wherever_the_template_names_them(before, opening):
    """They were text: other tokens than transformers', so no answer's thoughts were the model's own."""
    template = (
        before
        + "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' %}OPENING{% endif %}"
        "{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\nOPENING{% endif %}"
    ).replace("OPENING", opening)
    marks, thoughts = ["<|im_start|>", "<|im_end|>"], ["<think>", "</think>"]
    tokenizer = bpe_tokenizer("bytes", special=marks, added=thoughts, chat_template=template)
    form = PromptFormat(tokenizer, PromptTemplate())
    for answer in ("<think>Rome?</think>Oslo", "Oslo <|im_start|> and <think>"):
        said = [{"role": "user", "content": "Ann\n\nWhere?"}, {"role": "assistant", "content": answer}]
        row = form.encode_prompt("Ann", "Where?").ids + form.encode_response(answer)
        whole = tokenizer.apply_chat_template(said)["input_ids"][: len(row)]
        assert (list(row) == whole) == ("<|im_start|>" not in answer)
        assert tokenizer.convert_tokens_to_ids("<think>") in form.encode_response(answer)
        assert tokenizer.convert_tokens_to_ids("<|im_start|>") not in form.encode_response(answer)


def test_a_text_of_the_templates_own_does_not_hide_what_ends_answers():
    """Apriel 1.5: a line break and the mark that ends its system text, too; it was taken for one that opens turns."""
    template = (
        "<|system|>\nThink.\n<|end|>\n{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}\n<|end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
    )
    marks = ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
    tokenizer = bpe_tokenizer("bytes", special=marks, chat_template=template)
    form = PromptFormat(tokenizer, PromptTemplate())
    assert tokenizer.decode(form.encode_response("Oslo")) == "Oslo\n<|end|>"
    assert form.stop_ids == (tokenizer.convert_tokens_to_ids("<|end|>"), tokenizer.eos_token_id)
    row = (*form.encode_prompt("Ann", "Where?").ids, *form.encode_response("Oslo"), *form.encode_turn("Why?").ids)
    said = [("user", "Ann\n\nWhere?"), ("assistant", "Oslo"), ("user", "Why?")]
    messages = [{"role": role, "content": text} for role, text in said]
    assert list(row) == tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
