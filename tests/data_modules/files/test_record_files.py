"""The same records from every kind of file, folder and data set; what is none of them says where and why."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import pytest
from support.preference_formats import LONG, talk

from data_modules.files.record_files import read_records
from data_modules.formats.loading import load_pairs
from data_modules.formats.reader import RecordReader
from lit_longpo.files.json_files import json_list
from lit_longpo.files.strict_json import RecordError

RECORDS: list[dict[str, Any]] = [
    {"prompt": talk(f"{LONG} {n}"), "chosen": [{"role": "assistant", "content": "nine"}], "rejected": "two"}
    for n in range(3)
]
RECORDS = [{**record, "rejected": [{"role": "assistant", "content": "two"}]} for record in RECORDS]


def lines(records: list[dict[str, Any]] = RECORDS) -> bytes:
    return b"".join(json.dumps(record, ensure_ascii=False).encode() + b"\n" for record in records)


def table() -> datasets.Dataset:
    return datasets.Dataset.from_list(RECORDS)


def write(path: Path, raw: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)
    return path


def two_files(folder: Path) -> Path:
    write(folder / "train-00000.jsonl", lines(RECORDS[:2]))
    write(folder / "train-00001.jsonl", lines(RECORDS[2:]))
    write(folder / "test-00000.jsonl", lines(RECORDS[:1]))
    return folder


def saved(data: Any, folder: Path) -> Path:
    data.save_to_disk(str(folder))
    return folder


SOURCES: dict[str, Callable[[Path], Path]] = {
    "jsonl": lambda folder: write(folder / "a.jsonl", lines()),
    "byte order mark, empty last lines": lambda folder: write(folder / "a.jsonl", b"\xef\xbb\xbf" + lines() + b"\n \n"),
    "no last line break": lambda folder: write(folder / "a.jsonl", lines().rstrip()),
    "Windows": lambda folder: write(folder / "a.jsonl", lines().replace(b"\n", b"\r\n")),
    "json": lambda folder: write(folder / "a.json", json.dumps(RECORDS, indent=1).encode()),
    "json in a line": lambda folder: write(folder / "a.json", b"\xef\xbb\xbf " + json.dumps(RECORDS).encode() + b"\n"),
    "json lines": lambda folder: write(folder / "a.json", lines()),
    "gzip": lambda folder: write(folder / "a.jsonl.gz", gzip.compress(lines())),
    "json gzip": lambda folder: write(folder / "a.json.gz", gzip.compress(json.dumps(RECORDS).encode())),
    "parquet": lambda folder: (table().to_parquet(folder / "a.parquet"), folder / "a.parquet")[1],
    "folder": lambda folder: two_files(folder / "set"),
    "folder with gzip": lambda folder: write(folder / "set/train.jsonl.gz", gzip.compress(lines())).parent,
    "folder of parquet": lambda folder: (
        (write(folder / "set/x", b""), table().to_parquet(folder / "set/train.parquet")) and folder / "set"
    ),
    "save_to_disk": lambda folder: saved(table(), folder / "set"),
    "DatasetDict": lambda folder: saved(
        datasets.DatasetDict({"train": table(), "test": table().select([0])}), folder / "set"
    ),
}


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_gives_the_same_records(name: str, tmp_path: Path) -> None:
    source = str(SOURCES[name](tmp_path))
    assert [record for _, record in read_records(source, "train", "data.init_args.path")] == RECORDS
    pairs = load_pairs(source, "train", "data.init_args.path")
    assert [pair.long_context for pair in pairs] == [f"{LONG} {n}" for n in range(3)]
    assert all(pair.id.startswith(("a.", "set/", "set [")) for pair in pairs)


@pytest.mark.parametrize("name", ["folder", "DatasetDict"])
def test_splits_of_a_folder(name: str, tmp_path: Path) -> None:
    source = str(SOURCES[name](tmp_path))
    assert [record for _, record in read_records(source, "test", "data.init_args.path")] == RECORDS[:1]
    with pytest.raises(
        ValueError, match=r"expected a split of .*\(train, test\), got 'dev'; set `data.init_args.split`"
    ):
        next(read_records(source, "dev", "data.init_args.path"))


@pytest.mark.parametrize("other", ["dev", "test"])
def test_a_file_of_no_split_beside_one_of_another_is_named(other: str, tmp_path: Path) -> None:
    """`got 'train'; set data.init_args.split` led to training on the other file."""
    for name in ("data", other):
        write(tmp_path / f"set/{name}.jsonl", lines())
    expected = (
        r"files of the split 'train' in .*, got data.jsonl, of no split .* \(train-1.jsonl\), or set `data.init_args"
    )
    with pytest.raises(ValueError, match=expected):
        next(read_records(str(tmp_path / "set"), "train", "data.init_args.path"))
    (tmp_path / "set/data.jsonl").rename(tmp_path / "set/train-1.jsonl")
    assert [record for _, record in read_records(str(tmp_path / "set"), "train", "data.init_args.path")] == RECORDS


def test_the_folder_one_works_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`datasets` finds no name of a set in "."."""
    write(tmp_path / "data/train.jsonl", lines())
    monkeypatch.chdir(tmp_path / "data")
    assert [record for _, record in read_records(".", "train", "path")] == RECORDS
    assert len([*read_records("./", "train[:2]", "path")]) == 2


