"""Files of our own that were damaged are refused by the name of the field, never by a traceback of a library."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from lit_longpo.files.stored import line_of, read_stored, stored_line, write_json
from lit_longpo.files.strict_json import RecordError


@dataclass(frozen=True)
class Row:
    name: str
    count: int
    share: float = 0.0
    depth: float | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)
    parts: tuple[str, ...] = ()


def read(tmp_path, text):
    path = tmp_path / "row.json"
    path.write_bytes(text.encode("latin-1"))
    return read_stored(path, Row)


def test_what_was_written_is_read(tmp_path):
    assert read(tmp_path, '{"name": "a", "count": 2}') == Row("a", 2)
    whole = read(tmp_path, '{"name": "a", "count": 2, "share": 1, "depth": null, "sizes": {"x": 3}, "parts": ["p"]}')
    assert (whole.share, whole.sizes) == (1, {"x": 3})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "UTF-8 JSON"),
        ("\xff", "UTF-8 JSON"),
        ('{"name": "a",\n"count": }', "row.json:2: record: expected UTF-8 JSON"),
        ("[" * 100_000, "record: expected"),
        ("[]", "a JSON object"),
        ('{"name": "a"}', "field 'count': expected to be there"),
        ('{"name": "a", "count": 1, "cuont": 1}', "field 'cuont': expected one of"),
        ('{"name": "a", "name": "b", "count": 1}', "each field once"),
        ('{"name": 1, "count": 1}', "field 'name': expected text, got 1"),
        ('{"name": "a", "count": "1"}', "field 'count': expected a whole number"),
        ('{"name": "a", "count": true}', "field 'count': expected a whole number"),
        ('{"name": "a", "count": 1.5}', "field 'count': expected a whole number"),
        ('{"name": "a", "count": 1, "share": NaN}', "expected finite numbers, got 'NaN'"),
        ('{"name": "a", "count": 1, "share": 1e999}', "field 'share': expected a finite number"),
        ('{"name": "a", "count": 1, "depth": "deep"}', "field 'depth'"),
        ('{"name": "a", "count": 1, "sizes": {"x": "3"}}', "field 'sizes.x': expected a whole number"),
        ('{"name": "a", "count": 1, "sizes": []}', "field 'sizes': expected a JSON object"),
        (f'{{"name": "a", "count": 1, "{"cuont" * 999}": 1}}', "field 'cuontcuont"),
        ('{"name": "a", "count": 1, "sizes": {"x\\n": "3"}}', "expected a whole number"),
        ('{"name": "a", "count": 1, "parts": "p"}', "field 'parts': expected a list"),
        ('{"name": "a", "count": 1, "parts": ["p", 2]}', "field 'parts[1]': expected text"),
    ],
)
def test_what_is_wrong_is_said_by_file_and_field(text, said, tmp_path):
    with pytest.raises(RecordError) as error:
        read(tmp_path, text)
    assert said in str(error.value)
    assert "row.json" in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def test_a_folder_in_its_place(tmp_path):
    with pytest.raises(RecordError, match="one that can be read"):
        read_stored(tmp_path, Row)


def test_a_checksum_of_any_length_is_said_in_few_words():
    line = line_of({"id": "a"}).replace(b'"crc": ', b'"crc": "' + b"[" * 5000 + b'", "was": ')
    with pytest.raises(RecordError, match="expected what has the checksum") as caught:
        stored_line(line, "task.jsonl:1")
    assert len(str(caught.value)) < 400


def test_half_a_character_is_written_and_read():
    row = {"text": "\ud83d half, whole \u00e9 \U0001f600", "number": 1}
    assert stored_line(line_of(row), "x") == row
    assert "\u00e9".encode() in line_of(row)


def test_a_link_and_a_pipe_are_written_into_and_a_file_is_replaced(tmp_path):
    """`plan --json /dev/stdout` took the place of /dev/stdout."""
    file, link, pipe = tmp_path / "file.json", tmp_path / "link.json", tmp_path / "pipe"
    write_json(file, [1])
    link.symlink_to(file)
    write_json(link, [2])
    assert (link.is_symlink(), json.loads(file.read_text())) == (True, [2])
    os.mkfifo(pipe)
    end = os.open(pipe, os.O_RDWR)
    try:
        write_json(pipe, [3])
        assert json.loads(os.read(end, 64)) == [3]
    finally:
        os.close(end)
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(file, float("nan"), allow_nan=False)
    assert (json.loads(file.read_text()), len(list(tmp_path.iterdir()))) == ([2], 3)
