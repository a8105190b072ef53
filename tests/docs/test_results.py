import json
import random
import re
from dataclasses import replace
from functools import cache
from itertools import combinations, product
from pathlib import Path
from statistics import fmean

import pytest
import torch
import yaml
from results import chosen, outcomes, passages, summary
from results.cells import Cell, Settings, Suite
from results.other_questions import asked_of, main, two_hop
from results.outcomes import Outcome, f1_of, load, means_of, scores_of
from results.packing import ADAPTERS, Pack, rounded, unpack
from results.pages import replaced
from results.passages import ALONE, Evidence, among_others, asked, evidence_of, lengthened, together
from results.rows import Row, difference, rows_of
from results.running import Runner, filled
from results.saving import NAME, saving
from results.suites import SUITES
from results.tables import LAYOUTS, markdown, points
from safetensors.torch import load_file, save_file
from support.word_pairs import FORMAT, SC, VIEWS

from data_modules.base import PairDataModule
from data_modules.builders.command import build_parser
from data_modules.qa_sets.matching import mentions
from data_modules.records import Passage, PreferencePair, QARecord, read_pairs, write_pairs
from evaluation.command import evaluate_parser
from evaluation.perplexity.command import perplexity_parser
from lit_longpo.__main__ import register_classes
from lit_longpo.batch import Views


def settings(tmp_path, **more):
    return Settings(tmp_path, train="train.json", test="test.json", **more)


def outcome(cell, seed, digits, means=(("f1", 60.0), ("em", 40.0)), **more):
    others = {length: dict(means) for length in digits}
    return Outcome(cell, seed, "", {"torch": "1", "commit": "c"}, scores=digits, means=others, **more)


# Tables.


def test_difference_is_paired_and_draws_contexts():
    # Two contexts of two questions; one gains both, the other none: the mean is 1/2, and of two draws of two
    # contexts a quarter each have gains of 0 and 1, more than the 2.5 % that the interval leaves out on each side.
    rows = rows_of(
        {"a": outcome("a", 0, {"8": {"x": "00", "y": "11"}}), "b": outcome("b", 0, {"8": {"x": "11", "y": "11"}})}
    )
    found = difference(rows["b"], rows["a"], ["8"], shared=True)
    assert (found.mean, found.low, found.high, found.num) == (0.5, 0.0, 1.0, 4)


def test_same_gain_in_every_context_says_how_far_others_may_differ():
    rows = rows_of(
        {"a": outcome("a", 0, {"8": {"x": "01", "y": "01"}}), "b": outcome("b", 0, {"8": {"x": "11", "y": "11"}})}
    )
    shared = difference(rows["b"], rows["a"], ["8"], shared=True)
    alone = difference(rows["b"], rows["a"], ["8"], shared=False)
    share = 0.025**0.5  # of two contexts
    assert (shared.low, shared.mean, shared.high) == pytest.approx((1.5 * share - 1, 0.5, 1 - share / 2))
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
    for seed, f1 in ((1, 50.0), (2, 70.5)):
        outcome("sft-long-1024", seed, scores, {"f1": f1, "em": 30.0}.items(), costs=costs).save(tmp_path)
    (tmp_path / "sft-long-1024-seed1.yaml").touch()
    text = markdown(SUITES["smollm2"], tmp_path)
    assert f"| base | [-](docs/results/stored/{tmp_path.name}/base.json) |" in text
    assert "| mean of 1,024 and 2,048 | its F1 | its EM |" in text
    means, gain = "75.0 | 75.0 | 75.0 | 75.0 | 60.2 | 30.0", "+25.0 [0.0, 50.0]"
    links = (f"[{seed}](docs/results/stored/{tmp_path.name}/sft-long-1024-seed{seed}.{{}})" for seed in (1, 2))
    assert (
        f"| sft-long-1024 | {' '.join(links).format('yaml', 'json')} | {means} | {gain} |  |  | 4 | 3.00 | 4.0 | 7 |"
        in text
    )


@pytest.mark.parametrize(
    ("kept", "said"),
    [((1, 2), "+75.0 [-72.3, 96.0]"), ((2,), "+100.0 [-68.4, 100.0] (seed 2)")],
)
def test_table_compares_f1_over_the_seeds_that_kept_it(kept, said, tmp_path):
    """Sub-EM is the same everywhere: longer answers would have raised it, and lowered F1."""
    digits = {length: {"p": "1", "q": "1"} for length in ("alone", "1024", "2048")}
    costs = dict.fromkeys(("steps", "tokens", "reference_tokens", "flops", "reference_flops", "seconds"), 1.0)
    for seed in (1, 2):
        for name, percent in (("sft-short", "0"), ("orpo-long-1024", {1: "50", 2: "100"}[seed])):
            f1 = {length: dict.fromkeys("pq", percent) for length in digits} if seed in kept else {}
            outcome(name, seed, digits, f1=f1, costs=costs).save(tmp_path)
    text = markdown(SUITES["smollm2"], tmp_path)
    assert "| its EM | F1 minus sft-short |" in text
    assert re.search(
        r"\| orpo-long-1024 \| \[1\]\S+ \[2\]\S+ \|" + re.escape(" 100.0 |" * 4 + f" 60.0 | 40.0 | {said} |"), text
    )


