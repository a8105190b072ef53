import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.benchmarks.official_files import (
    OfficialFileError,
    Row,
    differences,
    read_json,
    read_official_rows,
    read_text,
)

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


def test_lines_end_at_newlines_only(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": "one\u2028two\u0085"}\n\n{"a": "three"}\r\n', encoding="utf-8")
    assert [row.text("a") for row in read_official_rows(path, "")] == ["one\u2028two\u0085", "three"]
    assert [row.where for row in read_official_rows(path, "")] == [f"{path}:1", f"{path}:3"]


def test_a_json_file_holds_a_list(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text('[{"a": "x"}, 3]')
    rows = read_official_rows(path, "")
    assert next(rows).text("a") == "x"
    with pytest.raises(OfficialFileError, match=r"record 2: record: expected a JSON object, got 3"):
        next(rows)
    path.write_text("{}")
    with pytest.raises(OfficialFileError, match="a list of records"):
        list(read_official_rows(path, ""))


@pytest.mark.parametrize("line", [b"{", b"\xff", b"[1]", b"[" * 100_000, b'"text"'])
def test_malformed_lines_are_named(tmp_path, line):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": "x"}\n' + line)
    with pytest.raises(OfficialFileError, match=r"rows\.jsonl:2: .*expected .*; download the official file again"):
        list(read_official_rows(path, ""))


@given(values)
def test_fields_are_right_or_refused_by_name(value):
    row = Row("file:7", {"x": value})
    for read, kind in ((row.text, str), (row.count, int), (row.texts, tuple), (row.optional_text, (str, type(None)))):
        try:
            assert isinstance(read("x"), kind)
        except OfficialFileError as error:
            assert str(error).startswith("file:7: field 'x': expected ")  # noqa: PT017


def test_missing_files_name_the_layout(tmp_path):
    for read in (read_json, read_text, lambda *arguments: list(read_official_rows(*arguments))):
        with pytest.raises(FileNotFoundError, match=r"layout \(config/x\.json\).*set `folder`"):
            read(tmp_path / "x.jsonl", "config/x.json")


def test_changed_files_are_reported(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({}))
    assert differences(tmp_path, {"a.json": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"}) == ()
    assert "a.json is not the official file" in differences(tmp_path, {"a.json": "0"})[0]
