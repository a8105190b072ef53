import json

import pytest
from results import outcomes
from results.cells import Cell, Settings, Suite
from results.outcomes import Outcome, load, scores_of
from results.passages import ALONE, Paragraph, among_others, asked, lengthened
from results.running import Runner, filled
from results.saving import NAME, saving
from results.suites import SUITES
from results.tables import difference, markdown, replaced, rows_of

from data_modules.builders.command import build_parser
from data_modules.qa_sets.matching import mentions
from data_modules.records import Passage, PreferencePair, QARecord
from evaluation.command import evaluate_parser
from lit_longpo.__main__ import register_classes


def settings(tmp_path, **more):
    return Settings(tmp_path, train="train.json", test="test.json", **more)


def outcome(cell, seed, digits, **more):
    return Outcome(cell, seed, "", {"torch": "1", "commit": "c"}, scores=digits, **more)


# Tables.


def test_difference_is_paired_and_draws_contexts():
    # Two contexts of two questions; one gains both, the other none: the mean is 1/2, and of two draws of two
    # contexts a quarter each have gains of 0 and 1, more than the 2.5 % that the interval leaves out on each side.
    rows = rows_of(
        {"a": outcome("a", 0, {"8": {"x": "00", "y": "11"}}), "b": outcome("b", 0, {"8": {"x": "11", "y": "11"}})}
    )
    found = difference(rows["b"], rows["a"], ["8"], shared=True)
    assert (found.mean, found.low, found.high, found.num) == (0.5, 0.0, 1.0, 4)


def test_same_gain_in_every_context_has_no_width():
    rows = rows_of(
        {"a": outcome("a", 0, {"8": {"x": "01", "y": "01"}}), "b": outcome("b", 0, {"8": {"x": "11", "y": "11"}})}
    )
    shared = difference(rows["b"], rows["a"], ["8"], shared=True)
    alone = difference(rows["b"], rows["a"], ["8"], shared=False)
    assert (shared.low, shared.mean, shared.high) == (0.5, 0.5, 0.5)
    assert alone.low < 0.5 < alone.high  # as if four contexts were drawn


def test_rows_are_means_over_seeds_and_compared_at_common_ones():
    digits = {1: "10", 2: "11", 3: "00"}
    rows = rows_of(
        {
            f"{name}{seed}": outcome(name, seed, {"8": {"x": digits[seed] if name == "a" else "00"}})
            for name, seed in [("a", 1), ("a", 2), ("a", 3), ("b", 1)]
        }
    )
    assert rows["a"].mean(["8"]) == pytest.approx(100 * 3 / 6)
    assert difference(rows["a"], rows["b"], ["8"], shared=False).mean == 0.5  # seed 1 alone


def test_table_says_means_differences_and_costs(tmp_path):
    costs = {"steps": 4, "tokens": 2e6, "reference_tokens": 1e6, "flops": 3e12, "reference_flops": 1e12, "seconds": 7}
    scores = {length: {"p1": "10", "p2": "11"} for length in ("alone", "1024", "2048")}
    worse = {length: {"p1": "00", "p2": "11"} for length in scores}
    outcome("base", 0, worse).save(tmp_path)
    outcome("sft-long-1024", 1, scores, costs=costs).save(tmp_path)
    text = markdown(SUITES["smollm2"], tmp_path)
    assert "| base | 0 |" not in text
    assert "| sft-long-1024 | 1 | 75.0 | 75.0 | 75.0 | 75.0 | +25.0 [0.0, 50.0] |  |  | 4 | 3.00 | 4.0 | 7 |" in text


def test_table_says_card_or_processor_and_cores(tmp_path):
    where = {"torch": "2", "commit": "c", "processor": "P", "cores": 16, "accelerator": None}
    scores = {length: {"0": "1"} for length in ("64", "256", "384", "512")}
    Outcome("base", 0, "", where, scores=scores).save(tmp_path)
    Outcome("sft-short", 1, "", where | {"accelerator": "Card"}, scores=scores).save(tmp_path)
    assert "last) Card, torch 2, c; P, 16 cores, torch 2, c." in markdown(SUITES["embedded"], tmp_path)


def test_text_between_markers_is_replaced_and_nothing_else():
    page = "a\n<!-- results:x -->\nold\n<!-- /results:x -->\nb <!-- results:y --><!-- /results:y -->"
    new = replaced(page, "x", "new \\1")
    assert new == "a\n<!-- results:x -->\nnew \\1\n<!-- /results:x -->\nb <!-- results:y --><!-- /results:y -->"
    with pytest.raises(ValueError, match="results:z"):
        replaced(page, "z", "")