def test_table_says_gains_over_short_sft_at_every_length_and_beyond_the_trained_one(tmp_path):
    costs = dict.fromkeys(("steps", "tokens", "reference_tokens", "flops", "reference_flops", "seconds"), 1.0)
    right = {"alone": "10", "1024": "10", "2048": "11", "4096": "11"}
    for name, digits in [("sft-short", dict.fromkeys(right, "10")), ("orpo-long-1024", right)]:
        outcome(name, 1, {length: {"p": each, "q": each} for length, each in digits.items()}, costs=costs).save(
            tmp_path
        )
    text = markdown(SUITES["smollm2"], tmp_path)
    assert "| points minus sft-short | alone | 1,024 | 2,048 | 4,096 | 2,048 and 4,096 |" in text
    none, half = "+0.0 [-84.2, 84.2]", "+50.0 [-76.3, 92.1]"  # two contexts, both alike
    assert f"| orpo-long-1024 | {none} | {none} | {half} | {half} | {half} |" in text


def test_table_says_which_results_are_of_other_pairs(tmp_path):
    costs = dict.fromkeys(("steps", "tokens", "reference_tokens", "flops", "reference_flops", "seconds"), 1.0)
    scores = {length: {"p": "1"} for length in ("alone", "1024", "2048")}
    for name, facts in [("base", {}), ("sft-short", {"pairs": "one"}), ("sft-long-1024", {"pairs": "one"})]:
        outcome(name, 1, scores, costs=costs if facts else {}, facts=facts).save(tmp_path)
    assert "different builds" not in markdown(SUITES["smollm2"], tmp_path)
    outcome("longpo-1024", 1, scores, costs=costs, facts={"pairs": "two"}).save(tmp_path)
    said = "one: sft-long-1024-seed1, sft-short-seed1; two: longpo-1024-seed1."
    assert said in markdown(SUITES["smollm2"], tmp_path)


def test_pairs_of_each_seed_are_other_ones_where_a_suite_builds_them_so(tmp_path):
    costs = dict.fromkeys(("steps", "tokens", "reference_tokens", "flops", "reference_flops", "seconds"), 1.0)
    scores = {length: {"p": "1"} for length in ("alone", "1024", "2048")}
    for seed, pairs in [(1, "one"), (2, "two")]:
        outcome("sft-short", seed, scores, costs=costs, facts={"pairs": pairs}).save(tmp_path)
    assert "different builds" in markdown(SUITES["smollm2"], tmp_path)
    assert "different builds" not in markdown(SUITES["smollm2-shared"], tmp_path)
    outcome("longpo-1024", 2, scores, costs=costs, facts={"pairs": "three"}).save(tmp_path)
    assert "too. three: longpo-1024-seed2; two: sft-short-seed2." in markdown(SUITES["smollm2-shared"], tmp_path)


def test_table_says_card_or_processor_and_cores(tmp_path):
    where = {"torch": "2", "commit": "c", "processor": "P", "cores": 16, "accelerator": None}
    scores = {length: {"0": "1"} for length in ("64", "256", "384", "512")}
    Outcome("base", 0, "", where, scores=scores).save(tmp_path)
    Outcome("sft-short", 1, "", where | {"accelerator": "Card"}, scores=scores).save(tmp_path)
    assert "brackets) Card, torch 2 (c); P, 16 cores, torch 2 (c)." in markdown(SUITES["embedded"], tmp_path)


def test_tables_of_a_page_are_kept_and_their_main_column_is_shown(tmp_path):
    cell = Cell("paper", ("evaluate",), shows="p.json")
    rows = [["qasper", "2.1", "1 to 5"], ["avg", "3.1", "1 to 5"]]
    table = {"title": "LongBench", "header": ["column", "mean", "interval"], "rows": rows}
    parts = {"title": "Tasks", "header": ["task", "1024"], "rows": [["vt", "3.1"]]}
    empty = {**table, "title": "None", "rows": []}
    (tmp_path / "p.json").write_text(json.dumps({"sections": [table, empty, parts], "head": {"model": "m"}, "more": 1}))
    made = outcomes.collect(cell, tmp_path, ("evaluate",), {"torch": "2", "commit": "c", "seconds": 90.0})
    assert made.facts == {"tables": [table, parts], "head": {"model": "m"}}
    made.save(tmp_path / "stored")
    text = markdown(SUITES["smollm2-book"], tmp_path / "stored")
    assert "| paper | LongBench | qasper 2.1, avg 3.1 |" in text
    assert "Tasks" not in text
    assert "torch 2; commit c; 2 minutes" in text


