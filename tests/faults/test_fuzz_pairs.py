"""Pairs in every layout and kind of file, with one thing wrong: refused in one line, or read as it is there."""

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import strategies as st
from support.mutations import MARK, Refused, changed, damaged, fuzz, leaves, outcome
from support.preference_formats import APART, ASK, DOC, WHOLE

from data_modules.files.record_files import read_records
from data_modules.formats.reader import FORMATS, RecordReader
from data_modules.records import PreferencePair

OWN = {
    "id": "a",
    "question": ASK,
    "short_context": f"{DOC} Short.",
    "long_context": f"{DOC} Long.",
    "chosen": "nine",
    "rejected": ["two", "ten"],
    "answers": ["nine", "9"],
    "supporting": [[0, 4], [5, 9]],
    "turns": [{"question": "Who?", "short_context": "Ines.", "chosen": "Ines", "rejected": ["Bo", "Al"]}],
    "verified": True,
    "weight": 2,
    "margin": 0.5,
    "system": "Be brief.",
    "history": [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Hello!"}],
    "followup": [{"role": "assistant", "content": "Read."}, {"role": "user", "content": "Well?"}],
}
SAMPLES: dict[str, tuple[str, dict[str, Any], dict[str, str]]] = {
    "own, all fields": ("pairs", OWN, {}),
    **{name: (layout, record, {}) for name, (layout, record, _) in WHOLE.items()},
    **{name: (layout, record, columns) for name, (layout, record, columns, _) in APART.items()},
}
UNREAD = {"id", "prompt_id", *(name for layout in FORMATS.values() for name in layout.companions)}
few_and_many = pytest.mark.parametrize("examples", [40, pytest.param(4000, marks=pytest.mark.slow)])


def said(pair: PreferencePair) -> list[str]:
    """All texts of a pair."""
    turns = [[turn.question, turn.short_context, turn.chosen, turn.rejected] for turn in pair.turns]
    around = [message.content for message in (*pair.history, *pair.followup)]
    own = [pair.question, pair.short_context, pair.long_context, pair.chosen, pair.rejected, pair.answers]
    return list(leaves([*around, *own, *turns, pair.system or ""]))


@few_and_many
def test_records_are_read_whole_or_refused(examples: int) -> None:
    """What a changed record says is in its pair, and what its pair says is in the record."""

    def check(data: st.DataObject) -> None:
        layout, valid, columns = SAMPLES[data.draw(st.sampled_from(list(SAMPLES)))]
        record = changed(data.draw, valid)
        format = data.draw(st.sampled_from(["auto", layout]))
        reader = RecordReader(format, columns)
        pairs = outcome(lambda: list(reader.pairs([("data.jsonl:1", record)])))
        if isinstance(pairs, Refused):
            assert pairs.message.startswith("data.jsonl:1: "), pairs
            return
        [pair] = pairs
        assert_says_the_same(record, pair)

    fuzz(check, examples)


def assert_says_the_same(record: dict[str, Any], pair: PreferencePair) -> None:
    """Every word of the pair is in the record, and every text that a change brought into a column that is read."""
    here, told = list(leaves(record)), said(pair)
    parts = "".join(text for text in here if text != "text")
    for word in (word for text in told for word in text.split()):
        assert any(word in text for text in (*here, parts)), f"{word!r} is not in {record}"
    words = {word for text in told for word in text.split()}
    brought = [text for name, value in record.items() if name not in UNREAD for text in leaves(value) if MARK in text]
    for text in brought:
        assert words & set(text.split()), f"{text!r} is not in {pair}"
    worse = {text for name, value in record.items() if "reject" in name or "non_pref" in name for text in leaves(value)}
    better = {text for name, value in record.items() if "reject" not in name for text in leaves(value)}
    assert pair.chosen not in worse - better


def lines_of(raw: bytes) -> list[Any]:
    """JSON Lines by Python's own parser; a mark of the byte order and empty lines at the end are nothing."""
    lines = raw.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    while lines and not lines[-1].strip():
        lines.pop()
    return [strictly(line) for line in lines]


def list_of(raw: bytes) -> list[Any]:
    """One list, one object, or lines."""
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    try:
        value = strictly(raw)
    except (ValueError, RecursionError):
        if raw.lstrip().startswith(b"["):
            raise
        return lines_of(raw)
    return value if isinstance(value, list) else [value]


def strictly(raw: bytes) -> Any:
    """UTF-8 JSON whose objects have each key once."""

    def unique(items: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(items)) != len(items):
            raise ValueError(f"a key twice: {items}")
        return dict(items)

    return json.loads(raw.decode("utf-8"), object_pairs_hook=unique)


def cells_of(delimiter: str) -> Any:
    def read(raw: bytes) -> list[Any]:
        text = io.StringIO(raw.decode("utf-8-sig"), newline="")
        names, *rows = [row for row in csv.reader(text, delimiter=delimiter, strict=True) if row]
        if not all(names) or len(set(names)) < len(names) or any(len(row) != len(names) for row in rows):
            raise ValueError("no table")
        return [{name: cell for name, cell in zip(names, row, strict=True) if cell} for row in rows]

    return read


def table_of(raw: bytes) -> list[Any]:
    rows = pq.read_table(io.BytesIO(raw)).to_pylist()
    return [{name: value for name, value in row.items() if value is not None} for row in rows]


def written(kind: str) -> bytes:
    """Three pairs in a file of that kind."""
    texts = [
        {"question": ASK, "long_context": f"{DOC} \u00e9{n}\u2028", "chosen": "nine", "rejected": "two"}
        for n in range(3)
    ]
    records = [{**OWN, "id": f"r{number}"} for number in range(3)]
    if kind in (".csv", ".tsv"):
        out = io.StringIO(newline="")
        table = csv.DictWriter(out, list(texts[0]), delimiter="," if kind == ".csv" else "\t")
        table.writeheader()
        table.writerows(texts)
        return out.getvalue().encode()
    if kind == ".parquet":
        out = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(records), out)
        return out.getvalue()
    text = (
        json.dumps(records, indent=1) if ".json." in f"{kind}." else "".join(f"{json.dumps(one)}\n" for one in records)
    )
    return gzip.compress(text.encode()) if kind.endswith(".gz") else text.encode()


