import itertools
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import reports
from support.byte_tokenizer import CHAT, byte_tokenizer
from support.reports import rows_of, summary, table_of

from evaluation.benchmark import Benchmark
from evaluation.benchmarks.haystack import _book
from evaluation.benchmarks.needle import Haystack, NeedleBenchmark, TextHaystack
from evaluation.benchmarks.needle_tasks import Sizes
from evaluation.reports.figures import heat_map
from evaluation.reports.reading import load_report
from evaluation.running.batching import Batching, plan_rounds
from evaluation.running.preflight import extreme_examples
from evaluation.running.responses import Responses, record_hash
from evaluation.running.runner import Runner
from evaluation.running.settings import RunSettings
from lit_longpo.policy import PolicyConfig, PromptFormat, PromptTemplate


def num_words(text):
    return len(text.split())


@given(st.integers(10, 300), st.sampled_from([0.0, 0.3, 1.0]), st.integers(0, 50))
@settings(max_examples=40, deadline=None)
def test_prose_honours_length_depth_and_index(length, depth, index):
    context, question, answers = TextHaystack().needle(length, depth, index, num_words)
    assert length - 12 < num_words(context) <= length
    assert context.count(answers[0]) == 1
    fact = next(part for part in context.split(". ") if "secret code" in part)
    assert question.removeprefix("What is the secret code of ").removesuffix("?") in fact
    if depth in (0.0, 1.0):
        assert context.startswith(fact) or context.rstrip(".").endswith(fact.rstrip("."))
    assert TextHaystack().needle(length, depth, index, num_words) == (context, question, answers)


def test_a_text_file_serves_as_hay(tmp_path):
    book = tmp_path / "book.txt"
    book.write_text("One sentence here. Another one there.\nA third one. ")
    context, _, _ = TextHaystack(str(book)).needle(200, 0.5, 0, num_words)
    assert "Another one there." in context
    with pytest.raises(FileNotFoundError):
        TextHaystack(str(tmp_path / "none.txt")).needle(20, 0.5, 0, num_words)


def test_the_haystacks_satisfy_the_protocol():
    from data_modules import WorldHaystack

    assert isinstance(TextHaystack(), Haystack)
    assert isinstance(WorldHaystack(), Haystack)


class Echo:
    """Hides the answer nowhere and everywhere: the first cell is always right, others never."""

    def needle(self, length, depth, index, num_tokens):
        return "word1 word2", "word3", ("",) if depth == 0.0 else ("impossible",)


@pytest.fixture(scope="module")
def report(policy_folder):
    policy = PolicyConfig(source=str(policy_folder))
    benchmark = NeedleBenchmark(Echo(), (8, 16), (0.0, 1.0), 3, max_new_tokens=2)
    return Runner(benchmark, policy.load(), policy.prompt_format(), RunSettings(), Responses()).run(step=7)


def test_the_grid_is_complete_and_scored(report):
    assert len(report.predictions) == 12
    assert report.by_cell() == {(0.0, 8): 1.0, (0.0, 16): 1.0, (1.0, 8): 0.0, (1.0, 16): 0.0}
    assert report.by_length() == {8: 0.5, 16: 0.5}
    assert report.mean == 0.5


def test_a_question_is_made_once_however_often_it_is_asked(policy_folder, monkeypatch):
    """A haystack lays a whole context for it; `fit` looks through all of them before step 1, and runs follow."""
    made, plain = Counter(), NeedleBenchmark._example
    monkeypatch.setattr(NeedleBenchmark, "_example", lambda *cell: made.update([cell[1:]]) or plain(*cell))
    policy = PolicyConfig(source=str(policy_folder))
    benchmark = NeedleBenchmark(Echo(), (8, 16), (0.0, 1.0), 3, max_new_tokens=2)
    found = extreme_examples(benchmark, benchmark.tasks)
    asked = (benchmark, policy.load(), policy.prompt_format(), RunSettings())
    first, second = (Runner(*asked, Responses(), extremes=found).run(step=step) for step in (0, 1))
    assert first.predictions == second.predictions
    assert list(made.values()) == [1] * 12


def test_reports_survive_the_disk(report, tmp_path):
    report.save(tmp_path / "deep" / "report.json")
    assert load_report(tmp_path / "deep" / "report.json") == report
    assert json.loads((tmp_path / "deep" / "report.json").read_text())["scores"]["mean"] == 0.5


def test_the_heat_map_shows_every_cell(report):
    axes = heat_map(report).axes[0]
    assert sorted(text.get_text() for text in axes.texts) == ["0%", "0%", "100%", "100%"]
    assert "step 7" in axes.get_title()


EVERY = ("needle", "multi_key", "multi_value", "multi_query", "variable_tracking")


def in_bytes(**options):
    return PromptFormat(byte_tokenizer(**options), PromptTemplate("{context}\n{question}"))


def longest(prompt_format):
    """Tokens of the longest sentence of hay, and a little for the seams."""
    return len(prompt_format.encode(" The night train changed very little before the market began.")) + 2


