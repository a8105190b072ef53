import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lit_longpo.files.parquet_files import parquet_rows
from lit_longpo.files.strict_json import RecordError

ROWS = [{"text": f"word {number}", "said": [{"role": "user"}]} for number in range(40)]


def write(folder):
    pq.write_table(pa.Table.from_pylist(ROWS), folder / "a.parquet", compression="none")
    return folder / "a.parquet"


def test_rows_come_in_order(tmp_path):
    assert list(parquet_rows(write(tmp_path))) == ROWS


def hole_in_a_page(raw):
    return raw[:4] + bytes(60) + raw[64:]


def hole_in_the_footer(raw):
    return raw[:-60] + bytes(40) + raw[-20:]


def text_that_is_none(raw):
    return raw.replace(b"word 7", b"\xff\xfe\xfd 7")


@pytest.mark.parametrize("damage", [hole_in_a_page, hole_in_the_footer, text_that_is_none, lambda raw: raw[:-9]])
def test_a_damaged_file_is_one_line(damage, tmp_path):
    """pyarrow raises errors of the system's and of Python's own kinds."""
    path = write(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(RecordError, match=r"a.parquet: file: expected a whole Parquet file, got ") as error:
        list(parquet_rows(path))
    assert "\n" not in str(error.value)


def test_two_columns_of_one_name_are_refused(tmp_path):
    columns = [pa.array([text]) for text in ("Why?", "So.", "No.")]
    pq.write_table(pa.Table.from_arrays(columns, names=["prompt", "chosen", "chosen"]), tmp_path / "a.parquet")
    with pytest.raises(RecordError, match=r"a.parquet: file: expected a name for each column, each once, got .*chosen"):
        list(parquet_rows(tmp_path / "a.parquet"))


@pytest.mark.skipif(not hasattr(datasets, "Json"), reason="needs datasets 4.7 or later")
def test_values_of_the_json_type_are_what_they_say(tmp_path):
    """`datasets` stores a field so that is now a text and now a list (datasets#8343); the text kept its marks."""
    rows = [
        {"messages": [{"role": "user", "content": 'a "b"\n'}], "notes": None, "plain": '"x"'},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "c"}]}], "notes": {"n": 1}, "plain": "y"},
        {"messages": None, "notes": [1, None], "plain": "null"},
    ]
    message = {"role": datasets.Value("string"), "content": datasets.Json()}
    features = {"messages": datasets.List(message), "notes": datasets.Json(), "plain": datasets.Value("string")}
    table = datasets.Dataset.from_list(rows, features=datasets.Features(features))
    table.to_parquet(tmp_path / "table.parquet")
    assert list(parquet_rows(tmp_path / "table.parquet")) == rows
