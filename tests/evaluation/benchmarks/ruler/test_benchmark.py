import inspect
import json
import sys
from collections import Counter

import pytest
from support.byte_tokenizer import CHAT, byte_tokenizer
from support.ruler_files import WordFormat, layout
from support.tiny_models import tiny_model

from evaluation.benchmarks.ruler import RULER
from evaluation.benchmarks.ruler.averages import LENGTHS
from evaluation.benchmarks.ruler.counting import FrequentWordsGenerator
from evaluation.command import evaluate_parser
from evaluation.metrics.ruler import CATEGORIES, NIAH, TASKS
from evaluation.reports.report import BenchmarkReport, Prediction
from evaluation.running.responses import Responses
from evaluation.running.runner import Runner
from evaluation.running.settings import RunSettings
from lit_longpo.policy import PromptFormat, PromptTemplate

OFFLINE = ("niah_single_1", "niah_multikey_2", "niah_multikey_3", "vt", "cwe", "fwe")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return layout(tmp_path_factory.mktemp("ruler") / "scripts")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """An essay and questions of our own."""
    path = tmp_path_factory.mktemp("texts")
    (path / "essay.txt").write_text(" ".join(f"Sentence {number} says nothing of interest." for number in range(40)))
    paragraphs = [
        {"context": f"Fact {number} is old.", "qas": [{"question": f"What is {number}?", "answers": [{"text": "old"}]}]}
        for number in range(30)
    ]
    paragraphs[1]["qas"].insert(0, {"question": "?", "is_impossible": True, "answers": []})
    (path / "squad.json").write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))
    hotpot = [
        {"question": "Which?", "answer": "that", "context": [[f"{name}{row}", ["One.", " that."]] for name in "abc"]}
        for row in range(9)
    ]
    (path / "hotpotqa.json").write_text(json.dumps(hotpot))
    return {"essays": path / "essay.txt", "squad": path / "squad.json", "hotpotqa": path / "hotpotqa.json"}


@pytest.fixture(scope="module")
def bench(folder, files):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "nltk.tokenize", None)  # takes seconds, and its data are elsewhere
        return RULER(folder, lengths=(900,), num_examples=2, **files)


def test_all_answers_are_in_contexts_that_fill_their_lengths(bench):
    form = WordFormat()
    for task in TASKS:
        for example in bench.examples(task):
            ids = bench.prompt(example, form, 10**6).ids
            room = example.length - bench._generators[task].template.max_new_tokens
            assert room * 0.3 < len(ids) <= room, example.id
            text = " ".join(ids).lower()
            assert all(" ".join(form.encode(answer)).lower() in text for answer in example.answers), example.id
    assert {len(next(bench.examples(task)).answers) for task in ("niah_multivalue", "niah_multiquery")} == {4}


def test_answers_need_no_tokenizer_and_rows_are_their_own(folder):
    one, two = (RULER(folder, lengths=(800,), num_examples=n, tasks=["vt", "niah_single_1"]) for n in (2, 3))
    assert [*one.examples("vt")] == [*two.examples("vt")][:2]
    assert len({item.answers for item in two.examples("niah_single_1")}) == 3
    assert one.identity != two.identity
    other = RULER(folder, lengths=(800,), num_examples=2, tasks=["vt"], seed=1)
    assert [*other.examples("vt")] != [*one.examples("vt")]
    assert "seed 1, official 42" in other.deviations


def test_rows_of_questions_are_the_same_ones_at_every_length(folder, files):
    """Intervals draw them together; the other tasks hide something else at each length."""
    made = RULER(folder, lengths=(900, 1200), num_examples=2, tasks=["qa_1", "vt"], squad=files["squad"])
    contexts = {task: [example.context_key for example in made.examples(task)] for task in made.tasks}
    assert len(set(contexts["vt"])) == 4
    assert contexts["qa_1"][:2] == contexts["qa_1"][2:]
    assert contexts["qa_1"][0] != contexts["qa_1"][1]


def test_a_question_is_made_once_however_often_it_is_asked(folder, monkeypatch):
    """`fit` looks through all of them before step 1, and runs follow."""
    made, plain = Counter(), FrequentWordsGenerator.hidden
    monkeypatch.setattr(FrequentWordsGenerator, "hidden", lambda *args: made.update([args[2:]]) or plain(*args))
    bench = RULER(folder, lengths=(800, 900), num_examples=2, tasks=["fwe"])
    first, second = ([*bench.examples("fwe")] for _ in range(2))
    assert first == second
    assert made == Counter({(length, row): 1 for length in (800, 900) for row in (0, 1)})


def test_what_needs_a_file_is_left_out_or_refused(folder):
    bench = RULER(folder)
    assert bench.tasks == OFFLINE
    assert bench.official_counts["vt"] == 3000
    assert any("tasks left out: niah_single_2" in line for line in bench.deviations)
    with pytest.raises(ValueError, match="expected `hotpotqa` for qa_2, got none"):
        RULER(folder, tasks=["qa_2"])
    with pytest.raises(ValueError, match=r"got multi_key; .*multi_key is a task of `evaluate --config needle`"):
        RULER(folder, tasks=["multi_key"])
    with pytest.raises(FileNotFoundError, match=r"expected a file at `benchmark.init_args.essays:  `, found none"):
        RULER(folder, tasks=["niah_single_1"], lengths=[500], essays=" ")
    with pytest.raises(ValueError, match="git clone"):
        RULER()
    with pytest.raises(ValueError, match="`lengths` from 500"):
        RULER(folder, lengths=(100,))