FORMATS = {
    "bytes": in_bytes(),
    "chat": in_bytes(chat_template=CHAT),
    "embedded": PolicyConfig(template=PromptTemplate("{context} Complete: {question} ")).prompt_format(),
}


@pytest.mark.parametrize("task", EVERY)
@pytest.mark.parametrize("name", FORMATS)
def test_contexts_have_their_length_and_needles_their_depth_in_tokens(name, task):
    prompt_format = FORMATS[name]
    grid = NeedleBenchmark(lengths=(700, 1500), depths=(0.0, 0.3, 1.0), num_examples=2, tasks=(task,))
    for example in grid.examples(task):
        context = grid.context(example, lambda text: len(prompt_format.encode(text)))
        assert example.length - longest(prompt_format) < len(prompt_format.encode(context)) <= example.length
        if example.depth is not None:
            start = context[: context.index(example.answers[0])].rfind(". ") + 1
            sentence = context[start:].split(". ")[0] + "."
            target = min(example.depth * example.length, example.length - len(prompt_format.encode(sentence)))
            offset = len(prompt_format.encode(context[:start]))
            neighbour = len(prompt_format.encode(sentence)) if task == "multi_key" else 0  # may push it forward
            assert abs(offset - target) <= longest(prompt_format) + neighbour


def test_all_depths_of_multi_key_ask_about_one_context_that_is_computed_once():
    grid = NeedleBenchmark(lengths=(700,), depths=(0.0, 0.5, 1.0), num_examples=2, tasks=("multi_key",))
    prompts = [grid.prompt(example, FORMATS["bytes"], 2000) for example in grid.examples("multi_key")]
    batches = [batch for step in plan_rounds(prompts, Batching(), 1) for batch in step.batches]
    assert sorted(sorted(batch.numbers) for batch in batches) == [[0, 2, 4], [1, 3, 5]]
    assert all(batch.shared > 600 for batch in batches)
    contexts = [example.context_key for example in grid.examples("multi_key")]
    assert [contexts.index(name) for name in contexts] == [0, 1, 0, 1, 0, 1]  # intervals draw them together


def test_the_world_of_the_embedded_model_honours_depth_in_tokens():
    from data_modules import WorldHaystack

    prompt_format = FORMATS["embedded"]
    for depth in (0.0, 0.2, 0.7):
        context, question, answers = WorldHaystack().needle(400, depth, 3, lambda text: len(prompt_format.encode(text)))
        before = context[: context.index(f"{question} {answers[0]}")]
        assert abs(len(prompt_format.encode(before)) - depth * 400) <= 4


def test_it_is_a_benchmark_whose_examples_need_no_tokenizer():
    grid = NeedleBenchmark(lengths=(100, 900), depths=(0.5,), num_examples=2, tasks=EVERY)
    assert isinstance(grid, Benchmark)
    examples = [example for task in grid.tasks for example in grid.examples(task)]
    assert len({example.id for example in examples}) == len(examples) == 20
    assert all(example.answers and example.question for example in examples)
    assert examples == [example for task in grid.tasks for example in grid.examples(task)]


def test_prompts_follow_the_policys_template_and_are_never_cut():
    grid = NeedleBenchmark(lengths=(300,), num_examples=1)
    example = next(grid.examples("needle"))
    prompt = grid.prompt(example, FORMATS["chat"], 1000)
    text = FORMATS["chat"].tokenizer.decode(prompt.ids)
    assert text.startswith("<bos>[user]")
    assert example.question in text
    assert example.answers[0] in text
    assert prompt.num_lost == 0
    assert prompt.num_tokens == len(prompt.ids)
    assert prompt.stop_ids == (2, 1)  # end of turn, end of sequence
    with pytest.raises(ValueError, match="must not be cut; drop the length"):
        grid.prompt(example, FORMATS["chat"], 200)
    with pytest.raises(ValueError, match=f"at most {len(prompt.ids) - 1} tokens"):
        grid.prompt(example, FORMATS["chat"], 1000, window=len(prompt.ids) + 15)


def test_the_score_of_lists_is_the_share_or_all_of_it():
    share, whole = (NeedleBenchmark(tasks=EVERY, scoring=scoring) for scoring in ("share", "all"))
    assert (share.score_name, whole.score_name, NeedleBenchmark(scoring="all").score_name) == ("share", "all", "")
    example = next(share.examples("multi_value"))
    half = " ".join(example.answers[:2])
    assert (share.score(example, half), whole.score(example, half)) == (0.5, 0.0)
    assert whole.score(example, " ".join(example.answers)) == 1.0
    assert any("share" in text for text in whole.deviations)
    assert not NeedleBenchmark().deviations


def test_the_table_has_every_length_in_percent():
    grid = NeedleBenchmark(lengths=(600, 1200), num_examples=1, tasks=("multi_value",))
    examples = list(grid.examples("multi_value"))
    responses = [" ".join(example.answers[: 1 + (example.length > 600)]) for example in examples]
    assert table_of(grid, examples, responses) == {"600": 25.0, "1200": 50.0, "mean": 37.5}
    assert fmean(grid.score(e, r) for e, r in zip(examples, responses, strict=True)) == 0.375