def test_page_shows_what_is_stored():
    from results.__main__ import _PAGE

    page = _PAGE.read_text(encoding="utf-8")
    for name, suite in SUITES.items():
        assert replaced(page, name, markdown(suite, outcomes.STORED / name)) == page, "type: make results-table"
    assert replaced(page, NAME, saving()) == page


def test_saving_is_the_rejected_answers_prompt_and_no_more():
    """Per token and layer alike, a row of n prompt tokens costs about n: 8K + 1K over 8K shared, over 16K not."""
    line = next(line for line in saving().splitlines() if line.startswith("| 8,192 |"))
    shared, separate = map(float, line.split("|")[5:7])
    assert shared == pytest.approx(9 / 8, abs=0.05)
    assert separate == pytest.approx(9 / 16, abs=0.05)


# Cells.


def test_keys_are_unique_and_cells_come_after_what_they_need(tmp_path):
    for suite in SUITES.values():
        seen = set()
        for cell in suite.cells(settings(tmp_path)):
            assert cell.key not in seen
            assert set(cell.after) <= seen, cell.key
            seen.add(cell.key)


def test_patterns_bring_what_the_cells_come_after(tmp_path):
    keys = [cell.key for cell in SUITES["smollm2"].cells(settings(tmp_path), ["orpo-long-1024-seed2"])]
    assert keys == ["convert", "questions", "first-stage-seed1", "first", "build", "pairs", "orpo-long-1024-seed2"]


_TELLING = ("build", "base", "logo-1024-seed1", "logo-mixed-2-rejected-seed1")


@pytest.mark.parametrize("patterns", [_TELLING, pytest.param((), marks=pytest.mark.slow)], ids=["some", "all"])
def test_commands_are_accepted(patterns, tmp_path):
    """By the parsers of `fit`, `build` and `evaluate`, without a run."""
    from lit_longpo.planning.command import PlanCLI

    register_classes()
    parsers = {"build": build_parser(), "evaluate": evaluate_parser()}
    for suite in SUITES.values():
        for cell in suite.cells(settings(tmp_path, seeds=(1,)), patterns):
            asked = not patterns or cell.key in patterns
            if not asked or cell.program != "lit_longpo" or "{steps" in " ".join(cell.words):
                continue
            command, *words = filled(cell, tmp_path, tmp_path)
            if command not in parsers:
                parsers[command] = PlanCLI(args=words).parser
            else:
                assert parsers[command].parse_args(words) is not None, cell.key


def test_steps_of_equal_flops_are_counted_from_results(tmp_path):
    outcome("dear", 1, {}, costs={"steps": 10, "flops": 70.0, "reference_flops": 10.0}).save(tmp_path)
    outcome("cheap", 1, {}, costs={"steps": 4, "flops": 8.0, "reference_flops": 0.0}).save(tmp_path)
    cell = Cell("cheap-equal", ("fit", "--trainer.max_steps={steps dear-seed1 cheap-seed1}", "--x={run}/{y}"), seed=1)
    assert filled(cell, tmp_path / "run", tmp_path)[1:] == ["--trainer.max_steps=40", f"--x={tmp_path}/run/{{y}}"]


# Running.


