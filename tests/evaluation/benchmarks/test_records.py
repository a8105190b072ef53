"""A benchmark of one's own whose records lie in a file: one class, and nothing else has to be told of it."""

import json

import pytest
from support.byte_tokenizer import CHAT, byte_tokenizer
from support.tiny_models import tiny_model

from evaluation.benchmark import Example
from evaluation.benchmarks.records import WholeRecordBenchmark
from evaluation.prompting import Rules, whole_prompt
from evaluation.reports.pages import Pages
from evaluation.running import answerers
from evaluation.running.responses import Responses
from evaluation.running.runner import Runner
from evaluation.running.settings import RunSettings
from lit_longpo.errors import InputError
from lit_longpo.policy import PromptFormat, PromptTemplate

pytestmark = pytest.mark.usefixtures("blank_pictures")
ROWS = [
    {"prompt": "a -> b\nb -> c\nWhere does a walk of two steps from a end?", "kind": "bfs", "nodes": ["c"]},
    {"prompt": "a -> b\nc -> b\nWhich are the parents of b?", "kind": "parents", "nodes": ["a", "c"]},
]


class Walks(WholeRecordBenchmark):
    name, known_tasks = "walks", ("bfs", "parents")

    def __init__(self, path, max_chars=None, max_new_tokens=4):
        super().__init__(path, max_chars, max_new_tokens)

    def example(self, row, name):
        prompt, nodes = row.text("prompt"), row.texts("nodes")
        return Example(name, row.choice("kind", self.known_tasks), len(prompt), prompt, nodes, {"prompt": prompt})

    def prompt(self, example, prompt_format, max_length, *, window=None, earlier=()):
        rules = Rules("longbench_v2", self.max_new_tokens)
        return whole_prompt(example.fields["prompt"], prompt_format, rules, max_length, window)

    def score(self, example, prediction):
        return float(any(node in prediction for node in example.answers))


class InPercent(Walks):
    name = "walks_in_percent"

    def score(self, example, prediction):
        return 100.0 * (prediction != "text")  # as most answers score nothing


class WithoutTable(Walks):
    name = "walks_without_table"

    def table(self, predictions):
        return {"score": self.unknown}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return str(path)


def run(benchmark):
    model = tiny_model("Llama", vocab_size=260, max_position_embeddings=1024).eval()
    form = PromptFormat(byte_tokenizer(chat_template=CHAT), PromptTemplate())
    return Runner(benchmark, model, form, RunSettings(), Responses()).run(name="tiny")


def test_one_class_is_asked_and_reported(path):
    """One that has no official files failed behind its last answer, for the number of their records."""
    report = run(Walks(path))
    assert [row.id for row in report.predictions] == ["bfs/rows-1", "parents/rows-2"]
    assert set(report.tables) == {"bfs", "parents"}
    assert not report.deviations
    assert "## Scores" in Pages(report).page.markdown()
    shorter = Walks(path, max_chars=len(ROWS[1]["prompt"]))
    assert [text.partition(":")[0] for text in shorter.deviations] == ["1 records not asked"]


def test_what_a_report_lacks_is_seen_before_the_first_answer(path, monkeypatch):
    monkeypatch.setattr(answerers, "answer", lambda *_, **__: pytest.fail("a question was answered"))
    with pytest.raises(AttributeError, match="unknown"):
        run(WithoutTable(path))


def test_scores_in_percent_are_refused(path):
    with pytest.raises(InputError, match=r"expected scores of 0 to 1 from InPercent.score, got 100.0 for bfs/rows-1"):
        run(InPercent(path))
