import pytest

from evaluation.perplexity.windows import Windows, read_tokens, text_files


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"lengths": [64, 32]}, "ascending lengths"),
        ({"lengths": [1]}, "at least 2 tokens"),
        ({"stride": 0}, "`stride` from 1"),
        ({"max_windows": 0}, "`max_windows` from 1"),
        ({"counted": "first"}, "expected counted of all, last"),
        ({"lengths": [8], "stride": 8, "counted": "last"}, "lower --stride"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(given, said):
    with pytest.raises(ValueError, match=said):
        Windows(**given)


def test_the_last_possible_start_is_left_out():
    """As in LongLoRA's range(0, tokens - length, stride); a text of exactly one window is read."""
    windows = Windows([10], stride=5)
    assert windows.starts(10, 20) == [0, 5]
    assert windows.starts(10, 21) == [0, 5, 10]
    assert windows.starts(10, 10) == [0]
    with pytest.raises(ValueError, match="leave out lengths above 9"):
        windows.starts(10, 9)
    assert Windows([10], stride=5, max_windows=2).starts(10, 41) == [0, 15]


def test_texts_are_read_one_after_another(tmp_path, caplog):
    for name, text in {"b.txt": "cd", "a.txt": "\ufeffab", "c.md": "no"}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_tokens(text_files(str(tmp_path)), lambda text: [ord(mark) for mark in text]) == [97, 98, 99, 100]
    assert "2 .txt files are read, 1 .md files are not" in caplog.text
    (tmp_path / "notes").mkdir()
    (tmp_path / "c.md").rename(tmp_path / "notes" / "c.md")
    assert read_tokens(text_files(str(tmp_path / "notes")), lambda text: [ord(mark) for mark in text]) == [110, 111]
    (tmp_path / "a.txt").write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"expected UTF-8 text in .*a\.txt"):
        read_tokens(text_files(str(tmp_path)), list)
    (tmp_path / "a.txt").write_bytes("Oslo".encode("utf-16-le"))
    with pytest.raises(ValueError, match=r"expected UTF-8 text in .*a\.txt, got a zero byte"):
        read_tokens(text_files(str(tmp_path)), list)
    (tmp_path / "lines.jsonl").write_text('{"text": "Oslo"}\n')
    with pytest.raises(ValueError, match=r"expected UTF-8 text in .*lines\.jsonl, got JSON Lines, not the texts in it"):
        read_tokens(text_files(str(tmp_path / "lines.jsonl")), list)
    for name in ("essays.json", "page.HTML", "rows.csv"):
        (tmp_path / name).write_text("Oslo")
        with pytest.raises(ValueError, match=rf"expected UTF-8 text in .*{name}, got .*, not the texts in it"):
            read_tokens(text_files(str(tmp_path / name)), list)
    with pytest.raises(FileNotFoundError, match="set --path"):
        text_files(str(tmp_path / "nowhere"))