def test_text_between_markers_is_replaced_and_nothing_else():
    page = "a\n<!-- results:x -->\nold\n<!-- /results:x -->\nb <!-- results:y --><!-- /results:y -->"
    new = replaced(page, "x", "new \\1")
    assert new == "a\n<!-- results:x -->\nnew \\1\n<!-- /results:x -->\nb <!-- results:y --><!-- /results:y -->"
    with pytest.raises(ValueError, match="results:z"):
        replaced(page, "z", "")


def test_stored_files_name_no_folder_of_a_machine():
    rooted = re.compile(r"[=\"' ]/(?:home|root|work|tmp|mnt|data|users|opt)/", re.IGNORECASE)
    files = [path for path in outcomes.STORED.rglob("*.*") if path.suffix in (".json", ".yaml")]
    assert files
    assert [path.name for path in files if rooted.search(path.read_text())] == []


def test_page_shows_what_is_stored():
    from results.__main__ import _PAGE

    page = _PAGE.read_text(encoding="utf-8")
    stored = [name for name in SUITES if load(outcomes.STORED / name)]
    assert len(stored) > 5
    for name in stored:
        assert replaced(page, name, markdown(SUITES[name], outcomes.STORED / name)) == page, "type: make results-table"
    for name, text in {NAME: saving(), summary.NAME: summary.summary(), **chosen.tables()}.items():
        assert replaced(page, name, text) == page, "type: make results-table"
    first = _PAGE.with_name("README.md").read_text(encoding="utf-8")
    for name, text in chosen.readme().items():
        assert replaced(first, name, text) == first, "type: make results-table"


@pytest.mark.parametrize(
    ("label", "suite", "cell"),
    [
        ("SFT, long contexts", "embedded", "sft-long"),
        ("LOGO, no row longer than 64 words", "embedded", "logo-mixed-2-rejected"),
        ("SFT, short contexts | ", "smollm2-shared", "sft-short"),
        ("LongPO, answer's NLL | 1,024", "smollm2-shared", "longpo-answer-1024"),
        ("ORPO, long contexts | 2,048", "smollm2-shared", "orpo-long-2048"),
    ],
)
def test_readme_shows_the_means_of_stored_answers(label, suite, cell):
    """Counted here from the digits of every question."""
    lengths = ("64", "128", "256", "384", "512") if suite == "embedded" else ("alone", "1024", "2048")
    files = sorted((outcomes.STORED / suite).glob(f"{cell}-seed[0-9].json"))
    scores = [json.loads(path.read_text())["scores"] for path in files]
    digits = {length: "".join("".join(each[length].values()) for each in scores) for length in lengths}
    means = " | ".join(f"{100 * digits[length].count('1') / len(digits[length]):.1f}" for length in lengths)
    readme = (outcomes.STORED.parents[2] / "README.md").read_text(encoding="utf-8")
    assert f"\n| {label} | {len(files)} | {means} |" in readme


def test_gaps_in_the_text_of_pages_are_between_stored_rows():
    """Whichever rows, lengths and score: what an older table had is found, but not that other rows are meant."""
    table, root = re.compile(r"<!-- results:(\S+) -->.*?<!-- /results:\1 -->", re.DOTALL), outcomes.STORED.parents[2]
    pages = [root / "RESULTS.md", root / "README.md", *root.glob("docs/*.md"), *root.glob("docs/papers/*.md")]
    texts = [path.read_text(encoding="utf-8") for path in pages]
    shown = {gap for text in texts for block in table.finditer(text) for gap in _gaps(block[0])}
    asked = {gap for text in texts for gap in _gaps(table.sub("", text))} - shown - {*map(_reversed, shown)}
    assert len(asked) > 20
    means = {abs(mean) for mean, _, _ in asked}
    assert asked - {gap for name in LAYOUTS for gap in _stored_gaps(name, means)} == set()


def _gaps(text):
    found = re.findall(r"([+-]?\d+\.\d) \[(-?\d+\.\d), (-?\d+\.\d)\]", text)
    return {tuple(map(float, gap)) for gap in found}


def _reversed(gap):
    mean, low, high = gap
    return -mean, -high, -low


def _stored_gaps(name, means):
    """Those of any two rows of a suite, in both directions; intervals take long, so of some means alone."""
    rows, layout = rows_of(load(outcomes.STORED / name)), LAYOUTS[name]
    lengths = [*((length,) for length in layout.lengths), layout.long, layout.lengths[-2:]]

    @cache
    def mean(row, seeds, lengths, score):
        kept = tuple(item for item in rows[row].outcomes if item.seed in seeds)
        return fmean(getattr(Row(row, kept), score)(lengths).values())

    for pair, each, score in product(combinations(rows, 2), lengths, ("scores", "f1")):
        found = [rows[row].outcomes for row in pair]
        if all(length in getattr(item, score) for items in found for item in items for length in each):
            seeds = [frozenset(item.seed for item in items) for items in found]
            gap = [mean(row, (seeds[0] & seeds[1]) or own, each, score) for row, own in zip(pair, seeds, strict=True)]
            if round(100 * abs(gap[0] - gap[1]), 1) in means:
                one, other = (rows[row] for row in pair)
                shared = SUITES[name].questions_share_contexts
                (gap,) = _gaps(points(difference(one, other, each, shared=shared, score=getattr(Row, score))))
                yield from (gap, _reversed(gap))


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
    made = ["convert", "questions", "first-stage-seed1", "first", "build", "pairs"]
    assert keys == [*made, "training-orpo-long-1024-seed2", "orpo-long-1024-seed2"]