class _Process:
    """Runs its target at once."""

    def __init__(self, target, args):
        self.target, self.args, self.exitcode = target, args, None

    def start(self):
        self.exitcode = self.target(*self.args)


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Keys of the cells that were started, and a runner of a suite of two."""
    started = list[str]()

    def work(program, words, log, accelerator):
        started.append(words[1])
        return int(words[1] == "bad")

    def make(settings):
        yield Cell("bad" if fails else "good", ("build", "bad" if fails else "good"))
        yield Cell("late", ("build", "late", *more), after=("bad" if fails else "good",))

    fails, more = False, list[str]()
    monkeypatch.setattr("results.running.work", work)
    monkeypatch.setattr("results.running._processes", lambda start: type("Context", (), {"Process": _Process}))

    def runner(failing=False):
        nonlocal fails
        fails = failing
        suite = Suite("two", make)
        return Runner({"two": (suite, settings(tmp_path))}, stored=tmp_path / "stored", patterns=["*"])

    return started, runner, tmp_path / "two", more


def test_finished_cells_are_skipped_and_killed_ones_start_anew(runs):
    started, runner, folder, more = runs
    (folder / "late").mkdir(parents=True)
    (folder / "late" / "half.txt").write_text("killed")
    assert runner().run()
    assert started == ["good", "late"]
    assert not (folder / "late" / "half.txt").exists()
    assert runner().run()
    assert started == ["good", "late"]  # nothing again
    more.append("--other")
    assert runner().run()
    assert started == ["good", "late", "late"]  # its command has changed


def test_stored_result_of_the_same_command_stands_for_its_run(tmp_path):
    suite, own = SUITES["embedded"], settings(tmp_path, seeds=(1,))
    elsewhere = suite.identities(settings(tmp_path / "else", seeds=(1,), accelerator="gpu"))
    outcome("base", 0, {}, identity=elsewhere["base"]).save(tmp_path / "stored" / "embedded")
    outcome("sft-short", 1, {}, identity="other").save(tmp_path / "stored" / "embedded")
    left = {job.cell.key for job in Runner({"embedded": (suite, own)}, stored=tmp_path / "stored")._jobs()}
    assert "base" not in left
    assert "sft-short-seed1" in left


def test_what_comes_after_a_failure_is_left_out(runs, capsys):
    started, runner, folder, _ = runs
    assert not runner(failing=True).run()
    assert started == ["bad"]
    assert not (folder / "bad" / "done.json").exists()
    assert "FAILED (exit code 1): two/bad" in capsys.readouterr().out


def test_no_time_starts_nothing(runs):
    started, runner, *_ = runs
    late = runner()
    late.minutes = -1.0
    assert not late.run()
    assert started == []


# Outcomes.


def test_scores_keep_a_digit_for_each_question(tmp_path):
    rows = [
        {"id": "512/p1/b", "prediction": "a dog", "answers": ["dog"], "score": 1.0, "length": 9, "depth": 0.5},
        {"id": "512/p1/a", "prediction": "cat", "answers": ["dog"], "score": 0.0, "length": 9, "depth": 0.5},
        {"id": "needle/64-0.5-0", "prediction": "tea", "answers": ["tea"], "score": 1.0, "length": 64, "depth": 0.5},
    ]
    scores, means = scores_of(rows)
    assert scores == {"512": {"p1": "01"}, "64": {"0.5": "1"}}
    assert means["64"] == {"f1": 100.0, "em": 100.0}
    assert means["512"]["em"] == 50.0  # SQuAD's rule leaves the article out
    kept = outcome("a", 1, scores, means=means)
    kept.save(tmp_path)
    assert load(tmp_path) == {"a-seed1": kept}
    assert json.loads((tmp_path / "a-seed1.json").read_text())["scores"] == scores


# Data.


def words(text):
    return len(text.split())


def paragraph(number, answer):
    passage = Passage(f"T{number}", f"It is {answer} here, and {'word ' * 8}ends.", supporting=True)
    return Paragraph(f"p{number}", passage, (QARecord(f"q{number}", "What is it?", (answer,), (passage,)),))


PARAGRAPHS = [paragraph(number, answer) for number, answer in enumerate(["red", "blue", "green", "red", "black"])]


@pytest.mark.parametrize(("depth", "place"), [(0.0, 0), (0.5, 1), (1.0, 3)])
def test_long_context_has_the_passage_at_its_depth_and_no_answer_elsewhere(depth, place):
    import random

    passage, pool = PARAGRAPHS[0].passage, [item.passage for item in PARAGRAPHS]
    text, (start, end) = among_others(passage, ("red",), pool, depth, 60, words, random.Random(0))
    parts = text.split("\n\n")
    assert text[start:end] == parts[min(place, len(parts) - 1)]
    assert "red" in text[start:end]
    assert not mentions(text[:start] + text[end:], ["red"])
    assert words(text) <= 60


def test_questions_are_asked_alone_and_at_every_length():
    records = list(asked(PARAGRAPHS, (90, 110), 1, words))
    assert [record["id"] for record in records[:2]] == [f"{ALONE}/p0/q0", f"{ALONE}/p1/q1"]
    assert len({record["id"] for record in records}) == 3 * len(PARAGRAPHS)
    assert {record["depth"] for record in records[len(PARAGRAPHS) : 2 * len(PARAGRAPHS)]} == {0.0, 0.25, 0.5, 0.75, 1.0}


def test_lengthened_pairs_keep_order_and_mistake_and_take_the_gold_answer():
    pairs = [PreferencePair(f"q{n}", "What is it?", "s", "l", "sampled", ("wrong",), ("gold",)) for n in (1, 0)]
    short, longer = ([*lengthened(pairs, PARAGRAPHS, length, words)] for length in (90, 110))
    assert [pair.id for pair in short] == [pair.id for pair in longer] == ["q1", "q0"]
    assert {(pair.chosen, pair.rejected) for pair in short} == {("gold", ("wrong",))}
    assert short[0].short_context == longer[0].short_context
    assert words(short[0].long_context) <= 90 - 64