class Fickle(TextHaystack):
    def needle(self, length, depth, index, num_tokens):
        context, question, answers = super().needle(length, depth, index, num_tokens)
        return context, f"{question} {num_tokens('a b c')}", answers


def test_a_haystack_whose_question_depends_on_the_tokenizer_is_refused():
    grid = NeedleBenchmark(Fickle(), lengths=(300,), num_examples=1)
    with pytest.raises(ValueError, match="Fickle question and answers must not depend"):
        grid.prompt(next(grid.examples("needle")), FORMATS["bytes"], 1000)


@pytest.mark.parametrize(
    "wrong", [{"tasks": ("niah",)}, {"tasks": ()}, {"scoring": "some"}, {"lengths": (0,)}, {"depths": (1.5,)}], ids=str
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        NeedleBenchmark(**wrong)


def test_settings_tell_what_contexts_depend_on(tmp_path, monkeypatch):
    from data_modules import WorldHaystack

    monkeypatch.chdir(tmp_path)
    Path("book.txt").write_text("One sentence. Another one.")
    plain = NeedleBenchmark()
    assert plain.settings == NeedleBenchmark(lengths=(64,)).settings
    for other in ({"seed": 1}, {"hay": "book.txt"}, {"sizes": Sizes(num_keys=3)}, {"haystack": WorldHaystack(hops=2)}):
        assert NeedleBenchmark(**other).settings != plain.settings
    assert "hops=2" in NeedleBenchmark(WorldHaystack(hops=2)).settings["haystack"]
    assert NeedleBenchmark(Echo()).settings["haystack"] == "Echo"


def test_answers_of_another_limit_hay_or_grid_are_not_taken(tmp_path):
    """Ids are the same; lm-evaluation-harness#3881 took answers of other sampling so."""
    hay = tmp_path / "hay.txt"
    told = []
    for text in ("One sentence. Another one.", "Other sentences. All of them."):
        hay.write_text(text)
        _book.cache_clear()
        told += [NeedleBenchmark(hay=str(hay)).settings, NeedleBenchmark(TextHaystack(str(hay))).settings]
    told += [NeedleBenchmark(max_new_tokens=limit).settings for limit in (None, 2, 6)]
    assert all(first != second for first, second in itertools.combinations(told, 2))
    grids = [NeedleBenchmark(tasks=("multi_key",), depths=depths) for depths in ((0, 1), [0, 1], (0, 0.5, 1))]
    hashes = [record_hash(next(grid.examples("multi_key"))) for grid in grids]
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize("task", EVERY)
def test_whole_numbers_are_depths_too(task):
    """The question of depth 0 was another than that of 0.0, and no context could be made for it."""
    whole, parts = (NeedleBenchmark(lengths=(700,), depths=depths, tasks=(task,)) for depths in ((0, 1), (0.0, 1.0)))
    for one, other in zip(whole.examples(task), parts.examples(task), strict=True):
        assert one == other
        made = [
            grid.context(example, lambda text: len(text.split())) for grid, example in ((whole, one), (parts, other))
        ]
        assert made[0] == made[1]


def test_the_runner_asks_and_scores_it_like_any_benchmark():
    """Contexts are made when a prompt is; the embedded model finds what it was trained to find."""
    from data_modules import WorldHaystack

    policy = PolicyConfig(template=PromptTemplate("{context} Complete: {question} "))
    grid = NeedleBenchmark(WorldHaystack(), lengths=(32, 64), depths=(0.0, 1.0), num_examples=2, max_new_tokens=2)
    model, prompt_format = policy.load(), policy.prompt_format()
    report = Runner(grid, model, prompt_format, RunSettings(max_length=500), Responses()).run(name="embedded")
    assert report.tables == {"needle": {"32": 100.0, "64": 100.0, "mean": 100.0}}
    assert report.protocol == grid.protocol
    assert report.settings["needle seed"] == 0
    assert {(item.depth, item.length) for item in report.predictions} == {(d, n) for d in (0.0, 1.0) for n in (32, 64)}
    assert all(item.num_tokens > item.length for item in report.predictions)


def test_needles_tasks_are_averaged_by_length():
    report = reports.needle()
    (section,) = summary(report)
    expected = fmean(table["512"] for table in report.tables.values())
    assert float(rows_of(section)["512"][1]) == pytest.approx(expected, abs=0.0051)
    assert section.note == "Plain mean of the tasks."
    assert not summary(reports.needle(tasks=("needle",)))


def test_a_length_that_lacks_a_task_is_named():
    whole = reports.needle()
    task = whole.predictions[-1].task
    kept = tuple(item for item in whole.predictions if (item.task, item.length) != (task, 512))
    tables = {**whole.tables, task: {name: value for name, value in whole.tables[task].items() if name != "512"}}
    (section,) = summary(replace(whole, predictions=kept, tables=tables))
    number = len(whole.tables)
    assert section.note.endswith(f" Not of all {number} tasks, so not comparable: 512 ({number - 1}).")