def test_a_seed_has_a_first_stage_and_pairs_of_its_own(tmp_path):
    cells = SUITES["smollm2-shared"].cells(settings(tmp_path), ["orpo-long-1024-seed2"])
    own = [f"{name}-seed2" for name in ("first-stage", "first", "build", "pairs", "training-orpo-long-1024")]
    assert [cell.key for cell in cells] == ["convert", "questions", *own, "orpo-long-1024-seed2"]
    said = {cell.key: " ".join(cell.words) for cell in cells}
    assert all("seed1" not in text for text in said.values())
    assert f"{tmp_path}/smollm2-shared/pairs-seed2/pairs-1024.jsonl" in said["training-orpo-long-1024-seed2"]
    assert f"{tmp_path}/smollm2-shared/first-seed2/model" in said["training-orpo-long-1024-seed2"]


def test_result_is_another_when_its_training_is(tmp_path):
    def identities(rate):
        trained = Cell("training", ("fit", rate), scored=False)
        return Suite("x", lambda _: [trained, Cell("row", ("evaluate",), trained="training")]).identities(
            settings(tmp_path)
        )

    one, two = identities("1"), identities("2")
    assert one["row"] != two["row"]
    assert one["row"] == identities("1")["row"]


_TELLING = (
    "build",
    "base",
    "training-logo-1024-seed1",
    "logo-1024-seed1",
    "logo-mixed-2-rejected-seed1",
)


@pytest.mark.parametrize("patterns", [_TELLING, pytest.param((), marks=pytest.mark.slow)], ids=["some", "all"])
def test_commands_are_accepted(patterns, tmp_path):
    """By the parsers of `fit`, `build` and `evaluate`, without a run."""
    from lit_longpo.planning.command import PlanCLI

    register_classes()
    parsers = {"build": build_parser(), "evaluate": evaluate_parser(), "perplexity": perplexity_parser()}
    for suite in SUITES.values():
        for cell in suite.cells(settings(tmp_path, seeds=(1,)), patterns):
            asked = not patterns or cell.key in patterns
            if not asked or cell.program != "lit_longpo" or "{steps" in " ".join(cell.words):
                continue
            command, *words = filled(cell, tmp_path, tmp_path)
            words = ["--policy.source" if word == "--model" else word for word in words]  # as the command reads it
            if command not in parsers:
                parsers[command] = PlanCLI(args=words).parser
            else:
                assert parsers[command].parse_args(words) is not None, cell.key


@pytest.mark.parametrize("name", ["smollm2", "smollm2-twohop", "smollm2-shared"])
def test_models_answer_and_are_asked_in_the_template_that_they_are_trained_in(name, tmp_path):
    """As the command line reads it: it keeps quotes and a backslash and an n, so a template is a word as it is."""
    trained = yaml.safe_load((Path(outcomes.__file__).parent / "suites/smollm2.yaml").read_text())["policy"]["template"]
    register_classes()
    parsers = {"build": build_parser(), "evaluate": evaluate_parser()}
    cells = SUITES[name].cells(settings(tmp_path, seeds=(1,)))
    one_of_each = {cell.words[0]: cell for cell in cells if cell.program == "lit_longpo"}
    for command, parser in parsers.items():
        words = filled(one_of_each[command], tmp_path, tmp_path)[1:]
        assert parser.parse_args(words).policy.template.user == trained["user"]
    assert "\n\n" in trained["user"]


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
    monkeypatch.setattr("results.running.processes", lambda start: type("Context", (), {"Process": _Process}))

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


@pytest.mark.parametrize(("program", "kept"), [("evaluate", True), ("fit", False)])
def test_answers_of_a_killed_evaluation_stay(program, kept, tmp_path, monkeypatch):
    """Where the command is the same; the model's own hash is looked at by `evaluate`."""
    monkeypatch.setattr("results.running.work", lambda *arguments: 1)
    context = type("Context", (), {"Process": _Process})

    def start(word):
        suite = Suite("one", lambda _: [Cell("row", (program, word))])
        runner = Runner({"one": (suite, settings(tmp_path))}, stored=tmp_path / "stored")
        [job] = runner._jobs()
        runner._started(job, context)
        return job.run / "answers.jsonl"

    start("a").write_text("half")
    assert start("a").exists() == kept
    assert not start("b").exists()


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