def test_part_of_a_split_of_a_folder(tmp_path: Path) -> None:
    source = str(SOURCES["folder"](tmp_path))
    records = [record for _, record in read_records(source, "train[:2]", "data.init_args.path")]
    assert records == RECORDS[:2]


@pytest.mark.parametrize("name", ["json lines", "parquet", "save_to_disk"])
def test_a_part_of_what_has_no_splits_is_refused(name: str, tmp_path: Path) -> None:
    """All of it was read: `train[:2]` took every record."""
    source = str(SOURCES[name](tmp_path))
    with pytest.raises(ValueError, match=r"with splits for `data.init_args.val_split: train\[:2\]`, got .* read whole"):
        next(read_records(source, "train[:2]", "data.init_args.val_path"))


@pytest.mark.parametrize("form", ["numpy", "torch", "pandas"])
def test_a_saved_table_gives_its_plain_values_whatever_form_it_was_told(form: str, tmp_path: Path) -> None:
    """`set_format` is saved, too: numbers were tensors, and columns that it does not name were not there."""
    numbered = table().add_column("weight", [0.5, 1.5, 2.5])
    source = str(saved(numbered.with_format(form, columns=["weight"]), tmp_path / "set"))
    wanted = [{**record, "weight": number + 0.5} for number, record in enumerate(RECORDS)]
    assert [record for _, record in read_records(source, "train", "data.init_args.path")] == wanted


def test_files_of_a_folder_that_no_split_has_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """`datasets` takes files of one kind, and once a name says train only those; all else would be lost in silence."""
    folder = write(tmp_path / "set/train.jsonl", lines(RECORDS[:1])).parent
    for name in ("TRAIN.JSONL", "more.jsonl", "old/more.csv", "x.ndjson", "y.zip", ".cache/x.json", "notes.md", *ABOUT):
        write(folder / name, b"{}" if name in ABOUT else lines())
    for _ in range(2):
        assert [record for _, record in read_records(str(folder), "train", "data.init_args.path")] == RECORDS[:1]
    [told] = [message for message in caplog.messages if "not read" in message]
    names = "TRAIN.JSONL, more.jsonl, old/more.csv, x.ndjson, y.zip"
    assert f"because their names or kinds belong to no split: {names}; give" in told


ABOUT = (
    "README.md",
    "LICENSE",
    ".gitattributes",
    "dataset_info.json",
    "dataset_infos.json",
    "state.json",
    "notice.txt",
)


