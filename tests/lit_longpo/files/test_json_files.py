"""JSON values come with the line that each begins on."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_longpo.files.json_files import json_lines, json_list

values = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda item: st.lists(item, max_size=3))
records = st.lists(st.dictionaries(st.text(max_size=3), values, max_size=3), min_size=1, max_size=5)


@given(records, st.sampled_from([None, 0, 2]))
@settings(max_examples=25, deadline=None)
def test_a_list_gives_its_items(tmp_path_factory, items, indent):
    path = tmp_path_factory.mktemp("list") / "a.json"
    text = json.dumps(items, indent=indent)
    path.write_text(text)
    read = list(json_list(path))
    assert [value for _, value in read] == items
    for where, value in read:
        line = int(where.removeprefix(f"{path}:").partition(",")[0])
        rest = "\n".join(text.split("\n")[line - 1 :])
        start = rest.index("{")
        if ", item" not in where and indent is not None:
            assert json.JSONDecoder().raw_decode(rest, start)[0] == value


@given(records)
@settings(max_examples=15, deadline=None)
def test_lines_are_values(tmp_path_factory, items):
    path = tmp_path_factory.mktemp("lines") / "a.jsonl"
    path.write_bytes(b"".join(json.dumps(item).encode() + b"\n" for item in items))
    assert list(json_lines(path)) == [(f"{path}:{number}", item) for number, item in enumerate(items, 1)]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_empty_lines_are_nothing_wherever_they_are(end, tmp_path):
    """One between records was refused as "got b''"; other readers pass over it (graphrag#2424, PyRIT#1479)."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + end.join(["", '{"a": 1}', "", " \t", '{"a": 2}', "", ""]).encode())
    assert list(json_lines(path)) == [(f"{path}:2", {"a": 1}), (f"{path}:5", {"a": 2})]
    path.write_bytes(f'{end}[{{"a": 1}}]'.encode())
    with pytest.raises(ValueError, match=r"a.jsonl:2: record: .* ends in .json$"):
        list(json_lines(path))


@pytest.mark.parametrize("space", ["\u2028", "\x0c", "\x0b", "\u00a0"])
@pytest.mark.parametrize(("read", "text"), [(json_list, "[{}]"), (json_lines, "{}\n")])
def test_what_is_space_to_python_alone_is_refused(read, text, space, tmp_path):
    for place, mixed in enumerate((space + text, text + space)):
        path = tmp_path / f"{place}.json"
        path.write_text(mixed)
        with pytest.raises(ValueError, match=str(path)):
            list(read(path))
    path.write_text(f"\n{text}\r\n\t " if read is json_list else f"{text}\r\n\t ")
    assert [value for _, value in read(path)] == [{}]
