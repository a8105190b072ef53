"""Every format, detected or by name, gives the pair that it means; all else is an error with file, line and field."""

import importlib
import itertools
import json
import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.preference_formats import APART, ASK, DOC, LONG, WHOLE, answer, talk

from data_modules.files.content import content_of_source
from data_modules.formats import reader, scored
from data_modules.formats.base import Record, RecordFormat
from data_modules.formats.loading import load_pairs
from data_modules.formats.reader import FORMATS, RecordReader
from data_modules.records import PreferencePair
from lit_longpo.files.strict_json import RecordError

README = Path(reader.__file__).with_name("README.md").read_text()
SAMPLES = Path(__file__).resolve().parents[3].parent / "shared/data/formats"
MAPPED = {"long_context": "doc", "question": "ask", "chosen": "good", "rejected": "bad"}
TEXTS = {"chosen": "nine", "rejected": "two"}


def read(record: object, **options: Any) -> PreferencePair:
    (pair,) = RecordReader(**options).pairs([("here/data.jsonl:3", record)], "here/data.jsonl")
    return pair


@pytest.mark.parametrize("by_name", [False, True], ids=["detected", "by name"])
@pytest.mark.parametrize("name", WHOLE)
def test_whole_messages(name: str, by_name: bool) -> None:
    layout, record, more = WHOLE[name]
    expected = {"id": "data.jsonl:3", "rejected": ("two",), **more}
    pair = read(record, **({"format": layout} if by_name else {}))
    assert pair == PreferencePair(question="", short_context="", long_context=LONG, chosen="nine", **expected)


@pytest.mark.parametrize("by_name", [False, True], ids=["detected", "by name"])
@pytest.mark.parametrize("name", APART)
def test_context_and_question_apart(name: str, by_name: bool) -> None:
    layout, record, columns, more = APART[name]
    expected = {"id": "data.jsonl:3", "rejected": ("two",), **more}
    pair = read(record, columns=columns, **({"format": layout} if by_name else {}))
    assert pair == PreferencePair(question=ASK, short_context="", long_context=DOC, chosen="nine", **expected)


def test_every_format_has_a_name_and_a_sample() -> None:
    assert all(f"`{name}`" in README for name in FORMATS)
    assert {layout for layout, *_ in (*WHOLE.values(), *APART.values())} == set(FORMATS)


