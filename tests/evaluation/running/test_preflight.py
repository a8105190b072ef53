"""What is wrong with the last task is said before the first answer."""

from types import SimpleNamespace

import pytest
from support import official_layout
from support.byte_tokenizer import CHAT, byte_tokenizer
from support.tiny_models import tiny_model

from evaluation import LongBench, LongBenchV2, NeedleBenchmark
from evaluation.benchmark import Example
from evaluation.evaluating import Evaluation
from evaluation.metrics import extras
from evaluation.respondent import Respondent
from evaluation.running import answerers
from evaluation.running.drawing import subset
from evaluation.running.preflight import each_id_once, extreme_examples, score_of
from evaluation.running.responses import Responses
from evaluation.running.runner import Runner
from evaluation.running.settings import RunSettings
from lit_longpo.errors import InputError, InputTypeError, MissingPackageError
from lit_longpo.policy import PolicyConfig, PromptFormat, PromptTemplate

MODEL = tiny_model("Llama", vocab_size=260, max_position_embeddings=1024).eval()
chat = PromptFormat(byte_tokenizer(chat_template=CHAT), PromptTemplate())
TASKS = {"hotpotqa": 3, "trec": 2, "passage_count": 3}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(answerers, "answer", lambda *_, **__: pytest.fail("a question was answered"))
    return official_layout.longbench(tmp_path, TASKS)


def run(folder, **settings):
    return Runner(LongBench(folder), MODEL, chat, RunSettings(**settings), Responses()).run()


def test_a_broken_record_of_the_last_task(folder):
    path = folder / "data" / "passage_count.jsonl"
    path.write_text(path.read_text() + '{"_id": "x"}\n')
    with pytest.raises(ValueError, match=r"passage_count\.jsonl:4"):
        run(folder)


def test_a_text_is_not_several_answers():
    """Each of its letters was one: "Oslo" was right wherever an o was."""
    example = Example("e", "own", 3, "Where?", "Oslo", {})
    with pytest.raises(
        InputTypeError, match=r"`answers` of e in own to be a tuple of texts, got the text 'Oslo'; write"
    ):
        list(each_id_once([example], "own"))


@pytest.mark.parametrize("given", [None, "1", 70.0, float("nan")])
def test_a_score_is_a_number_from_0_to_1(given):
    own = SimpleNamespace(score=lambda example, prediction: given)
    with pytest.raises(
        InputError, match=rf"scores of 0 to 1 from SimpleNamespace\.score, got {given!r} for e; correct"
    ):
        score_of(own, Example("e", "own", 3, "Where?", ("Oslo",), {}), "Oslo")


def test_an_id_that_comes_twice(tmp_path):
    folder = official_layout.longbench_v2(tmp_path, 2)
    path = folder / "data.jsonl"
    path.write_text(path.read_text() + path.read_text().splitlines()[0] + "\n")
    with pytest.raises(ValueError, match=r"each id once among the records of longbench_v2, got '.*' twice"):
        extreme_examples(LongBenchV2(folder), ["longbench_v2"])
    with pytest.raises(ValueError, match="expected each id once"):
        subset(LongBenchV2(folder).examples(), "longbench_v2", RunSettings())


def test_a_length_that_leaves_no_room_in_one_task(folder):
    """Only one record is long enough to be cut, and its task has the longest answers."""
    path = folder / "data" / "trec.jsonl"
    path.write_text(path.read_text().replace('"context": "', '"context": "' + "far " * 400, 1))
    with pytest.raises(ValueError, match=r"new tokens to fit 1024 positions.*set max_length to \d+ or less"):
        run(folder, max_length=1020)


def test_a_package_that_the_last_task_needs(folder, monkeypatch):
    def missing(name, purpose):
        raise MissingPackageError(f"{purpose} need {name}")

    path = folder / "data" / "multifieldqa_zh.jsonl"
    row = (folder / "data" / "hotpotqa.jsonl").read_text().splitlines()[0]
    path.write_text(row.replace("hotpotqa", "multifieldqa_zh") + "\n")
    monkeypatch.setattr(extras, "require", missing)
    extras._segmenter.cache_clear()
    with pytest.raises(MissingPackageError, match="Chinese tasks need jieba"):
        run(folder)


def test_the_longest_of_each_task_are_found(folder):
    bench = LongBench(folder)
    found = extreme_examples(bench, bench.tasks)
    assert [item.task for item in found if item.task == "trec"]
    for task in bench.tasks:
        longest = max(sum(map(len, item.fields.values())) for item in bench.examples(task))
        assert longest in [sum(map(len, item.fields.values())) for item in found if item.task == task]


@pytest.mark.parametrize(
    ("lengths", "task", "match"),
    [
        ((20, 256), "multi_value", "expected a length that holds 4 facts, got 20 tokens"),
        ((256, 5000), "needle", r"must not be cut; drop the length 5000 from `lengths`"),
    ],
)
def test_lengths_are_tried_before_the_model_is_loaded(lengths, task, match, tmp_path, monkeypatch):
    """The shortest hides least, the longest may not fit the embedded model's 4,096 positions."""
    monkeypatch.setattr(PolicyConfig, "load_base", lambda self: pytest.fail("the model was loaded"))
    grid = NeedleBenchmark(lengths=lengths, depths=(0.0,), num_examples=1, tasks=(task,))
    with pytest.raises(ValueError, match=match):
        Evaluation(Respondent(PolicyConfig()), RunSettings(), tmp_path, benchmark=grid).run()
