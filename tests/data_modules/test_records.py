"""Strict JSONL of pairs: what is valid comes back unchanged, all else is an error that says where."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_modules.messages import Message
from data_modules.records import PreferencePair, Turn, parse_pair, read_pairs, write_pairs
from lit_longpo.files.plain_text import is_blank
from lit_longpo.files.strict_json import RecordError

PAIR = PreferencePair("a", "who?", "Ann.", "Ann. Bob. Cid.", "Ann", ("Bob", "Cid"), ("Ann",), ((0, 4), (5, 9)))

texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(lambda text: not is_blank(text))


@st.composite
def pairs(draw: st.DrawFn) -> PreferencePair:
    long_context = draw(texts)
    ends = sorted(draw(st.sets(st.integers(0, len(long_context)), max_size=4)))
    spans = tuple(zip(ends[::2], ends[1::2], strict=False))
    chosen = draw(texts)
    rejected = tuple(draw(st.lists(texts.filter(lambda text: text.strip() != chosen.strip()), min_size=1, max_size=3)))
    return PreferencePair(
        draw(texts),
        draw(texts),
        draw(texts),
        long_context,
        chosen,
        rejected,
        tuple(draw(st.lists(texts))),
        spans,
    )


@given(st.lists(pairs(), min_size=1, max_size=4, unique_by=lambda pair: pair.id))
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, written: list[PreferencePair]) -> None:
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    write_pairs(path, written)
    assert read_pairs(path) == written


def _line(**changes: object) -> bytes:
    return json.dumps({**asdict(PAIR), **changes}).encode()


def _without(name: str) -> bytes:
    return json.dumps({key: value for key, value in asdict(PAIR).items() if key != name}).encode()


BAD_LINES = {
    "not JSON": (b"{", "record"),
    "not UTF-8": (b'{"id": "\xff"}', "record"),
    "not an object": (b"[1]", "record"),
    "too deep": (b"[" * 100_000, "record"),
    "a key twice": (b'{"id": "a", "id": "b"}', "record"),
    "missing field": (_without("chosen"), "'chosen'"),
    "no context": (b'{"id": "b", "question": "q", "chosen": "c"}', "'long_context'"),
    "unknown field": (_line(choosen="x"), "did you mean 'chosen'"),
    "number for text": (_line(question=3), "'question'"),
    "blank text": (_line(id="  "), "'id'"),
    "lone surrogate": (_line(question="\ud800"), "'question'"),
    "null for a list": (_line(answers=None), "'answers'"),
    "text for a list": (_line(rejected="Bob"), "'rejected'"),
    "no rejected": (_line(rejected=[]), "'rejected'"),
    "blank rejected": (_line(rejected=["Bob", ""]), r"'rejected\[1\]'"),
    "chosen is rejected": (_line(rejected=["Bob", " Ann "]), "'chosen'"),
    "span past the end": (_line(supporting=[[0, 15]]), "'supporting'"),
    "empty span": (_line(supporting=[[3, 3]]), "'supporting'"),
    "spans overlap": (_line(supporting=[[0, 4], [3, 6]]), "'supporting'"),
    "truth value in a span": (_line(supporting=[[False, True]]), "'supporting'"),
    "span of three": (_line(supporting=[[0, 1, 2]]), "'supporting'"),
    "weight of nothing": (_line(weight=0), "'weight'"),
    "weight that is no number": (_line(weight=True), "'weight'"),
    "weight without end": (_line(weight=float("inf")), "'weight'"),
    "margin that is none": (_line(margin=float("nan")), "'margin'"),
    "margin beyond any float": (_line(margin=10**400), "'margin'"),
    "id used before": (_line(), "'id'"),
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_bad_line_is_named(tmp_path: Path, name: str) -> None:
    line, field = BAD_LINES[name]
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(_line() + b"\n" + line + b"\n")
    with pytest.raises(RecordError, match=field) as caught:
        read_pairs(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:2: ")
    assert "expected" in message
    assert "got" in message


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_corruption_is_an_error_or_another_valid_record(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Nothing is skipped: whatever bytes change, every line gives a record or the file a `RecordError`."""
    path = tmp_path_factory.mktemp("corrupt") / "pairs.jsonl"
    raw = bytearray(_line() + b"\n" + _line(id="b") + b"\n")
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw)
    try:
        read = read_pairs(path)
    except RecordError:
        return
    assert len(read) == bytes(raw).rstrip().count(b"\n") + 1


