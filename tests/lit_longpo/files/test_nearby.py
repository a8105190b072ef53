"""A missing path is compared with what lies beside it."""

from lit_longpo.files.nearby import nearby


def test_what_is_called_almost_so_is_asked_about(tmp_path):
    """With the folder as the user wrote it."""
    (tmp_path / "pairs_train.jsonl").touch()
    (tmp_path / "notes.jsonl").touch()
    assert nearby(tmp_path / "pairs_trian.jsonl") == f"; did you mean {tmp_path / 'pairs_train.jsonl'}?"
    assert nearby(tmp_path / "pairs_train.json") == f"; did you mean {tmp_path / 'pairs_train.jsonl'}?"


def test_nothing_is_said_where_nothing_is_like_it(tmp_path):
    (tmp_path / "notes.jsonl").touch()
    assert nearby(tmp_path / "pairs.jsonl") == ""
    assert nearby(tmp_path / "nowhere" / "notes.jsonl") == ""
    assert nearby(tmp_path / "notes.jsonl" / "notes.jsonl") == ""  # below a file
    assert nearby("~nobody-of-this-name/notes.jsonl") == ""  # it was a traceback
