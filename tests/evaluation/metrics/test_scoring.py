import json
import sys

import pytest
from support.official_data import official
from support.ranks import run_ranks

from evaluation.metrics import aggregate, score


def without_extras():
    """Neither package can be imported; English token metrics must not notice."""
    for name in [name for name in sys.modules if name.split(".")[0] == "evaluation"]:
        del sys.modules[name]
    for name in [name for name in sys.modules if name.split(".")[0] == "rouge_score"]:
        del sys.modules[name]
    sys.modules["jieba"] = sys.modules["rouge"] = sys.modules["rouge_score"] = None
    from evaluation.metrics import score

    assert score("longbench", "hotpotqa", "Oslo", ["oslo"]) == 1.0
    assert score("longbench", "lcc", "x", ["x"]) == 1.0
    assert score("lveval", "loogle_SD_mixup", "Oslo", ["oslo"], answer_keywords="oslo") == 1.0
    assert score("infinitebench", "longbook_qa_chn", "x", ["x"]) == 1.0
    needy = (("longbench", "samsum"), ("longbench", "dureader"), ("lveval", "cmrc_mixup"))
    for benchmark, dataset in (*needy, ("infinitebench", "longbook_sum_eng")):
        try:
            score(benchmark, dataset, "x", ["x"])
        except ModuleNotFoundError as error:
            print(error)  # noqa: T201


def test_english_needs_no_extra_and_a_missing_one_is_named():
    lines = run_ranks(without_extras, num_ranks=1).splitlines()
    named = ("rouge", "jieba", "jieba", "rouge_score")
    assert [f"`{name}`" in line for name, line in zip(named, lines, strict=True)] == [True] * 4
    assert all("pip install 'lit_longpo[eval]'" in line for line in lines)


def test_a_text_is_not_a_list_of_answers():
    with pytest.raises(TypeError, match="pass answers="):
        score("longbench", "hotpotqa", "x", "xyz")


def test_unknown_benchmarks_are_refused():
    with pytest.raises(ValueError, match="longbench, longbench_v2, lveval"):
        score("longbench_v3", "hotpotqa", "x", ["x"])


def test_files_must_be_complete():
    with pytest.raises(ValueError, match="at least one prediction"):
        aggregate("longbench", "hotpotqa", [], [])
    with pytest.raises(ValueError, match="expected 2 answers"):
        aggregate("longbench", "hotpotqa", ["x", "y"], [["x"]])
    with pytest.raises(ValueError, match="belong to longbench_v2"):
        aggregate("longbench", "hotpotqa", ["x"], [["x"]], difficulties=["easy"])


def test_every_row_of_the_siblings_oracle():
    """Scores of the official functions of BABILong, GraphWalks, LongBench Pro and MRCR."""
    rows = [json.loads(line) for line in (official("siblings") / "oracle.jsonl").read_text().splitlines()]
    assert len(rows) == 78
    for row in rows:
        record = {"question": row.get("question"), "prefix": row.get("prefix")}
        value = score(row["benchmark"], row["task"], row["prediction"], row["references"], **record)
        assert value == pytest.approx(row["expected"], abs=1e-12), row


def test_what_a_record_holds_beside_its_answers_reaches_whole_files():
    where = ["Is Mary in the office?", "Is Mary in the park?"]
    assert aggregate("babilong", "qa6", ["No.", "No."], [["no"], ["yes"]], questions=where) == 50.0
    assert aggregate("openai_mrcr", "2needle", ["ab x", "x"], [["ab x"], ["ab x"]], prefixes=["ab", "ab"]) == 50.0
    with pytest.raises(ValueError, match="expected 1 questions"):
        aggregate("babilong", "qa6", ["no"], [["no"]], questions=where)