@pytest.mark.parametrize(("evaluations", "expected"), [(1, ["e1", "t1", "t2"]), (2, ["e1", "e2", "t1"])])
def test_so_many_evaluations_at_a_time(evaluations, expected, tmp_path, monkeypatch):
    """Trainings fill what evaluations may not."""
    cells = [*(Cell(f"e{n}", ("evaluate",)) for n in (1, 2)), *(Cell(f"t{n}", ("build",)) for n in (1, 2))]
    suite = Suite("four", lambda _: cells)
    runner = Runner({"four": (suite, settings(tmp_path))}, jobs=3, evaluations=evaluations, patterns=["*"])
    monkeypatch.setattr(Runner, "_started", lambda self, job, context: job.cell.key)
    running = {}
    runner._begin(runner._jobs(), running, None)
    assert sorted(running) == expected


# Travelling.


def left(folder, key, size, name="adapter_model.safetensors"):
    run = folder / "runs" / "smollm2" / key
    (run / "model").mkdir(parents=True)
    (run / "model" / name).write_bytes(random.Random(key).randbytes(size))
    return run


def pack_of(tmp_path, **limits):
    return Pack(tmp_path / "pack", **limits), [(tmp_path / "runs/smollm2", tmp_path / "stored/smollm2")]


def test_archives_keep_within_their_limits_the_most_needed_first(tmp_path, capsys):
    (tmp_path / "stored/smollm2").mkdir(parents=True)
    runs = [left(tmp_path, key, size) for key, size in [("a", 3000), ("b", 9000), ("c", 3000), ("d", 3000)]]
    pack, suites = pack_of(tmp_path, most_files=3, most_bytes=5000, all_bytes=9000)
    pack.write(suites, runs)
    there = {path.name for path in pack.folder.iterdir()}
    assert there == {"results.tar.gz", "smollm2-a.tar.gz", "smollm2-c.tar.gz"}
    assert sum(path.stat().st_size for path in pack.folder.iterdir()) <= 9000
    said = capsys.readouterr().out
    assert "no room for the adapters of b" in said
    assert "no room for the adapters of d" in said
    pack.write(suites, runs[2:])  # "a" has been asked: its place is free
    assert {path.name for path in pack.folder.iterdir()} == {"results.tar.gz", "smollm2-c.tar.gz", "smollm2-d.tar.gz"}


@pytest.mark.parametrize(("name", "first"), [("smollm2", "first"), ("smollm2-shared", "first-seed1")])
def test_run_goes_on_from_what_was_unpacked(tmp_path, name, first):
    """Training and pairs are there, the model that is made of them is not; results that lie there already stay."""
    suite, at = SUITES[name], settings(tmp_path / "runs", seeds=(1,))
    row, key = "orpo-long-1024-seed1", "training-orpo-long-1024-seed1"
    for cell in suite.cells(at, [row]):
        run = tmp_path / f"runs/{name}" / cell.key
        for made in cell.made:
            (run / made).parent.mkdir(parents=True, exist_ok=True)
            (run / made).write_text("made")
        run.mkdir(parents=True, exist_ok=True)
        if cell.key != row:
            (run / "done.json").write_text(json.dumps({"identity": suite.identities(at)[cell.key]}))
    outcome("base", 0, {}).save(tmp_path / f"stored/{name}")
    runner = Runner({name: (suite, at)}, stored=tmp_path / "stored", patterns=[row])
    runner.pack = Pack(tmp_path / "pack")
    runner._pack()

    elsewhere = tmp_path / "elsewhere"
    (elsewhere / f"stored/{name}").mkdir(parents=True)
    (elsewhere / f"stored/{name}/base.json").write_text("newer")
    unpack(tmp_path / "pack", elsewhere / "runs", elsewhere / "stored")
    assert (elsewhere / f"runs/{name}" / key / ADAPTERS).read_text() == "made"
    assert (elsewhere / f"stored/{name}/base.json").read_text() == "newer"
    there = Runner({name: (suite, settings(elsewhere / "runs", seeds=(1,)))}, stored=elsewhere / "stored")
    there.patterns = [row]
    assert [job.cell.key for job in there._jobs()] == ["convert", first, row]


def test_unpacking_nothing_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="--pack"):
        unpack(tmp_path, tmp_path / "a", tmp_path / "b")


def test_adapters_are_rounded_and_name_their_base_from_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "run/model"
    folder.mkdir(parents=True)
    save_file({"w": torch.tensor([1 / 3, -2.0])}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(tmp_path / "first/model")}))
    rounded(tmp_path / "run")
    found = load_file(folder / "adapter_model.safetensors")["w"]
    assert found.dtype is torch.bfloat16
    assert found.tolist() == [0.333984375, -2.0]  # of 8 significant bits
    settings_of = json.loads((folder / "adapter_config.json").read_text())
    assert settings_of["base_model_name_or_path"] == "first/model"


# Outcomes.