REFUSED: dict[str, tuple[object, str]] = {
    "no format": ({"txt": "x"}, r"record: expected the columns of a known format.*columns: \{.*got \['txt'\]"),
    "no object": (["x"], r"record: expected a JSON object"),
    "extra": ({"prompt": LONG, **TEXTS, "sytem": "x"}, r"field 'sytem': .*did you mean 'system'.*extra_columns"),
    "extras": ({"prompt": LONG, **TEXTS, "n": 1, "m": 2}, r"field 'n': .*extra_columns: ignore`, got \['n', 'm'\]"),
    "empty answer": ({"prompt": LONG, "chosen": " ", "rejected": "two"}, r"field 'chosen': expected text that is not"),
    "number": ({"prompt": LONG, "chosen": 42, "rejected": "two"}, r"field 'chosen': expected text, or a list of mess"),
    "prompt's number": ({"prompt": 42, **TEXTS}, r"field 'prompt': expected text, or a list of messages"),
    "a list of files": (
        {"mine": {"file_name": "dpo.json", "ranking": True}},
        r"record: .* not LLaMA-Factory's list of files: set `data.init_args.path` to one \(dpo.json\)",
    ),
    "wrapped": ({"data": [{"prompt": LONG, **TEXTS}]}, r".*not in a list under 'data': take that list out of it"),
    "questions": ({"data": [{"title": "", "paragraphs": []}]}, r"record: expected preference pairs, .* build --config"),
    "no answer": ({"prompt": LONG, "chosen": None, "rejected": "two"}, r"field 'chosen'"),
    "same answers": ({"prompt": LONG, "chosen": "two", "rejected": "two "}, r"field 'chosen'.*not among `rejected`"),
    "no prompt": ({"chosen": [answer("nine")], "rejected": [answer("two")]}, r"field 'prompt': .*required"),
    "other prompts": (
        {"chosen": talk(LONG, "nine"), "rejected": talk("Else?", "two")},
        r"field 'rejected': expected the messages before the answer that `chosen` has",
    ),
    "another prompt": ({"prompt": "Else?", "chosen": talk(LONG, "nine")}, r"field 'prompt': expected a message that"),
    "user's answer": ({"prompt": LONG, "chosen": talk("nine")}, r"field 'chosen': .*end with the assistant's"),
    "role": ({"prompt": [{"role": "tool", "content": "x"}], **TEXTS}, r"field 'prompt\[0\].role': expected a role of"),
    "blank message": ({"messages": talk(" ", "nine")}, r"field 'messages\[0\].content'"),
    "calls": (
        {"messages": [{"role": "user", "content": "x", "tool_calls": [1]}]},
        r"field 'messages\[0\].tool_calls': expected nothing beside role and content, got \[1\]",
    ),
    "late system": (
        {"messages": [*talk(LONG), {"role": "system", "content": "x"}, answer("y")]},
        r"field 'messages': expected a system message at the beginning",
    ),
    "no question": ({"messages": [answer("nine")]}, r"field 'messages': expected a message of the user"),
    "two systems": (
        {"prompt": talk(LONG, system="a"), "system": "b", **TEXTS},
        r"field 'system': expected the system message 'a' or none",
    ),
    "scores": (
        {"prompt": LONG, **TEXTS, "score_chosen": 1, "score_rejected": 2.5},
        r"field 'score_chosen': expected a score of at least 2.5, that of `rejected`, got 1",
    ),
    "score": ({"prompt": LONG, **TEXTS, "score_chosen": "1"}, r"field 'score_chosen': expected a number"),
    "huge score": (
        {"prompt": LONG, **TEXTS, "score_chosen": 10**400, "score_rejected": 1},
        r"field 'score_chosen': expected a number",
    ),
    "printed messages": (
        {"prompt": '[{"role": "user", "content": "How many?"}]', **TEXTS},
        r"field 'prompt': expected text, or messages as a list instead of its print",
    ),
    "output beside": ({"instruction": "x", **TEXTS, "output": "ten"}, r"field 'output': expected nothing beside"),
    "alpaca history": ({"instruction": "x", **TEXTS, "history": [["a"]]}, r"field 'history': expected a list of \["),
    "tools": (
        {"conversations": talk(LONG, "nine"), "tools": '[{"name": "x"}]'},
        r"field 'tools': expected nothing: prompts are text",
    ),
    "thoughts": (
        {"messages": [{"role": "user", "content": "x", "reasoning_content": "hm"}]},
        r"field 'messages\[0\].reasoning_content': expected nothing .* begin the content with thoughts",
    ),
    "template's options": (
        {"prompt": LONG, **TEXTS, "chat_template_kwargs": {"enable_thinking": False}},
        r"field 'chat_template_kwargs': .* type --policy.template.options '\{\"enable_thinking\": false\}'",
    ),
    "picture": (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "image"}]}]},
        r"field 'messages\[0\].content\[1\].type': expected 'text': .*, got 'image'",
    ),
    "tie": (
        {"context": talk(LONG), "response1": "nine", "response2": "two", "overall_preference": 0},
        r"field 'overall_preference': expected one of -3, -2, -1, 1, 2, 3; take records without a better answer out",
    ),
    "transcripts of two prompts": (
        {"chosen": "\n\nHuman: a\n\nAssistant: nine", "rejected": "\n\nHuman: b\n\nAssistant: two"},
        r"field 'rejected': expected the messages before the answer that `chosen` has",
    ),
    "transcript without an answer": (
        {"chosen": "\n\nHuman: a\n\nAssistant:", "rejected": "\n\nHuman: a\n\nAssistant: two"},
        r"field 'chosen\[1\].content': expected text that is not empty",
    ),
    "two rejected": (
        {"messages": talk(LONG, "nine"), "rejected": "two", "rejected_response": "ten"},
        r"field 'rejected_response': expected nothing beside `rejected`",
    ),
    "rejected elsewhere": (
        {"messages": talk(LONG, "nine"), "rejected_messages": talk("Else?", "two")},
        r"field 'rejected_messages': expected an answer alone, or behind the messages that `messages` has",
    ),
    "unwanted": ({"prompt": LONG, "completion": "two", "label": False}, r"field 'label': expected true: SFT trains on"),
    "openai tools": (
        {
            "input": {"messages": talk(LONG), "tools": [{"type": "function"}]},
            "preferred_output": [answer("nine")],
            "non_preferred_output": [answer("two")],
        },
        r"field 'input.tools': expected nothing: prompts are text without tools",
    ),
    "other names": (
        {"question": LONG, "response_j": "nine", "response_k": "two", "date": "x"},
        r"record: .*as this seems to be `data.init_args.columns: \{prompt: question, chosen: response_j, rejected: r",
    ),
    "capitals": (
        {"Prompt": LONG, "CHOSEN": "nine", "Rejected": "two"},
        r"record: .*as this seems to be `data.init_args.columns: \{prompt: Prompt, chosen: CHOSEN, rejected: R",
    ),
    "context apart": (
        {"context": DOC, "query": ASK, "answer": "nine"},
        r"record: .*`data.init_args.columns: \{long_context: context, question: query, chosen: answer\}`",
    ),
    "context beside": (
        {"context": DOC, "prompt": ASK, **TEXTS},
        r"field 'context': .*, `data.init_args.columns: \{long_context: context, question: prompt\}`, or",
    ),
    "prompts of both lengths": (
        {"prompt_long": LONG, "prompt_short": ASK, **TEXTS},
        r"record: .*`data.init_args.columns: \{prompt: prompt_long, short_prompt: prompt_short\}`",
    ),
    "system's other name": (
        {"prompt": ASK, **TEXTS, "system_prompt": "x"},
        r"field 'system_prompt': .*`data.init_args.columns: \{system: system_prompt\}`",
    ),
    "tokens": ({"chosen_input_ids": [1], "rejected_input_ids": [2]}, r"record: expected texts, .* not token ids as in"),
    "ranks": (
        {"prompt": LONG, "answers": [{"answer": "nine", "rank": 1}], "turns": 1},
        r"record: expected the best answer as `chosen` and others as `rejected` \(a list\), not all of them in 'ans",
    ),
    "LLaMA-Factory's ranks": (
        {"instruction": LONG, "input": "", "output": ["nine", "two"]},
        r"record: expected the best answer as `chosen` .* not all of them in 'output'",
    ),
    "a winner": (
        {"conversation_a": talk(LONG, "nine"), "conversation_b": talk(LONG, "two"), "winner": "model_a"},
        r"record: expected the better answer as `chosen`",
    ),
    "short prompt elsewhere": (
        {"prompt": talk("Hi.", "Hi!", LONG), "short_prompt": talk(ASK), **TEXTS},
        r"field 'short_prompt': expected the messages of `prompt`, all but the longest of the user's",
    ),
    "messages that say more": (
        {"prompt": LONG, **TEXTS, "messages": talk("Hi.", "Hi!", LONG, "nine")},
        r"field 'messages': expected the messages of `prompt` again, .*`data.init_args.extra_columns: ignore`",
    ),
    "messages of the rejected": (
        {"prompt": LONG, "chosen": talk(LONG, "nine"), "rejected": talk(LONG, "two"), "messages": talk(LONG, "two")},
        r"field 'messages': expected the messages of `prompt` again",
    ),
    "scored messages that say more": (
        {"prompt": LONG, **TEXTS, "messages": talk(LONG, "nine", "Sure?", "Yes."), "score_chosen": 1},
        r"field 'messages': expected the messages of `prompt` again",
    ),
    "a system message more": (
        {"prompt": LONG, **TEXTS, "messages": talk(LONG, "nine", system="Be brief.")},
        r"field 'messages': expected the messages of `prompt` again",
    ),
    "a prompt beside messages": (
        {"prompt": DOC, "messages": talk(ASK, "nine")},
        r"field 'prompt': expected text that is in `messages` too, .*extra_columns: ignore`",
    ),
    "no chosen": (
        {"prompt": LONG, "rejected": "two"},
        r"record: expected `chosen`, the better answer, beside `prompt`",
    ),
    "no chosen message": ({"prompt": talk(LONG), "rejected": talk("two")}, r"record: expected `chosen`, the better"),
    "words for both": (
        {"prompt": LONG, "accepted": "nine", "refused": "two"},
        r"record: .*as this seems to be `data.init_args.columns: \{chosen: accepted, rejected: refused\}`",
    ),
    "winner and loser": (
        {"prompt": LONG, "winner": "nine", "loser": "two"},
        r"record: .*`data.init_args.columns: \{chosen: winner, rejected: loser\}`",
    ),
    "which one wins": (
        {"prompt": LONG, "response_a": "nine", "response_b": "two", "winner": "a"},
        r"record: expected the better answer as `chosen`",
    ),
    "weight": ({"prompt": LONG, **TEXTS, "weight": 0}, r"field 'weight': expected a number above 0"),
    "id": ({"prompt": LONG, **TEXTS, "id": 1.5}, r"field 'id'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    record, message = REFUSED[name]
    with pytest.raises(RecordError, match=r"^here/data.jsonl:3: " + message) as caught:
        read(record)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("extra_columns", ["error", "ignore"])
def test_a_later_record_of_another_layout_is_the_pair_that_it_would_be_alone_or_refused(extra_columns: Any) -> None:
    """By file and line; the first record's layout holds for all."""
    samples = [record for _, record, _ in WHOLE.values()]
    samples += [record for _, record, columns, _ in APART.values() if not columns]
    refused = list[str]()
    for first, later in itertools.permutations(samples, 2):
        rows = [("data.jsonl:1", first), ("data.jsonl:2", later)]
        try:
            _, pair = RecordReader(extra_columns=extra_columns).pairs(rows)
        except RecordError as error:
            refused.append(str(error))
        else:
            assert replace(pair, id="") == replace(read(later, extra_columns=extra_columns), id="")
    assert all(message.startswith("data.jsonl:2: ") and "\n" not in message for message in refused)
    assert sum("the first record has another layout" in message for message in refused) > len(refused) / 2


def test_a_transcript_behind_plain_texts_is_no_plain_text() -> None:
    transcript = {"prompt": f"\n\nHuman: {LONG}\n\nAssistant:", "chosen": " nine", "rejected": " two"}
    rows = [("d.jsonl:1", {"prompt": LONG, **TEXTS}), ("d.jsonl:2", transcript)]
    found = r"^d\.jsonl:2: record: expected the layout trl, got 'hh'; .*first record has another layout \(trl; this one"
    with pytest.raises(RecordError, match=found):
        list(RecordReader(extra_columns="ignore").pairs(rows))


def test_null_fields_are_absent_where_formats_write_them() -> None:
    record = {"instruction": ASK, "input": DOC, **TEXTS, "system": None, "history": None}
    assert read(record) == read({"instruction": ASK, "input": DOC, **TEXTS})
    assert read({"instruction": ASK, "input": DOC, **TEXTS, "images": [], "tools": ""}) == read(record)
    parts = [
        {**message, "content": [{"type": "text", "text": message["content"], "image": None}]}
        for message in talk("a", "b")
    ]
    assert read({"messages": parts}) == read({"messages": talk("a", "b")})
    messages = [{**message, "name": None, "tool_calls": None} for message in talk(LONG, "nine")]
    assert read({"messages": messages}) == read({"messages": talk(LONG, "nine")})


def test_null_is_absent_in_our_own_records_at_any_depth() -> None:
    """As `datasets` and pandas write JSON; ids may be whole numbers, as in every other format."""
    record = {"question": ASK, "long_context": DOC, "chosen": "nine", "rejected": ["two"]}
    turn = {"question": ASK, "chosen": "nine", "rejected": ["two"]}
    absent = dict.fromkeys(("short_context", "answers", "supporting", "system", "history", "verified"))
    said = read({**record, **absent, "id": 7, "turns": [{**turn, "short_context": None}]})
    assert said == read({**record, "id": "7", "turns": [turn]})


def test_extra_columns_are_named_once_and_ignored_where_asked(caplog: pytest.LogCaptureFixture) -> None:
    rows = [
        (f"data.jsonl:{n}", {"prompt": LONG, **TEXTS, "notes": "x"} | ({"n": n} if n > 1 else {})) for n in range(4)
    ]
    with caplog.at_level(logging.WARNING):
        pairs = list(RecordReader(extra_columns="ignore").pairs(rows, "data.jsonl"))
    assert [pair.id for pair in pairs] == [f"data.jsonl:{n}" for n in range(4)]
    assert [message.partition("`): ")[2] for message in caplog.messages] == ["notes", "n"]


def test_options_of_the_chat_template_are_not_ignored() -> None:
    """`extra_columns: ignore`, which the error advised, dropped them; tables have empty ones."""
    record = {"prompt": LONG, **TEXTS}
    with pytest.raises(RecordError, match=r"policy\.template\.options"):
        read({**record, "chat_template_kwargs": {"enable_thinking": False}}, extra_columns="ignore")
    assert (
        read({**record, "chat_template_kwargs": {}}) == read({**record, "chat_template_kwargs": None}) == read(record)
    )


@pytest.mark.parametrize("system", ["", "Be brief."])
def test_messages_that_say_the_pair_again_are_passed_over(system: str) -> None:
    """As UltraFeedback stores them; others are left out where that is asked for."""
    record = {"prompt": talk("Hi.", "Hi!", LONG, system=system), **TEXTS}
    for again in (talk("Hi.", "Hi!", LONG, "nine"), talk("Hi.", "Hi!", LONG, system=system), [], None):
        assert read({**record, "messages": again}) == read(record)
    others = {**record, "messages": talk("Bye.", "nine")}
    assert read(others, extra_columns="ignore") == read(record)
    asked = {"messages": talk(LONG, "nine")}
    assert read({**asked, "prompt": LONG.replace("\n\n", " ")}) == read({**asked, "prompt": talk(LONG)}) == read(asked)
    assert read({**asked, "prompt": DOC + " Else."}, extra_columns="ignore") == read(asked)


def test_notes_in_messages_are_ignored_where_asked(caplog: pytest.LogCaptureFixture) -> None:
    """What says something in them is refused even so."""
    noted = [message | {"language": "English", "toxic": False} for message in talk(LONG, "nine")]
    with pytest.raises(RecordError, match=r"'messages\[0\].language': .*, or `data.init_args.extra_columns: ignore`"):
        read({"messages": noted})
    assert read({"messages": noted}, extra_columns="ignore") == read({"messages": talk(LONG, "nine")})
    assert "messages[].language, messages[].toxic" in caplog.text
    with pytest.raises(RecordError, match=r"'messages\[1\].tool_calls': expected nothing beside role and content, got"):
        read({"messages": [noted[0], noted[1] | {"tool_calls": ["x"]}]}, extra_columns="ignore")


@pytest.mark.parametrize("short", ["Nine. How many?", talk("Hi.", "Hi!", "Nine. How many?", system="Be brief.")])
def test_a_prompt_with_the_short_context(short: object) -> None:
    """Whole messages have both contexts: the others are those of `prompt`."""
    record = {"prompt": talk("Hi.", "Hi!", LONG, system="Be brief."), **TEXTS}
    assert read({**record, "short_prompt": short}) == replace(read(record), short_context="Nine. How many?")
    theirs = {"prompt_long": record["prompt"], "prompt_short": short, **TEXTS}
    mapped = read(theirs, columns={"prompt": "prompt_long", "short_prompt": "prompt_short"})
    assert mapped == read({**record, "short_prompt": short})


def test_errors_have_the_datas_names_under_a_mapping() -> None:
    record = {"doc": DOC, "ask": ASK, "good": "nine", "bad": "two"}
    with pytest.raises(RecordError, match=r"^here/data.jsonl:3: field 'good': expected text that is not empty"):
        read({**record, "good": ""}, columns=MAPPED)
    with pytest.raises(RecordError, match=r"field 'ask': expected this required field"):
        read({"doc": DOC, "good": "nine", "bad": "two"}, columns=MAPPED)
    with pytest.raises(RecordError, match=r"field 'question \(theirs\)'"):
        read({**record, "question": "Another?"}, columns=MAPPED)
    with pytest.raises(ValueError, match=r"data.init_args.columns.*did you mean 'long_context'"):
        RecordReader(columns={"long_contxt": "doc"})
    with pytest.raises(ValueError, match=r"data.init_args.format.*'trll'"):
        RecordReader(format="trll")


def test_ids_are_unique_and_need_not_be_there() -> None:
    record = {"prompt": LONG, **TEXTS}
    rows = [("a/b/x.jsonl:1", record), ("a/b/y.jsonl:1", record)]
    assert [pair.id for pair in RecordReader().pairs(rows, "a/b")] == ["b/x.jsonl:1", "b/y.jsonl:1"]
    own = {"question": "q", "long_context": "c", "chosen": "a", "id": "7"}
    with pytest.raises(RecordError, match=r"x.jsonl:2: field 'id': expected an id not used before \(see x.jsonl:1\)"):
        list(RecordReader().pairs([(f"x.jsonl:{n}", own) for n in (1, 2)]))


def test_a_mapped_column_may_be_null_in_a_table(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from datasets import Dataset

    rows = [{"doc": DOC, "ask": "How many?", "good": "nine", "bad": "two", "sys": says} for says in (None, "Be brief.")]
    Dataset.from_list(rows).to_parquet(tmp_path / "a.parquet")
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in ("a.parquet", "a.jsonl"):
        reader = RecordReader(columns={**MAPPED, "system": "sys"})
        pairs = load_pairs(str(tmp_path / name), "train", "data.init_args.path", reader)
        assert [pair.system for pair in pairs] == [None, "Be brief."]
    assert not caplog.text
    reader = RecordReader(columns={**MAPPED, "system": "sys", "id": "key"})
    load_pairs(str(tmp_path / name), "train", "data.init_args.path", reader)
    assert "`columns` names columns that no record has: key" in caplog.text


def test_two_texts_without_a_prompt_are_told_what_they_lack() -> None:
    with pytest.raises(RecordError, match=r"field 'prompt': expected this required field \(two texts hold none"):
        read({"chosen": "The sky is blue.", "rejected": "The sky is green."})


def test_documents_in_the_place_of_pairs_are_told_how_they_become_pairs(tmp_path) -> None:
    (tmp_path / "notes.txt").write_text("The first core was drilled on 17 April.")
    for place in (tmp_path, tmp_path / "notes.txt"):  # `datasets` reads a folder of texts as the column `text`
        with pytest.raises(ValueError, match=r"plain text.* build --config build/longpo_chat --source\.path"):
            load_pairs(str(place), "train", "data.init_args.path", RecordReader())


def test_a_prompt_that_is_null_is_not_listed_as_if_it_were_there() -> None:
    with pytest.raises(RecordError, match=r"field 'prompt': expected this required field .*, got None"):
        read({"prompt": None, "chosen": "The sky is blue.", "rejected": "The sky is green."})


def test_a_role_that_is_no_text_is_refused() -> None:
    said = [{"role": ["user"], "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    with pytest.raises(RecordError, match=r"role': expected a role of system, .*got \['user'\]"):
        read({"messages": said})


def test_ids_of_others_may_name_a_prompt_that_comes_again() -> None:
    rows = [(f"x.jsonl:{n}", {"prompt": LONG, **TEXTS, "prompt_id": "u", "score_chosen": n}) for n in (1, 2, 3)]
    assert [pair.id for pair in RecordReader().pairs(rows)] == ["u", "u (x.jsonl:2)", "u (x.jsonl:3)"]


class Doubled(RecordFormat):
    name, fields = "doubled", ("q", "a")

    def matches(self, record: Record) -> bool:
        return "q" in record

    def pair(self, record: Record, where: str, name: str) -> PreferencePair:
        return PreferencePair(name, "", "", record["q"] * 2, record["a"], ())


def test_a_format_of_ones_own() -> None:
    assert read({"q": "ab", "answer": "c"}, format=Doubled(), columns={"a": "answer"}).long_context == "abab"
    assert repr(Doubled()) == repr(Doubled())  # what is tokenised is stored under it


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the shared samples are not here")
@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*.json*")), ids=lambda path: path.stem)
def test_the_shared_samples_mean_what_they_say(path: Path) -> None:
    expected = [json.loads(line) for line in (SAMPLES / "expected.jsonl").read_text().splitlines()]
    if path.stem == "expected":
        return
    mapped = {"columns": MAPPED, "extra_columns": "ignore"} if path.stem == "columns" else {}
    pairs = load_pairs(str(path), "train", "data.init_args.path", RecordReader(**mapped))
    assert len(pairs) == 4 + (path.stem == "trl_conversational")
    for pair, meant in zip(pairs, expected, strict=False):
        apart = path.stem in ("alpaca_ranking", "columns")
        assert pair.long_context == (meant["context"] if apart else meant["messages"][-1]["content"])
        assert pair.question == (meant["question"] if apart else "")
        assert pair.system == (meant["system"] if path.stem not in ("columns", "trl_plain") else None)
        assert (pair.chosen, pair.rejected) == (meant["chosen"], () if "sft" in path.stem else tuple(meant["rejected"]))
        assert not pair.history + pair.followup


def test_ranked_answers_are_told_what_they_lack() -> None:
    """Nectar's: the list of answers was taken for the list of records."""
    answers = [{"answer": "So.", "rank": 1.0}, {"answer": "No.", "rank": 2.0}]
    with pytest.raises(
        RecordError, match=r"the best answer as `chosen` and others as `rejected`.* not all .*'answers'"
    ):
        read({"prompt": "Why?", "answers": answers})


SPOKEN = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}]
OTHERS = [SPOKEN[0], {"role": "assistant", "content": "No."}]


@pytest.mark.parametrize(
    "prints",
    [json.dumps, str, lambda said: json.dumps({"messages": said, "tools": []}), lambda said: json.dumps(said[-1])],
    ids=["JSON", "Python", "an object", "one message"],
)
@pytest.mark.parametrize("field", ["chosen", "completion"])
def test_answers_that_print_messages_are_refused(prints: Any, field: str) -> None:
    """diatool-dpo#2: columns that hold JSON as text; its brackets and names would be trained."""
    record = {"prompt": "Why?", field: prints(SPOKEN), **({"rejected": prints(OTHERS)} if field == "chosen" else {})}
    with pytest.raises(RecordError, match=r"data.jsonl:3: answer: expected text, or messages as a list instead of"):
        read(record)


@pytest.mark.parametrize(
    "answer",
    [
        json.dumps(SPOKEN),  # a dialogue that was asked for
        json.dumps({"role": "king", "content": "x"}),
        json.dumps({"role": ["assistant"], "content": "x"}),
        '[{"role": "assistant", "content": "cut off',
        '{"role": "assistant", "content": ["a"]} and more',
        json.dumps([{"name": "f", "arguments": {"role": "assistant"}}]),
        '{{"role": "assistant", "content": "{answer}"}}',  # a template's letters: to Python a set of a dictionary
    ],
)
def test_answers_in_json_stay_answers(answer: str) -> None:
    record = {"prompt": "Write a dialogue as JSON", "chosen": answer, "rejected": "no"}
    assert read(record).chosen == answer


@pytest.mark.parametrize(
    "names",
    [("score_chosen", "score_rejected"), ("chosen_rating", "rejected_rating"), ("chosen_score", "rejected_score")],
)
def test_ties_are_counted(names: tuple[str, str], caplog: pytest.LogCaptureFixture) -> None:
    """UltraFeedback as it is published has them; which answer is called chosen was drawn."""
    scores = [(5.0, 5.0), (5.0, 4.0), (3, 3.0), (None, None), (4.0, None)]
    rows = [
        (
            f"here/data.jsonl:{number}",
            {"prompt": "p", "chosen": "y", "rejected": "n", **dict(zip(names, both, strict=True))},
        )
        for number, both in enumerate(scores, 1)
    ]
    parse = RecordReader()
    for _ in range(2):
        assert len(list(parse.pairs(rows, "here/data.jsonl"))) == 5
    said = [line for line in caplog.messages if "the same score" in line]
    assert said == [f"here/data.jsonl: in 2 records {scored._TIE}"]


@pytest.mark.parametrize(
    "names",
    [
        ("rating_chosen", "rating_rejected"),
        ("chosen_reward", "rejected_reward"),
        ("rm_score_chosen", "rm_score_rejected"),
    ],
)
def test_scores_of_other_names_that_contradict_the_choice_are_counted(
    names: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """As distilabel-capybara, UltraFeedback's copies and reward models call them; no layout knows these names."""
    numbers = [(1.0, 2.0), (1, 3), (2.0, 1.0), (1.0, 1.0), (None, 1.0), ("a", "b")]
    rows = [
        (f"data.jsonl:{place}", {"prompt": "p", "chosen": "y", "rejected": "n", **dict(zip(names, both, strict=True))})
        for place, both in enumerate(numbers)
    ]
    assert len(list(RecordReader(extra_columns="ignore").pairs(rows, "data.jsonl"))) == len(numbers)
    told = f"data.jsonl: in 2 records `{names[0]}` is below `{names[1]}`: if these are scores, chosen and rejected are"
    assert [told in message for message in caplog.messages].count(True) == 1


def test_a_record_is_renamed_once(monkeypatch):
    """Beside the first one, by which the layout is chosen."""
    renamed, plain = [], reader.renamed
    monkeypatch.setattr(reader, "renamed", lambda record, columns: renamed.append(record) or plain(record, columns))
    rows = [{"ask": f"{n}?", "chosen": "a", "rejected": "b", "long_context": "c", "short_context": "d"} for n in "123"]
    read = RecordReader(columns={"question": "ask"})
    assert [pair.question for pair in read.pairs((str(n), row) for n, row in enumerate(rows))] == ["1?", "2?", "3?"]
    assert renamed == [rows[0], *rows]


def test_a_layout_of_ones_own_that_reads_otherwise_now_has_other_tokens(tmp_path, monkeypatch) -> None:
    """Stored tokens were found by its name and settings alone (as in open-instruct#1497, LMFlow#394)."""
    code = (
        "from data_modules.formats.trl import TRLPreference\n\n"
        "class Mine(TRLPreference):\n"
        "    def pair(self, record, where, name):\n"
        "        return super().pair({**record, 'prompt': record['prompt'] + 'SUFFIX'}, where, name)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    data, names = tmp_path / "data.jsonl", set[str]()
    data.write_text(json.dumps({"prompt": "a", **TEXTS}))
    for suffix in ("one", "two", "one"):
        (tmp_path / "my_layout.py").write_text(code.replace("SUFFIX", suffix))
        sys.modules.pop("my_layout", None)
        mine = RecordReader(importlib.import_module("my_layout").Mine())
        content = content_of_source(str(data), "train", "data.init_args.path", mine)
        assert content is not None
        names.add(content.identity)
    assert len(names) == 2
    assert all(" as of " not in repr(layout) for layout in FORMATS.values())  # ours have a version of their own


@pytest.mark.parametrize("extra_columns", ["error", "ignore"])
@pytest.mark.parametrize("name", ["label", "kto_tag"])
@pytest.mark.parametrize(
    "record",
    [
        {"messages": [{"role": "user", "content": LONG}, {"role": "assistant", "content": "nine"}]},
        {"conversations": [{"from": "human", "value": LONG}, {"from": "gpt", "value": "nine"}]},
        {"instruction": LONG, "output": "nine"},
    ],
)
def test_an_answer_that_is_only_unwanted_is_no_example(record: dict, name: str, extra_columns: Any) -> None:
    """KTO's data of ms-swift and LLaMA-Factory (ms-swift#4535): SFT learnt it once the column was ignored."""
    with pytest.raises(RecordError, match=f"field '{name}': expected true, or records without it: nothing trains on"):
        read({**record, name: False}, extra_columns=extra_columns)
    assert read({**record, name: True}, extra_columns="ignore").chosen == "nine"


@pytest.mark.parametrize("name", ["rejected", "rejected_response"])
@pytest.mark.parametrize("printed", ["['two', 'ten']", '["two"]'])
def test_a_printed_list_of_rejected_answers_is_refused_in_json_too(name: str, printed: str) -> None:
    """In tables it was; in a list of its own it is an answer, as beside a chosen one that looks the same."""
    beside = {"prompt": LONG} if name == "rejected" else {"messages": talk(LONG)}
    first = {"chosen": "nine"} if name == "rejected" else {"messages": talk(LONG, "nine")}
    record = {**beside, **first, name: printed}
    with pytest.raises(RecordError, match=f"field '{name}': expected one text, or a list stored as a list"):
        read(record)
    assert read({**record, name: [printed]}).rejected == (printed,)
    if name == "rejected":
        for chosen in ("['nine']", "[]", "[9]"):  # lists are asked for
            assert read({**record, "chosen": chosen}).rejected == (printed,)


@pytest.mark.parametrize(
    "record",
    [
        *(record for _, record, _ in WHOLE.values()),
        {"question": ASK, "long_context": DOC, **TEXTS, "rejected": ["two"]},
    ],
)
@pytest.mark.parametrize("nothing", [None, [], ""])
def test_columns_beside_texts_that_say_nothing_are_absent(record: dict[str, Any], nothing: Any) -> None:
    """Tables have the column in every row; null was refused, with the advice to ignore columns."""
    assert read({**record, "tools": nothing, "images": nothing}) == read(record)


@pytest.mark.parametrize("extra_columns", ["error", "ignore"])
@pytest.mark.parametrize("name", ["tools", "images", "image"])
def test_what_a_prompt_says_beside_texts_is_not_ignored(name: str, extra_columns: Any) -> None:
    """Answers that call tools were trained in prompts that name none (oumi#2599), as the error's advice had it."""
    talk = [{"role": "user", "content": LONG}, {"role": "assistant", "content": "nine"}]
    for record in ({"messages": talk}, {"prompt": talk[:1], **TEXTS}):
        with pytest.raises(RecordError, match=f"field '{name}': expected nothing: prompts are text without tools"):
            read({**record, name: [{"name": "search"}]}, extra_columns=extra_columns)
        assert read({**record, name: []}, extra_columns="ignore").chosen == "nine"


@pytest.mark.parametrize(
    "note", [{"thoughts": "Two?"}, {"channel": "analysis"}, {"documents": ["x"]}, {"label": False}]
)
def test_what_a_message_says_beside_its_text_is_no_note(note: dict) -> None:
    """gpt-oss's thoughts are messages of a channel of their own: they were earlier answers then."""
    said = talk(LONG, "nine")
    with pytest.raises(RecordError, match=rf"field 'messages\[1\]\.{next(iter(note))}': expected nothing beside role"):
        read({"messages": [said[0], said[1] | note]}, extra_columns="ignore")