def test_what_belongs_to_a_data_sets_folder_is_no_record(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A licence was refused where no file's name says train, `state.json` made the folder one of `save_to_disk`."""
    folder = write(tmp_path / "set/pairs.jsonl", lines()).parent
    for name in ABOUT:
        write(folder / name, b"{}")
    assert [record for _, record in read_records(str(folder), "train", "data.init_args.path")] == RECORDS
    assert not [message for message in caplog.messages if "not read" in message]


@pytest.mark.parametrize("name", ["notice.jsonl", "citation.v2.json", "License.jsonl.gz"])
def test_records_in_a_file_that_is_called_like_a_paper_are_read(name: str, tmp_path: Path) -> None:
    """They were left out without a word."""
    raw = gzip.compress(lines(RECORDS[1:])) if name.endswith("gz") else lines(RECORDS[1:])
    folder = write(tmp_path / "set/a.jsonl", lines(RECORDS[:1])).parent
    write(folder / name, raw)
    records = [record for _, record in read_records(str(folder), "train", "data.init_args.path")]
    assert sorted(map(str, records)) == sorted(map(str, RECORDS))


@pytest.mark.parametrize(("numbers", "told"), [((0, 1, 2), ""), ((0, 2), "1 of"), ((2,), "2 of"), ((1, 2, 3), "")])
def test_numbered_files_that_are_not_there_are_told(
    numbers: tuple[int, ...], told: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A download of some of them was trained without a word (datasets#6979, img2dataset#174)."""
    for number in numbers:
        write(tmp_path / f"set/data/train-{number:05d}-of-00003.jsonl", lines(RECORDS[:1]))
    rows = list(read_records(str(tmp_path / "set"), "train", "data.init_args.path"))
    assert len(rows) == len(numbers)
    messages = [message for message in caplog.messages if "are not there" in message]
    assert [told in message for message in messages] == ([True] if told else [])
    assert all(f"the first is {tmp_path}/set/data/train-0000{1 if 0 in numbers else 0}-of" in line for line in messages)


def test_a_draft_in_a_folder_is_no_data(tmp_path: Path) -> None:
    """A build writes one until its file is whole; `datasets` would read both."""
    for name in ("pairs.jsonl", "pairs.jsonl.partial"):
        write(tmp_path / "set" / name, lines())
    with pytest.raises(ValueError, match=r"expected files of .*, got .*pairs.jsonl.partial among them; take it out"):
        next(read_records(str(tmp_path / "set"), "train", "data.init_args.path"))


def test_a_name_may_have_a_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets, "load_dataset", lambda *names, **options: asked.append((names, options)) or table())
    for source in ("some/set:longer", "some/set"):
        assert len(list(read_records(source, "dev", "data.init_args.path"))) == 3
    assert asked == [(("some/set", "longer"), {"split": "dev"}), (("some/set", None), {"split": "dev"})]


def test_a_hub_that_cannot_be_reached_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def unreachable(url: str, **options: object) -> None:
        asked.append(url)
        raise ConnectionError("no network")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", unreachable)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    offline = []
    monkeypatch.setattr(
        datasets, "load_dataset", lambda *_, **__: offline.append(datasets.config.HF_HUB_OFFLINE) or table()
    )
    assert len(list(read_records("some/set", "train", "data.init_args.path"))) == 3
    assert (len(asked), offline, datasets.config.HF_HUB_OFFLINE) == (1, [True], False)


def test_a_broken_folder_is_one_line(tmp_path: Path) -> None:
    write(tmp_path / "set/state.json", b"{}")
    with pytest.raises(
        FileNotFoundError, match=r"set', which could not be loaded \(.*set `data.init_args.path`"
    ) as caught:
        list(read_records(str(tmp_path / "set"), "train", "data.init_args.path"))
    assert "\n" not in str(caught.value)


def test_lines_of_a_list_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", b'\n[\n {"a": 1},\n\n {"a": 2}, {"b": 3}, {"a":\n4}, {"c": 5}]')
    wheres = ["3", "5", "5, item 3", "5, item 4", "6"]
    assert [where for where, _ in json_list(path)] == [f"{path}:{where}" for where in wheres]
    assert [record for _, record in json_list(path)] == [{"a": 1}, {"a": 2}, {"b": 3}, {"a": 4}, {"c": 5}]


def over_lines(*, indent: int) -> bytes:
    return "\n".join(json.dumps(record, indent=indent) for record in RECORDS).encode()


BROKEN: dict[str, tuple[str, bytes, str]] = {
    "empty": ("a.jsonl", b"", r"a.jsonl: file: expected at least one record"),
    "empty list": ("a.json", b"[]", r"a.json: file: expected at least one record"),
    "open list": ("a.json", b'[\n{"a": 1}\n', r"a.json:2: record: expected a comma or the list's end"),
    "no comma": ("a.json", b'[\n{"a": 1}\n{"a": 2}]', r"a.json:2: record: expected a comma"),
    "comma at the end": ("a.json", b'[{"a": 1},\n]', r"a.json:2: record: expected JSON"),
    "more behind": ("a.json", b'[{"a": 1}] x', r"a.json:1: file: expected nothing behind the list"),
    "key twice": ("a.json", b'[{"a": 1, "a": 2}]', r"a.json:1: record: expected each field once"),
    "bytes": ("a.json", b'[{"a": "\xff"}]', r"a.json:1: record: expected UTF-8"),
    "list": ("a.jsonl", json.dumps(RECORDS).encode(), r"a.jsonl:1: .* one JSON object a line.*; .* ends in .json$"),
    "list over lines": ("a.jsonl", json.dumps(RECORDS, indent=1).encode(), r"a.jsonl:1: .*; .* ends in .json$"),
    "records over lines": (
        "a.json",
        over_lines(indent=2),
        r"a.json:1: .*; .*type: cat \S*a.json \| jq -c . > lines.jsonl$",
    ),
    "objects over lines": ("a.jsonl", over_lines(indent=0), r"a.jsonl:1: .*; .*type: cat \S*a.jsonl \| jq -c . >"),
    "list without ends": ("a.jsonl", lines().replace(b"}\n", b"},\n"), r"a.jsonl:1: .*; take out the comma behind"),
    "UTF-16": (
        "a.json",
        lines().decode().encode("utf-16"),
        r"a.json:1: .*; .*type: cat \S*a.json \| iconv -f utf-16 -t utf-8 >",
    ),
    "packed": ("a.jsonl", gzip.compress(lines()), r"a.jsonl:1: .*; this is packed, .* ends in .gz$"),
    "page": ("a.jsonl", b"<!DOCTYPE html>\n<html>", r"a.jsonl:1: .*; this is a web page"),
    "pointer": ("a.jsonl", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", r"; .*type: git lfs pull$"),
    "packed list": ("a.jsonl.gz", gzip.compress(json.dumps(RECORDS).encode()), r"a.jsonl.gz:1: .* ends in .json.gz$"),
    "packed records over lines": (
        "a.jsonl.gz",
        gzip.compress(over_lines(indent=0)),
        r"type: gzip -dc \S*a.jsonl.gz \| jq -c . > lines.jsonl$",
    ),
    "no gzip": ("a.jsonl.gz", lines(), r"a.jsonl.gz: file: expected a whole gzip file"),
    "cut gzip": ("a.jsonl.gz", gzip.compress(lines())[:-9], r"a.jsonl.gz: file: expected a whole gzip file"),
    "no parquet": ("a.parquet", lines(), r"a.parquet: file: expected a whole Parquet file"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_named(name: str, tmp_path: Path) -> None:
    file, raw, message = BROKEN[name]
    with pytest.raises(RecordError, match=message) as caught:
        list(read_records(str(write(tmp_path / file, raw)), "train", "data.init_args.path"))
    assert "\n" not in str(caught.value)


def test_records_come_one_by_one(tmp_path: Path) -> None:
    """Nothing behind a record is read before it is asked for."""
    path = write(tmp_path / "a.jsonl", lines() + b"{")
    pairs = RecordReader().pairs(read_records(str(path), "train", "data.init_args.path"), str(path))
    assert next(pairs).chosen == "nine"
    with pytest.raises(RecordError, match=r"a.jsonl:4"):
        list(pairs)


def test_one_record_over_several_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", json.dumps(RECORDS[0], indent=1).encode())
    assert list(json_list(path)) == [(f"{path}:1", RECORDS[0])]


def test_a_table_of_text_says_what_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.xlsx", b"prompt,chosen,rejected\nx,y,z\n")
    with pytest.raises(ValueError, match=r"a file of .jsonl, .*a.xlsx; .*set `data.init_args.path`"):
        list(read_records(str(path), "train", "data.init_args.path"))