def test_result_of_an_evaluation_has_the_costs_of_its_training(tmp_path):
    report = {"predictions": [{"id": "8/p/q", "prediction": "a", "answers": ["a"], "score": 1.0}]}
    (tmp_path / "row").mkdir()
    (tmp_path / "row" / "qa-step0.json").write_text(json.dumps(report))
    (tmp_path / "training" / "log").mkdir(parents=True)
    (tmp_path / "training" / "log" / "costs.json").write_text('{"steps": 3}')
    (tmp_path / "training" / "log" / "metrics.csv").write_text("train/loss\n2.0\n")
    (tmp_path / "training" / "log" / "config.yaml").write_text("seed_everything: 1\n")
    (tmp_path / "pairs").mkdir()
    (tmp_path / "pairs" / "fingerprint.txt").write_text("abc\n")
    cell = Cell("row", ("evaluate",), trained="training")
    found = outcomes.collect(cell, tmp_path / "row", ["evaluate"], {})
    assert (found.costs, found.scores) == ({"steps": 3}, {"8": {"p": "1"}})
    assert found.facts == {"train/loss": [2.0, 2.0], "pairs": "abc"}
    outcomes.keep_configuration(cell, tmp_path / "row", tmp_path)
    assert (tmp_path / "row.yaml").read_text() == "seed_everything: 1\n"


def test_result_of_a_training_is_its_last_report(tmp_path):
    """By the number of its step: by name, step 500 comes after step 2,000."""
    (tmp_path / "log" / "benchmarks").mkdir(parents=True)
    (tmp_path / "log" / "costs.json").write_text("{}")
    for step, score in ((0, 0.0), (500, 0.0), (2000, 1.0)):
        report = {"predictions": [{"id": "8/p/q", "prediction": "a", "answers": ["a"], "score": score}]}
        (tmp_path / "log" / "benchmarks" / f"needle-step{step}.json").write_text(json.dumps(report))
    assert outcomes.collect(Cell("row", ("fit",)), tmp_path, ["fit"], {}).scores == {"8": {"p": "1"}}


def test_scores_keep_a_digit_for_each_question(tmp_path):
    rows = [
        {"id": "512/p1/b", "prediction": "a dog", "answers": ["dog"], "score": 1.0, "length": 9, "depth": 0.5},
        {"id": "512/p1/a", "prediction": "cat", "answers": ["dog"], "score": 0.0, "length": 9, "depth": 0.5},
        {"id": "needle/64-0.5-0", "prediction": "tea", "answers": ["tea"], "score": 1.0, "length": 64, "depth": 0.5},
    ]
    scores, means, f1 = scores_of(rows), means_of(rows), f1_of(rows)
    assert scores == {"512": {"p1": "01"}, "64": {"0.5": "1"}}
    assert means["64"] == {"f1": 100.0, "em": 100.0}
    assert means["512"]["em"] == 50.0  # SQuAD's rule leaves the article out
    assert f1 == {"512": {"p1": "0 100"}, "64": {"0.5": "100"}}
    kept = outcome("a", 1, scores, f1=f1)
    kept.save(tmp_path)
    assert load(tmp_path) == {"a-seed1": kept}
    assert json.loads((tmp_path / "a-seed1.json").read_text())["scores"] == scores


# Data.


def words(text):
    return len(text.split())


def paragraph(number, answer):
    passage = Passage(f"T{number}", f"It is {answer} here, and {'word ' * 8}ends.", supporting=True)
    return Evidence(f"p{number}", (passage,), (QARecord(f"q{number}", "What is it?", (answer,), (passage,)),))


PARAGRAPHS = [paragraph(number, answer) for number, answer in enumerate(["red", "blue", "green", "red", "black"])]


@pytest.mark.parametrize(("depth", "place"), [(0.0, 0), (0.5, 1), (1.0, 3)])
def test_long_context_has_the_passage_at_its_depth_and_no_answer_elsewhere(depth, place):
    passages, pool = PARAGRAPHS[0].passages, [item.passages[0] for item in PARAGRAPHS]
    text, [(start, end)] = among_others(passages, ("red",), pool, depth, 60, words, random.Random(0))
    parts = text.split("\n\n")
    assert text[start:end] == parts[min(place, len(parts) - 1)]
    assert "red" in text[start:end]
    assert not mentions(text[:start] + text[end:], ["red"])
    assert words(text) <= 60


@pytest.mark.parametrize(("depth", "places"), [(0.0, [0, 2]), (0.5, [0, 2]), (1.0, [1, 3])])
def test_paragraphs_of_a_two_hop_question_lie_apart(depth, places):
    """Two others are drawn: the fourth mentions the answer."""
    passages, pool = [PARAGRAPHS[n].passages[0] for n in (0, 1)], [item.passages[0] for item in PARAGRAPHS]
    text, spans = among_others(passages, ("red",), pool, depth, 70, words, random.Random(0))
    parts = text.split("\n\n")
    assert [text[start:end] for start, end in spans] == [parts[place] for place in places]
    assert {part.split(" is ")[1].split()[0] for part in (parts[place] for place in places)} == {"red", "blue"}
    assert len(parts) == 4


