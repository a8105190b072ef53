import json

import pytest
from support.byte_tokenizer import byte_tokenizer
from support.made_up_records import evaluated, longbench_pro, pro

from evaluation import LongBenchPro
from lit_longpo.policy import PromptFormat, PromptTemplate

FORMAT = PromptFormat(byte_tokenizer(), PromptTemplate())
FACT = "T3.2 Single-Hop Fact QA"


@pytest.mark.slow
def test_the_command_line_asks_a_tiny_model(tmp_path):
    report = evaluated("longbench_pro", tmp_path)
    assert [(row.id, row.length) for row in report.predictions] == [
        (f"{FACT}/r1", 8000),
        ("T5.2 Key-Statement Citation Alignment/r2", 16_000),
    ]
    assert report.tables[FACT] == {"score": 0.0, "8k": 0.0}
    assert report.predictions[1].groups["language"] == "Chinese"
    told = report.deviations
    assert "1 records not asked: summaries (T4), whose metric takes Qwen3-Embedding-8B" in told
    assert any(text.startswith("one greedy answer") for text in told)


@pytest.mark.parametrize(
    ("thinking", "question", "limit"), [(False, "Who?", 1024), (True, "Think, then: who?", 32_768)]
)
def test_context_and_question_are_one_message_cut_in_the_middle(tmp_path, thinking, question, limit):
    longbench_pro(tmp_path)
    bench = LongBenchPro(str(tmp_path), thinking=thinking)
    [example] = bench.examples(FACT)
    prompt = bench.prompt(example, FORMAT, 1000)
    text = FORMAT.tokenizer.decode(prompt.ids, skip_special_tokens=True)
    assert text == f"{'Text 1. ' * 20}\n\n\n\n{question}"
    assert prompt.max_new_tokens == limit
    cut = bench.prompt(example, FORMAT, 41)
    assert FORMAT.tokenizer.decode(cut.ids, skip_special_tokens=True) == text[:19] + text[-21:]  # <bos> is one of 41
    assert (bench.official_length(131_072), bench.official_length(262_144)) == (120_000, 224_000)
    assert bench.score(example, " [Answer]\nann\n") == 1.0


def test_malformed_records_are_named(tmp_path):
    for name, value in {"secondary_task": "T12", "token_length": "7k", "answer": [], "context": None}.items():
        (tmp_path / "x.json").write_text(json.dumps([pro(1, FACT, ["a"]), pro(2, FACT, ["a"]) | {name: value}]))
        with pytest.raises(ValueError, match=f"field '{name}'"):
            LongBenchPro(str(tmp_path / "x.json"))
    (tmp_path / "x.json").write_text(json.dumps([pro(1, FACT, ["a"])] * 2))
    with pytest.raises(ValueError, match="one that no other record has"):
        LongBenchPro(str(tmp_path / "x.json"))
