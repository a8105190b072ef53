import json

import pytest
from support.official_data import official

from evaluation.metrics import aggregate, score


def test_lists_count_by_share_and_questions_by_any():
    assert score("ruler", "vt", "ABC and xyz", ["abc", "def"]) == 0.5
    assert score("ruler", "qa_1", "ABC and xyz", ["abc", "def"]) == 1.0
    assert score("ruler", "qa_2", "none", ["abc"]) == 0.0
    with pytest.raises(ValueError, match="at least one"):
        score("ruler", "qa_1", "x", [])
    with pytest.raises(ValueError, match="got 'multi_key'"):
        score("ruler", "multi_key", "x", ["x"])


def test_every_score_is_the_official_functions():
    rows = [json.loads(line) for line in (official("ruler") / "oracle.jsonl").read_text().splitlines()]
    for row in rows:
        if "predictions" in row:
            ours = aggregate("ruler", row["task"], row["predictions"], row["references_list"])
            assert ours == row["expected_percent"], row["kind"]
        elif row["expected"] is None:
            with pytest.raises(ValueError, match="at least one"):
                score("ruler", row["task"], row["prediction"], row["references"])
        else:
            ours = score("ruler", row["task"], row["prediction"], row["references"])
            assert ours == pytest.approx(row["expected"], abs=6e-5), row
    assert len(rows) == 148