def test_two_hop_questions_have_all_their_paragraphs_and_are_not_about_yes_and_no(tmp_path):
    context = [["A", ["One."]], ["B", ["Two.", "Three."]], ["C", ["Four."]]]
    row = {"_id": "x", "question": "?", "answer": "Two", "context": context, "supporting_facts": [["A", 0], ["B", 1]]}
    path = tmp_path / "two.jsonl"
    path.write_text("".join(json.dumps(item) + "\n" for item in (row, row | {"_id": "y", "answer": "yes"})))
    [found] = evidence_of(path)
    assert (found.titles, found.text, len(found.questions)) == ({"A", "B"}, "A\nOne.\n\nB\nTwo. Three.", 1)


def test_questions_that_nothing_answers_are_left_out(tmp_path):
    said = {"answers": [{"text": "Two"}], "id": "a", "question": "How many?"}
    asked_in_vain = {"answers": [], "is_impossible": True, "id": "b", "question": "Which?"}
    elsewhere = {"answers": [{"text": "Nine"}], "id": "c", "question": "Who?"}
    article = {"title": "A", "paragraphs": [{"context": "Two are here.", "qas": [said, asked_in_vain, elsewhere]}]}
    (tmp_path / "set.json").write_text(json.dumps({"data": [article]}))
    [found] = evidence_of(tmp_path / "set.json")
    assert [question.id for question in found.questions] == ["a"]


def test_pairs_that_build_has_made_of_yes_and_no_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(passages, "_counter", lambda source: words)
    context = [["A", ["One."]], ["B", ["Two."]]]
    row = {"_id": "x", "question": "?", "answer": "Two", "context": context, "supporting_facts": [["B", 0]]}
    lines = "".join(json.dumps(item) + "\n" for item in (row | {"_id": "y", "answer": "yes"}, row))
    (tmp_path / "pairs.qa.jsonl").write_text(lines)
    built = [
        PreferencePair(name, "?", "s", "l", "x", ("no",), (answer,)) for name, answer in (("y", "yes"), ("x", "Two"))
    ]
    write_pairs(tmp_path / "pairs.jsonl", built)
    files = ["--built", str(tmp_path), "--train", str(tmp_path / "pairs.qa.jsonl"), "--tokenizer", "any"]
    passages.main(["pairs", *files, "--output", str(tmp_path / "out"), "--lengths", "90", "--batch", "1"])
    assert [pair.id for pair in read_pairs(tmp_path / "out/pairs-90.jsonl")] == ["x"]


def test_questions_are_asked_alone_and_at_every_length():
    records = list(asked(PARAGRAPHS, (90, 110), 1, words))
    assert [record["id"] for record in records[:2]] == [f"{ALONE}/p0/q0", f"{ALONE}/p1/q1"]
    assert len({record["id"] for record in records}) == 3 * len(PARAGRAPHS)
    assert {record["depth"] for record in records[len(PARAGRAPHS) : 2 * len(PARAGRAPHS)]} == {0.0, 0.25, 0.5, 0.75, 1.0}


def test_pairs_of_a_paragraph_share_their_context_in_groups():
    """What fills no group is left out; depths go round."""
    about = [
        replace(item, questions=tuple(replace(item.questions[0], id=f"{item.name}/{n}") for n in range(5)))
        for item in PARAGRAPHS
    ]
    built = [
        PreferencePair(f"p{number}/{n}", "What is it?", "", "", "x", ("wrong",), ("gold",))
        for n in range(5)
        for number in (3, 0, 4)
    ]
    kept = together(built[:-8], about, 2)  # three of the first paragraph, two of the others
    assert [pair.id for pair in kept] == [f"p{number}/{n}" for number in (3, 0, 4) for n in range(2)]
    assert len(together(built, about, 2)) == 12
    long = [*lengthened(kept, about, 130, words, sharing=2)]
    contexts = [{pair.long_context for pair in long[first : first + 2]} for first in (0, 2, 4)]
    assert [len(context) for context in contexts] == [1, 1, 1]
    assert len(set.union(*contexts)) == 3
    assert long[0].supporting[0][0] == 0
    assert long[2].supporting[0][0] > 0


class _Shared(PairDataModule):
    """Four questions about each of six paragraphs of 140 words, as the suite trains on them."""

    def pairs(self, split):
        if split != "train":
            return []
        texts = [" ".join(f"word{(n * n + number) % 70}" for n in range(140)) for number in range(6)]
        about = [
            Evidence(f"p{number}", (passage,), tuple(QARecord(f"p{number}/{n}", "?", ("x",), ()) for n in range(4)))
            for number, passage in enumerate(Passage(f"word{n}", text, supporting=True) for n, text in enumerate(texts))
        ]
        built = [
            PreferencePair(f"p{number}/{n}", f"word{n} word{n + 1}", "", "", "word3", ("word4",), ("word5",))
            for n in range(4)
            for number in range(6)
        ]
        return [*lengthened(together(built, about, 4), about, 400, words, sharing=4)]


