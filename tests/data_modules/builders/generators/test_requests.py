"""Templates fill every placeholder and drop no field; keys follow the content."""

import string
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_modules.builders.checks.verifiers import ModelJudge
from data_modules.builders.generators.requests import Decoding, Request, RequestTemplate, ended, seed_of, until_stop
from data_modules.builders.recipes.logo import LOGORecipe
from data_modules.builders.recipes.longpo import LongPORecipe
from data_modules.builders.recipes.questions import Cloze, SelfInstruct
from data_modules.builders.recipes.solopo import SoLoPORecipe

SHIPPED = [
    (SoLoPORecipe().instruction, ["question"]),
    (LongPORecipe().instruction, ["question"]),
    (LOGORecipe().instruction, ["question"]),
    (SelfInstruct().prompt, ["context", "count"]),
    (Cloze().prompt, ["sentence"]),
    (ModelJudge().prompt, ["context", "question", "first", "second"]),
]


@pytest.mark.parametrize(("prompt", "names"), SHIPPED, ids=lambda value: str(value)[:30])
def test_shipped_templates_show_every_field_and_leave_no_placeholder(prompt, names):
    values = {name: f"<<{name} with {{braces}}>>" for name in names}
    text = prompt.render(**values)
    for value in values.values():
        assert value in text
    for value in values.values():
        text = text.replace(value, "")
    assert "{" not in text


@given(st.text(), st.text())
def test_values_are_put_in_as_they_are(context, question):
    text = RequestTemplate("{context}\n{question}!").render(context=context, question=question)
    assert text == f"{context}\n{question}!"


@pytest.mark.parametrize("user", ["{question}", "{context} {question} {more}", "no placeholder"])
def test_other_placeholders_are_refused(user):
    with pytest.raises(ValueError, match=r"expected the placeholders \{context\}, \{question\}"):
        RequestTemplate(user).render(context="a", question="b")


def test_a_recipe_refuses_a_wrong_template_before_anything_runs():
    with pytest.raises(ValueError, match=r"recipe\.init_args\.instruction\.user"):
        SoLoPORecipe(instruction=RequestTemplate("{query}"))


@pytest.mark.parametrize(
    ("text", "opened", "answer"),
    [
        ("one. two. three", False, "one"),
        ("<think>a. t</think>Oslo. three", False, "<think>a. t</think>Oslo"),
        ("a. t</think>Oslo", True, "a. t</think>Oslo"),
        ("a. t </think>Oslo. to", False, "a. t </think>Oslo"),  # opened by nobody knows whom
        ("a. to", True, "a. to"),
        ("<think>a. to", False, "<think>a. to"),
        ("<think>a</think>b<think>c. t</think>d. two", False, "<think>a</think>b<think>c. t</think>d"),
        ("<think>a</think>b. two<think>c. t</think>d", False, "<think>a</think>b"),
        ("<think>a</think>b<think>c. t", False, "<think>a</think>b<think>c. t"),
    ],
)
def test_stop_texts_end_answers_and_not_thoughts(text, opened, answer):
    """vllm#14170: a stop text in the thoughts ended them, and there was no answer."""
    assert until_stop(text, (". t", ". two"), opened=opened) == answer


@pytest.mark.parametrize(
    ("text", "opened", "cut_off", "answer"),
    [
        ("Oslo \ufffd", False, True, ("Oslo", False)),  # half a letter
        ("Oslo \ufffd", False, False, ("Oslo \ufffd", True)),
        ("Oslo. two", False, True, ("Oslo", True)),
        ("Oslo. t", True, True, ("Oslo. t", False)),  # thoughts
        (" Oslo ", False, True, ("Oslo", False)),
    ],
)
def test_an_answer_is_over_by_itself_or_at_a_stop_text(text, opened, cut_off, answer):
    assert ended(text, (". t",), cut_off=cut_off, opened=opened) == answer


def test_the_key_changes_with_everything_the_answer_depends_on():
    request = Request("id", "text", Decoding(0.5), None, seed=1)
    others = [
        replace(request, text="other"),
        replace(request, decoding=Decoding(0.6)),
        replace(request, system="be brief"),
        replace(request, seed=2),
    ]
    assert len({each.key("model") for each in (request, *others)} | {request.key("other")}) == 6
    assert replace(request, id="other name").key("model") == request.key("model")


def test_greedy_answers_do_not_depend_on_the_seed():
    greedy = Request("id", "text", Decoding())
    assert greedy.key("m") == replace(greedy, seed=5).key("m")


@given(st.lists(st.text(alphabet=string.printable)))
def test_seeds_fit_every_generator(parts):
    assert 0 <= seed_of(*parts) < 2**31


@pytest.mark.parametrize("values", [{"temperature": -1}, {"top_p": 0}, {"max_new_tokens": 0}])
def test_impossible_decoding_is_refused(values):
    with pytest.raises(ValueError, match=f"expected `decoding.{next(iter(values))}`"):
        Decoding(**values)


def test_a_chat_has_a_system_message_if_there_is_one():
    user = {"role": "user", "content": "text"}
    assert Request("r", "text", Decoding()).messages == [user]
    assert Request("r", "text", Decoding(), "be brief").messages == [{"role": "system", "content": "be brief"}, user]
