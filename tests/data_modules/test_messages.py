"""Messages are read as real chat templates write them, and refused where templates would drop or print them."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from support.bpe_tokenizers import bpe_tokenizer
from transformers import PreTrainedTokenizerBase

from data_modules.messages import Conversation, check_messages, conversation
from lit_longpo.files.strict_json import RecordError
from lit_longpo.policy import PromptFormat, PromptTemplate
from lit_longpo.policy.prompts.encoded_prompt import Surroundings

USER = {"role": "user", "content": "How many crates?"}
PARTS = {"role": "user", "content": [{"type": "text", "text": "How many"}, {"type": "text", "text": " crates?"}]}


def read(messages: object) -> Conversation:
    return conversation(check_messages(messages, "prompt", "a.jsonl:1"), "prompt", "a.jsonl:1")


def with_template_of_trl(name: str) -> PreTrainedTokenizerBase:
    """A tokenizer of every text with a family's own chat template, as TRL ships it."""
    package = importlib.util.find_spec("trl")
    if package is None or not package.submodule_search_locations:
        pytest.skip("TRL, whose chat templates these are, is not installed")
    template = Path(package.submodule_search_locations[0], "chat_templates", f"{name}.jinja")
    if not template.is_file():
        pytest.skip(f"this TRL has no template of {name}")
    return bpe_tokenizer("bytes", special=["<|endoftext|>"], chat_template=template.read_text(), eos="<|endoftext|>")


@pytest.mark.parametrize(
    ("name", "messages"),
    [
        *((name, [{"role": "developer", "content": "Be brief."}, USER]) for name in ("gptoss", "gemma4")),
        *((name, [PARTS]) for name in ("qwen2_5_vl", "qwen3_vl", "glm4moe", "llava_next")),
        *((name, [{"role": "system", "content": ""}, USER]) for name in ("llama3_1", "phi3_5", "deepseekv3")),
    ],
)
def test_they_are_what_the_template_makes_of_them(name: str, messages: list[dict[str, Any]]) -> None:
    """Templates that know these; others drop a developer's message and print parts, or write an empty system one."""
    tokenizer, talk = with_template_of_trl(name), read(messages)
    prompt = PromptFormat(tokenizer, PromptTemplate(date=None)).encode_prompt(
        talk.context, None, Surroundings(talk.system)
    )
    expected = tokenizer.apply_chat_template(messages, add_generation_prompt=True)
    assert tokenizer.decode(prompt.ids) == tokenizer.decode(expected["input_ids"])
    assert list(prompt.ids) == expected["input_ids"]


@pytest.mark.parametrize("content", ["", " \n", None, [{"type": "text", "text": ""}]])
@pytest.mark.parametrize("role", ["system", "developer"])
def test_an_empty_system_message_is_none(role: str, content: object) -> None:
    assert read([{"role": role, "content": content, "name": None}, USER]) == read([USER])


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([{"role": "user", "content": ""}], r"field 'prompt\[0\].content': expected text that is not empty"),
        ([USER, {"role": "system", "content": ""}], r"field 'prompt\[1\].content': expected text that is not empty"),
        ([{"role": "system", "content": "a"}, {"role": "developer", "content": "b"}, USER], "at the beginning only"),
        (
            [{"role": "user", "content": [*PARTS["content"], {"type": "image_url", "image_url": {"url": "x"}}]}],
            r"field 'prompt\[0\].content\[2\].type': expected 'text': prompts are text alone, got 'image_url'",
        ),
        ([{"role": "user", "content": [{"type": "text", "text": 1}]}], r"field 'prompt\[0\].content\[0\].text'"),
        ([{"role": "user", "content": ["a", "b"]}], r"field 'prompt\[0\].content': expected text"),
        ([USER | {"name": "Ines"}], r"field 'prompt\[0\].name': expected nothing beside role and content, got 'Ines'"),
        ([{"role": "tool", "content": "9"}], r"field 'prompt\[0\].role': expected a role of system, developer, user"),
    ],
)
def test_what_is_refused(messages: object, message: str) -> None:
    with pytest.raises(RecordError, match=message):
        read(messages)


def test_fields_that_a_table_fills_in_are_nothing() -> None:
    """Arrow gives every message the fields of all others, and every object in them (huggingface/datasets 7617)."""
    padded = {**USER, "tool_calls": None, "meta": {"a": None, "b": {"c": []}}, "from": None}
    assert read([padded]) == read([USER])
    with pytest.raises(RecordError, match=r"field 'prompt\[0\].meta': expected nothing beside role and content"):
        read([{**USER, "meta": {"a": None, "b": 0}}])