READERS: dict[str, Any] = {
    ".jsonl": lines_of,
    ".json": list_of,
    ".jsonl.gz": lambda raw: lines_of(gzip.decompress(raw)),
    ".json.gz": lambda raw: list_of(gzip.decompress(raw)),
    ".csv": cells_of(","),
    ".tsv": cells_of("\t"),
    ".parquet": table_of,
}


@few_and_many
def test_damaged_files_are_read_as_python_reads_them_or_refused(examples: int, tmp_path: Path) -> None:
    files = {kind: written(kind) for kind in READERS}

    def check(data: st.DataObject) -> None:
        kind = data.draw(st.sampled_from(list(files)))
        raw = damaged(data.draw, files[kind])
        path = tmp_path / f"pairs{kind}"
        path.write_bytes(raw)
        found = outcome(lambda: [record for _, record in read_records(str(path), "train", "data.init_args.path")])
        if isinstance(found, Refused):
            assert str(path) in found.message
        else:
            assert same(found, READERS[kind](raw))

    fuzz(check, examples)


def same(one: Any, other: Any) -> bool:
    """Equal, where a number that is none equals itself."""
    return repr(one) == repr(other)


def test_valid_files_are_read(tmp_path: Path) -> None:
    """The changes begin at what is right."""
    for kind in READERS:
        path = tmp_path / f"pairs{kind}"
        path.write_bytes(written(kind))
        assert len(list(RecordReader().pairs(read_records(str(path), "train", "path"), str(path)))) == 3, kind
    for name, (layout, record, columns) in SAMPLES.items():
        for format in ("auto", layout):
            [pair] = RecordReader(format, columns).pairs([("data.jsonl:1", record)])
            assert_says_the_same(record, pair)
            assert pair.chosen == "nine", name