def test_optional_fields_have_defaults(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(json.dumps({k: v for k, v in asdict(PAIR).items() if k not in ("answers", "supporting")}).encode())
    assert read_pairs(path) == [replace(PAIR, answers=(), supporting=())]


def test_weight_and_margin_are_numbers_and_left_out_where_they_say_nothing(tmp_path: Path) -> None:
    pairs = [PAIR, replace(PAIR, id="b", weight=0.5, margin=-2.0)]
    write_pairs(tmp_path / "pairs.jsonl", pairs)
    plain, emphasised = map(json.loads, (tmp_path / "pairs.jsonl").read_text().splitlines())
    assert not {"weight", "margin"} & plain.keys()
    assert (emphasised["weight"], emphasised["margin"]) == (0.5, -2.0)
    assert read_pairs(tmp_path / "pairs.jsonl") == pairs
    assert parse_pair(json.loads(_line(weight=None, margin=3)), "here") == replace(PAIR, margin=3.0)


def test_what_is_not_there_is_neither_read_nor_written(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    said = (Message("user", "Hi."), Message("assistant", "Hello."))
    written = [
        replace(PAIR, short_context="", rejected=(), id="b"),
        replace(PAIR, long_context="", supporting=(), id="c"),
        replace(PAIR, system="Be brief.", history=said, followup=said[::-1], id="d"),
        replace(PAIR, rejected=(), turns=(Turn("where?", "", "Rome", ()),), id="e"),
    ]
    write_pairs(path, [PAIR, *written])
    assert read_pairs(path) == [PAIR, *written]
    silent = {"short_context", "long_context", "rejected", "system", "history", "followup"}
    fields = [set(json.loads(line)) & silent for line in path.read_text().splitlines()]
    assert fields[:3] == [
        {"short_context", "long_context", "rejected"},
        {"long_context"},
        {"short_context", "rejected"},
    ]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"history": [{"role": "system", "content": "x"}]}, "'history': expected messages of user and assistant"),
        (
            {"followup": [{"role": "assistant", "content": "x"}]},
            "'followup': expected messages that end with the user's",
        ),
        ({"history": "x"}, "'history': expected a list of messages"),
        ({"system": " "}, "'system': expected text that is not empty"),
        ({"chosen": "\u200b"}, "'chosen': expected text that is not empty"),
        ({"rejected": ["\ufeff \u00ad"]}, r"'rejected\[0\]': expected text that is not empty"),
        ({"question": "\x00\x1b"}, "'question': expected text that is not empty"),
        ({"long_context": "\ufe0f\u3164"}, "'long_context': expected text that is not empty"),
    ],
)
def test_malformed_conversations_are_named(said: dict[str, object], message: str) -> None:
    with pytest.raises(RecordError, match=message):
        parse_pair({**asdict(PAIR), **said}, "pairs.jsonl:1")


def test_empty_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(b"")
    with pytest.raises(RecordError, match="at least one record"):
        read_pairs(path)


@pytest.mark.parametrize("bad", [replace(PAIR, chosen="Bob"), replace(PAIR, question=" "), PAIR])
def test_writer_refuses_what_the_reader_would(tmp_path: Path, bad: PreferencePair) -> None:
    path = tmp_path / "pairs.jsonl"
    write_pairs(path, [replace(PAIR, id="old")])
    with pytest.raises(RecordError):
        write_pairs(path, [PAIR, bad])
    assert [pair.id for pair in read_pairs(path)] == ["old"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("turn", "message"),
    [
        ("no", r"turns\[0\].*an object"),
        ({"question": "q", "short_context": "c", "chosen": "a"}, r"turns\[0\].*rejected.*required"),
        ({"question": "q", "short_context": "c", "chosen": "a", "rejected": ["a"]}, r"turns\[0\]\.rejected"),
        ({"question": "q", "short_context": "c", "chosen": "a", "rejected": ["b", "d"]}, "1 answers as in the first"),
        ({"question": "q", "short_context": "c", "chosen": "a", "rejectd": ["b"]}, "did you mean 'rejected'"),
    ],
)
def test_malformed_turns_are_named(turn, message):
    record = {"id": "x", "question": "q", "short_context": "c", "long_context": "c d", "chosen": "a", "rejected": ["b"]}
    with pytest.raises(RecordError, match=message):
        parse_pair({**record, "turns": [turn]}, "pairs.jsonl:1")


def test_turns_make_the_pair_that_gives_them_back():
    turns = tuple(Turn(f"q{n}", f"c{n}", f"a{n}", (f"r{n}", f"s{n}")) for n in range(3))
    pair = PreferencePair.from_turns("x", "c0 c1 c2", turns, ("a0",), ((0, 2),))
    assert pair.all_turns == turns
    assert (pair.question, pair.rejected, pair.turns) == ("q0", ("r0", "s0"), turns[1:])
