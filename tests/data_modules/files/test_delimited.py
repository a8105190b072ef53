"""Tables of texts give the pairs that JSON Lines give; what is no table names its line."""

import csv
from pathlib import Path

import pytest

from data_modules.formats.loading import load_pairs
from data_modules.formats.reader import RecordReader
from data_modules.messages import Message

ROWS = [
    {"prompt": 'Line one,\nline "two"; 桥\n\nHow many?', "chosen": "1931", "rejected": "null", "weight": "0.5"},
    {"prompt": "long " * 40_000, "chosen": "nine\t", "rejected": " two", "weight": ""},
]


def written(path: Path, rows: list[dict[str, str]] = ROWS, start: str = "") -> str:
    with open(path, "w", encoding="utf-8", newline="") as file:
        file.write(start)
        table = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
        table.writeheader()
        table.writerows(rows)
    return str(path)


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_cells_are_texts(name: str, start: str, tmp_path: Path) -> None:
    """Also those that look like numbers or null; an empty one is absent; a context may be as long as it likes."""
    pairs = load_pairs(written(tmp_path / name, start=start), "train", "path")
    told = [(pair.long_context, pair.chosen, pair.rejected, pair.weight) for pair in pairs]
    assert told == [(ROWS[0]["prompt"], "1931", ("null",), 0.5), (ROWS[1]["prompt"], "nine\t", (" two",), 1.0)]
    assert [pair.id for pair in pairs] == [f"{name}:2", f"{name}:6"]  # where each begins


def test_columns_are_mapped(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", [{"doc": "The quay.", "ask": "What?", "good": "a quay", "bad": "a mill"}])
    mapping = {"long_context": "doc", "question": "ask", "chosen": "good", "rejected": "bad"}
    [pair] = load_pairs(path, "train", "path", RecordReader(columns=mapping))
    assert (pair.question, pair.long_context, pair.chosen, pair.rejected) == (
        "What?",
        "The quay.",
        "a quay",
        ("a mill",),
    )


def test_numbers_and_lists_of_one_are_written_as_text(tmp_path: Path) -> None:
    """Under whichever name the column has; a column that only sounds like a number is text."""
    own = [{"question": "What?", "long_context": "The quay.", "chosen": "a quay", "rejected": "a mill", "margin": "2"}]
    [pair] = load_pairs(written(tmp_path / "own.csv", own), "train", "path")
    assert (pair.rejected, pair.margin) == (("a mill",), 2.0)
    rows = [{"prompt": "a", "chosen": "b", "rejected": "c", "share": "0.5", "score_reason": "longer"}]
    reader = RecordReader(columns={"weight": "share"}, extra_columns="ignore")
    [pair] = load_pairs(written(tmp_path / "a.csv", rows), "train", "path", reader)
    assert pair.weight == 0.5


def test_cells_of_our_own_columns(tmp_path: Path) -> None:
    """Truth values as spreadsheets and Python write them, and JSON where no text could be meant."""
    own = {"question": "What?", "long_context": "The quay.", "chosen": "a quay", "rejected": "a mill"}
    more = {
        "supporting": "[[0, 3]]",
        "history": '[{"role": "user", "content": "Hi"}]',
        "answers": "a quay",
        "margin": "-1",
    }
    rows = [{**own, **more, "verified": truth} for truth in ("TRUE", "False", "")]
    pairs = load_pairs(written(tmp_path / "a.csv", rows), "train", "path")
    assert [pair.verified for pair in pairs] == [True, False, None]
    said = (pairs[0].supporting, pairs[0].history, pairs[0].answers, pairs[0].margin)
    assert said == (((0, 3),), (Message("user", "Hi"),), ("a quay",), -1.0)


@pytest.mark.parametrize("beside", [{"prompt": "a"}, {"instruction": "a"}, {"question": "a", "long_context": "b"}])
def test_printed_lists_are_no_answers(beside: dict[str, str], tmp_path: Path) -> None:
    """What pandas writes of several rejected answers; where the chosen one is such a list too, both are texts."""
    row = {**beside, "chosen": "c", "rejected": "['d', 'e']"}
    with pytest.raises(ValueError, match=r"a.csv:2: field 'rejected': expected one text, or a list stored as a list"):
        load_pairs(written(tmp_path / "a.csv", [row]), "train", "path")
    [pair] = load_pairs(written(tmp_path / "a.csv", [{**row, "chosen": "['c']"}]), "train", "path")
    assert pair.rejected == ("['d', 'e']",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "question,long_context,chosen,verified\na,b,c,yes\n",
            "a.csv:2: field 'verified': expected true, false or null, got 'yes'",
        ),
        (
            'question,long_context,chosen,supporting\na,b,c,"[(0, 1)]"\n',
            "a.csv:2: field 'supporting': .*expected UTF-8 JSON",
        ),
        ("prompt,chosen,chosen\n", "a.csv:1: first line: expected a name for each column, each once"),
        ("prompt,chosen\na,b\nc\n", r"a.csv:3: record: expected 2 cells \(prompt, chosen\), got \['c'\]"),
        ("prompt,chosen\na,b\n\nc,d\n", "a.csv:3: record: expected cells in every line but the last"),
        ('prompt,chosen\na,b\n"c,d\n', "a.csv:3: record: expected cells .* got 'unexpected end of data'"),
        (
            "prompt,chosen,rejected,weight\na,b,c,much\n",
            "a.csv:2: field 'weight': expected a number .*, got 'much'",
        ),
        (
            "prompt,chosen\n\"[{'role': 'user', 'content': 'a'}]\",b\n",
            "a.csv:2: field 'prompt': expected text, or",
        ),
        (
            "prompt,chosen,rejected\na,\"[{'content': 'a', 'role': 'user'}\n {'content': 'b'}]\",c\n",
            "a.csv:2: field 'chosen': expected text, or messages as a list instead of its print",
        ),
        (
            'messages,chosen\n"[{""role"": ""user"", ""content"": ""a""}]",b\n',
            r"a.csv:2: field 'messages': expected a list of messages .*, no print of one \(store the data as .jsonl or",
        ),
        (
            "prompt\tchosen\na\tb\n",
            "a.csv:1: first line: expected no tabs between names, or a file name that en",
        ),
        ("sep=;\nprompt;chosen\na;b\n", "a.csv:1: first line: expected names of columns; only spreadsheets read this"),
        ("prompt|chosen|rejected\na|b|c\n", "a.csv:2: record: expected the columns of a known format"),
        ("prompt;chosen;rejected;weight\na;b;c;0,5\n", "a.csv:2: field 'weight': expected a number .*, got '0,5'"),
        ("prompt,chosen\n", "a.csv: file: expected at least one record"),
        ("", "a.csv: file: expected at least one record"),
    ],
)
def test_what_is_no_table_is_named(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        load_pairs(str(tmp_path / "a.csv"), "train", "path")
    assert "\n" not in str(caught.value)


def test_spreadsheets_of_countries_with_decimal_commas_part_cells_by_semicolons(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('\ufeffprompt;chosen;rejected\n"a, b";"c; ""d""";e\n', encoding="utf-8")
    [pair] = load_pairs(str(tmp_path / "a.csv"), "train", "path")
    assert (pair.chosen, pair.rejected) == ('c; "d"', ("e",))


def test_a_table_of_another_encoding_is_told_how_to_be_saved(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("prompt,chosen\nΠως,Εδώ\n", encoding="cp1253")
    with pytest.raises(ValueError, match=r"a.csv:1: record: expected UTF-8 text \(.*\); save it as CSV UTF-8, got b'"):
        load_pairs(str(tmp_path / "a.csv"), "train", "path")
