import json

import pytest
from support.byte_tokenizer import CHAT, byte_tokenizer
from support.made_up_records import evaluated, graphwalks

from evaluation import GraphWalks
from evaluation.reports.report import Prediction
from lit_longpo.policy import PromptFormat, PromptTemplate

FORMAT = PromptFormat(byte_tokenizer(chat_template=CHAT), PromptTemplate())


def test_the_command_line_asks_a_tiny_model(tmp_path):
    report = evaluated("graphwalks", tmp_path)
    assert [(row.task, row.length) for row in report.predictions] == [("bfs", 128), ("parents", 128), ("parents", 256)]
    assert report.tables["parents"] == {"score": 0.0, "flexible": 0.0, "128": 0.0, "256": 0.0}
    assert "3 records, 1,150 in the official files" in report.deviations


def test_the_prompt_is_the_records_as_one_user_message(tmp_path):
    graphwalks(tmp_path)
    bench = GraphWalks(str(tmp_path))
    example = next(bench.examples("bfs"))
    prompt = bench.prompt(example, FORMAT, 1000)
    messages = [{"role": "user", "content": example.fields["prompt"]}]
    assert list(prompt.ids) == FORMAT.tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_dict=False
    )
    assert (prompt.max_new_tokens, prompt.num_lost) == (16_384, 0)
    assert bench.score(example, "Final Answer: [n3, n2]") == 1.0


def test_tables_have_both_scores(tmp_path):
    graphwalks(tmp_path)
    row = Prediction("a", 128, None, "q", ("n1",), "Final Answer: [n1]\nDone.", 0.0)
    assert GraphWalks(str(tmp_path)).table([row]) == {"score": 0.0, "flexible": 100.0, "128": 0.0}


def test_a_graph_is_never_cut(tmp_path):
    """Neither by `max_length` nor by the window; the advice works."""
    graphwalks(tmp_path)
    bench = GraphWalks(str(tmp_path), max_new_tokens=8)
    longest = list(bench.examples("parents"))[-1]
    for limits in ((150, None), (1000, 190)):
        with pytest.raises(
            ValueError, match=r"must not be cut; leave such out with --benchmark\.max_chars \d+"
        ) as said:
            bench.prompt(longest, FORMAT, limits[0], window=limits[1])
    chars = int(str(said.value).partition("max_chars ")[2].partition(",")[0])
    shorter = GraphWalks(str(tmp_path), max_chars=chars, max_new_tokens=8)
    assert [len(list(shorter.examples(task))) for task in shorter.tasks] == [1, 1]
    assert f"1 records not asked: longer than {chars:,} characters" in shorter.deviations
    with pytest.raises(ValueError, match=r"lower --benchmark\.max_new_tokens"):
        bench.prompt(longest, FORMAT, 1000, window=20)


def test_files_are_read_before_a_model_is(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"set --benchmark\.path"):
        GraphWalks(str(tmp_path))
    (tmp_path / "x.parquet").write_bytes(b"text")
    with pytest.raises(ValueError, match="expected a whole Parquet file"):
        GraphWalks(str(tmp_path))
    (tmp_path / "x.parquet").unlink()
    record = {"prompt": "a -> b", "answer_nodes": ["b"], "problem_type": "bfs"}
    broken = {"answer_nodes": None, "prompt": 3, "problem_type": "dfs"}
    for name, value in broken.items():
        (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, [record, record | {name: value}])))
        with pytest.raises(ValueError, match=rf"x\.jsonl:2: field '{name}'"):
            GraphWalks(str(tmp_path))
    (tmp_path / "x.jsonl").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"none to ask \(longer than 3 characters\)"):
        GraphWalks(str(tmp_path), max_chars=3)
    with pytest.raises(ValueError, match="`max_chars` from 1"):
        GraphWalks(str(tmp_path), max_chars=0)