def test_steps_are_the_same_for_every_objective():
    """A paragraph's questions each; in which order depends on how long an objective's rows are."""

    def steps(views):
        options = {"max_tokens": 65536, "max_examples": 4, "share_prompts": "together", "seed": 1}
        data = _Shared(prompt_format=FORMAT, views=views, **options)
        data.setup("fit")
        return sorted(tuple(sorted(set(row.policy.examples))) for row in data.train_dataloader())

    for views in (Views((SC,)), *VIEWS.values()):
        assert steps(views) == [tuple(f"p{number}/{n}" for n in range(4)) for number in range(6)]


def test_lengthened_pairs_keep_order_and_mistake_and_take_the_gold_answer():
    pairs = [PreferencePair(f"q{n}", "What is it?", "s", "l", "sampled", ("wrong",), ("gold",)) for n in (1, 0)]
    short, longer = ([*lengthened(pairs, PARAGRAPHS, length, words)] for length in (90, 110))
    assert [pair.id for pair in short] == [pair.id for pair in longer] == ["q1", "q0"]
    assert {(pair.chosen, pair.rejected) for pair in short} == {("gold", ("wrong",))}
    assert short[0].short_context == longer[0].short_context
    assert words(short[0].long_context) <= 90 - 64


def test_two_hop_questions_are_asked_about_their_paragraphs_and_about_all():
    def record(name, answer, supporting):
        passages = tuple(Passage(f"t{n}", f"text {n}", supporting=n in supporting) for n in range(4))
        return QARecord(name, f"{name}?", (answer,), passages)

    records = [record("a", "red", {1, 3}), record("b", "no", {0, 1}), record("c", "blue", {0, 1, 2})]
    kept = two_hop([*records, record("d", "green", {0, 2}), record("e", "grey", {0, 2})], 2)
    assert [item.id for item in kept] == ["a", "d"]
    rows = list(asked_of("hotpotqa", kept))
    assert [row["id"] for row in rows] == [
        f"hotpotqa{which}/q00{n}/{kept[n].id}" for which in (" alone", "") for n in (0, 1)
    ]
    assert rows[0]["context"] == "t1\ntext 1\n\nt3\ntext 3"
    assert rows[2]["context"].count("text") == 4
    assert (rows[2]["question"], rows[2]["answers"]) == ("a?", ["red"])


def test_book_is_without_what_its_distributor_has_added(tmp_path):
    own, after = "A story.\n***\nIts end.", "*** END OF THIS EBOOK ***\n*** LICENCE ***\n"
    around = f"Title: X\n*** START OF THIS EBOOK ***\n\n{own}\n\n{after}"
    (tmp_path / "distributed.txt").write_text(around, encoding="utf-8-sig")
    main(["--book", str(tmp_path / "distributed.txt"), "--output", str(tmp_path)])
    assert (tmp_path / "book.txt").read_text() == "A story.\n***\nIts end.\n"


def test_questions_of_a_benchmark_are_by_task():
    row = {"length": 6346, "depth": None, "score": 1.0, "prediction": "the YIVO", "answers": ["YIVO"]}
    rows = [{**row, "id": "hotpotqa/b"}, {**row, "id": "qasper/a", "score": 0.0, "prediction": "no"}]
    assert scores_of(rows) == {"hotpotqa": {"b": "1"}, "qasper": {"a": "0"}}
    assert means_of(rows) == {"hotpotqa": {"f1": 100.0, "em": 100.0}, "qasper": {"f1": 0.0, "em": 0.0}}


@pytest.mark.parametrize("name", ["smollm2-elsewhere", "smollm2-longbench", "smollm2-book"])
def test_models_are_asked_where_their_training_has_left_them(name, tmp_path):
    cells = SUITES[name].cells(settings(tmp_path, seeds=(4,)), ["orpo-long-*"])
    asked = [cell for cell in cells if cell.name.startswith("orpo-long")]
    assert asked
    trainings = {cell.key: cell for cell in SUITES["smollm2-shared"].make(settings(tmp_path, seeds=(4,)))}
    for cell in asked:
        source = Path(cell.words[cell.words.index("--policy.source") + 1])
        training = trainings[source.relative_to(tmp_path / "smollm2-shared").parts[0]]
        assert training.key == f"training-{cell.key}"
        assert (
            str(source.relative_to(tmp_path / "smollm2-shared" / training.key) / "adapter_config.json") in training.made
        )


def test_rows_without_trainings_are_compared_with_each_other_by_length(tmp_path):
    for name, digits in (("sft-short", "0011"), ("orpo-long-2048", "0111"), ("base", "0000")):
        sets = {length: {"q0": digits} for length in ("hotpotqa alone", "hotpotqa", "musique alone", "musique")}
        outcome(name, 1, sets).save(tmp_path)
    text = markdown(SUITES["smollm2-elsewhere"], tmp_path)
    assert "| points minus sft-short | hotpotqa alone | hotpotqa | musique alone | musique |" in text
    assert "| orpo-long-2048 | +25.0 " in text