def test_the_answer_prefix_stands_behind_the_chat_template(folder):
    bench = RULER(folder, lengths=(1000,), num_examples=1, tasks=["niah_single_1"])
    example = next(bench.examples("niah_single_1"))
    for chat, end in ((None, "? It Is"), (CHAT, "?<end>[assistant] It Is")):
        form = PromptFormat(byte_tokenizer(chat_template=chat), PromptTemplate())
        prompt = bench.prompt(example, form, 1000)
        text = form.tokenizer.decode(list(prompt.ids))
        assert text.endswith(end.replace("It Is", "They is"))  # the official singular changes the prefix too
        assert text.count("<bos>") == 1
        assert len(prompt.ids) + 16 <= 1000
        assert text.count("A number is here.") == 1


def test_nothing_is_cut(bench):
    example = next(bench.examples("vt"))
    with pytest.raises(ValueError, match=r"at most 700 tokens before .*; drop the length 900 from"):
        bench.prompt(example, WordFormat(), 700)
    with pytest.raises(ValueError, match="at most 692 tokens"):
        bench.prompt(example, WordFormat(), 800, window=700)


def prediction(task, length, score):
    return Prediction(f"{task}/{length}", length, None, "?", ("a",), "a", score, task=task)


def report_of(rows):
    tables = {}
    for task in dict.fromkeys(row.task for row in rows):
        tables[task] = RULER.table(None, [row for row in rows if row.task == task])
    return BenchmarkReport("ruler", 0, tuple(rows), tables=tables)


def test_averages_are_the_papers():
    scores = {length: 1 - 0.1 * place for place, length in enumerate(LENGTHS)}
    means = RULER.means(report_of([prediction(task, length, scores[length]) for task in TASKS for length in LENGTHS]))
    values = [1 - 0.1 * place for place in range(6)]
    by_hand = {
        "tasks": sum(values) / 6,
        "without aggregation": sum(values) / 6,
        "increasing": sum(weight * value for weight, value in enumerate(values, 1)) / 21,
        "decreasing": sum((7 - weight) * value for weight, value in enumerate(values, 1)) / 21,
    }
    assert {name: mean.value for name, mean in means["average"].items()} == pytest.approx(by_hand)
    assert set(means["category"]) == set(CATEGORIES)


def test_categories_are_averaged_as_longpo_does():
    kinds = {"NIAH": 0.9688, "VT": 0.9649, "AGG": 0.7155, "QA": 0.6481}  # its README: 88.02 over 13 tasks
    scores = {task: kinds[kind] for kind, tasks in CATEGORIES.items() for task in tasks}
    means = RULER.means(report_of([prediction(task, 4096, scores[task]) for task in TASKS]))["average"]
    assert 100 * means["tasks"].value == pytest.approx(88.02, abs=0.01)
    assert 100 * means["without aggregation"].value == pytest.approx((96.88 + 96.49 + 64.81) / 3, abs=0.01)


@pytest.mark.parametrize(
    ("scores", "shown"),
    [((0.9, 0.857, 0.856), "8,192"), ((0.5, 0.4, 0.3), "none of these"), ((0.9, 0.1, 0.9), "16,384")],
)
def test_the_effective_length_is_the_longest_above_the_line(scores, shown):
    rows = [prediction(task, length, score) for task in TASKS for length, score in zip(LENGTHS, scores, strict=False)]
    sections = {section.title: section for section in RULER.summary(report_of(rows))}
    assert sections["Effective length"].rows == [("85.6", shown)]
    partial = {section.title: section for section in RULER.summary(report_of([r for r in rows if r.task in NIAH]))}
    assert "Effective length" not in partial
    assert "vt, cwe" in partial["Lengths"].note


def test_a_length_whose_mean_lacks_tasks_is_named():
    """A small `--limit` draws no row of a task at some length: the mean of the others stood beside whole ones."""
    rows = [prediction(task, length, 0.5) for task in TASKS for length in LENGTHS]
    notes = [
        next(section.note for section in RULER.summary(report_of(kept)) if section.title == "Lengths")
        for kept in (rows, [row for row in rows if row.id not in ("vt/8192", "cwe/8192", "vt/4096")])
    ]
    assert notes[0] == "Plain mean of the tasks."
    assert notes[1].endswith("tasks. Not of all 13 tasks, so not comparable: 4096 (12), 8192 (11).")


def test_a_model_is_asked_up_to_its_last_position(folder, tmp_path):
    model = tiny_model("Llama", vocab_size=260, max_position_embeddings=600)
    form = PromptFormat(byte_tokenizer(chat_template=CHAT), PromptTemplate())
    bench = RULER(folder, lengths=(600,), num_examples=1, tasks=["niah_single_1", "fwe"])
    report = Runner(bench, model, form, RunSettings(), Responses()).run()
    assert [item.task for item in report.predictions] == ["niah_single_1", "fwe"]
    assert all(300 < item.num_tokens <= 592 and item.num_lost == 0 for item in report.predictions)
    assert any("500" in line for line in report.deviations)


def test_the_configuration_states_every_argument():
    values = evaluate_parser().parse_args(["--config", "ruler"])
    assert values.benchmark.class_path == "evaluation.RULER"
    assert set(vars(values.benchmark.init_args)) == set(inspect.signature(RULER).parameters)
