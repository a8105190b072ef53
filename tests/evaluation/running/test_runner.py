import datetime
import hashlib
import json
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from support import official_layout, reports
from support.byte_tokenizer import CHAT, byte_tokenizer
from support.official_data import official
from support.tiny_models import tiny_model
from tokenizers import processors

from evaluation import LongBench, LongBenchV2, LVEval
from evaluation.reports.reading import load_report
from evaluation.reports.report import TruncationCounts
from evaluation.running import answerers, runner
from evaluation.running.batching import Batching
from evaluation.running.responses import DamagedResponseError, Responses
from evaluation.running.results import make_report
from evaluation.running.runner import Runner
from evaluation.running.settings import RunSettings, default_max_length
from evaluation.running.store import Store, open_responses
from evaluation.running.task_scores import rescore
from lit_longpo.errors import UserError
from lit_longpo.policy import PromptFormat, PromptTemplate

MODEL = tiny_model("Llama", vocab_size=260, max_position_embeddings=4096).eval()
chat = PromptFormat(byte_tokenizer(chat_template=CHAT), PromptTemplate())
TASKS = {"hotpotqa": 5, "samsum": 3, "trec": 4}


@pytest.fixture(scope="module")
def longbench(tmp_path_factory):
    return LongBench(official_layout.longbench(tmp_path_factory.mktemp("longbench"), TASKS))


def run(benchmark, responses=None, model=MODEL, **settings):
    return Runner(benchmark, model, chat, RunSettings(**settings), responses or Responses()).run(step=7, name="tiny")


def undated(report):
    return replace(report, settings={**report.settings, "date": ""})


@pytest.fixture(scope="module")
def whole(longbench):
    return run(longbench)


def test_every_example_is_in_the_report_in_the_official_order(longbench, whole):
    ids = [example.id for task in longbench.tasks for example in longbench.examples(task)]
    assert [row.id for row in whole.predictions] == ids
    assert (whole.name, whole.step, whole.model, whole.protocol) == ("longbench", 7, "tiny", longbench.protocol)
    assert len({row.prediction for row in whole.predictions}) > 5
    for row in whole.predictions:
        assert row.task == row.id.split("/")[0]


def thinking():
    """The format of prompts that open thoughts."""
    return PromptFormat(
        byte_tokenizer(chat_template=CHAT.replace("[assistant]", "[assistant]<think>\n")), chat.template
    )


def test_a_prompt_that_opens_thoughts_is_known_with_its_answers(longbench, whole):
    """DeepSeek-R1's: an answer without `</think>` is nothing but thoughts."""
    responses = Responses()
    report = Runner(longbench, MODEL, thinking(), RunSettings(tasks=["hotpotqa", "trec"]), responses).run()
    by_task = {row.task: row.prediction for row in report.predictions}
    assert by_task["hotpotqa"] == ""
    assert by_task["trec"]  # is asked plainly
    assert any(
        text.startswith("still thinking when the tokens were over: hotpotqa 5 of 5") for text in report.deviations
    )
    assert not any("think" in text for text in whole.deviations)


def test_opened_thoughts_whose_marks_vanish_are_in_prompts_of_the_template_alone(longbench):
    """As Cohere's: every answer to a task that is asked plainly, or that begins answers, was thoughts: 0 points."""
    said = "{% if m['thinking'] is defined %}[why]{{ m['thinking'] }}[so]{% endif %}{{ m['content'] }}"
    template = CHAT.replace("{{ m['content'] }}", said).replace("[assistant]", "[assistant][why]")
    tokenizer = byte_tokenizer(chat_template=template)
    tokenizer.add_special_tokens({"extra_special_tokens": ["<end>", "[why]", "[so]"]})
    hidden, asked = PromptFormat(tokenizer, chat.template), RunSettings(tasks=["hotpotqa", "trec"])
    report = Runner(longbench, MODEL, hidden, asked, Responses()).run()
    by_task = {row.task: row.prediction for row in report.predictions}
    assert by_task["hotpotqa"] == ""
    assert by_task["trec"]
    begun = type("Begun", (LongBench,), {"begins_answers": True, "prompt": without_messages})(longbench.folder)
    report = Runner(begun, MODEL, hidden, replace(asked, tasks=["hotpotqa"]), Responses()).run()
    assert all(row.prediction for row in report.predictions)


def without_messages(benchmark, *given, **options):
    """A prompt that ends in first words of the answer."""
    return replace(LongBench.prompt(benchmark, *given, **options), messages=())


class Apart(answerers.LocalModel):
    """Keeps thoughts to itself, as chat servers with a parser for them do."""

    gives_thoughts = False


def test_thoughts_that_are_kept_apart_are_missed_by_nobody(longbench):
    report = Runner(longbench, Apart(MODEL), thinking(), RunSettings(tasks=["hotpotqa"]), Responses()).run()
    assert all(row.prediction for row in report.predictions)
    assert not any("think" in text for text in report.deviations)


def test_answers_that_begin_in_opened_thoughts_are_said(longbench):
    """RULER's answer prefix (RULER#99, lm-evaluation-harness#3403)."""
    begun = type("Begun", (LongBench,), {"begins_answers": True, "prompt": without_messages})(longbench.folder)
    report = Runner(begun, MODEL, thinking(), RunSettings(tasks=["hotpotqa"]), Responses()).run()
    assert any(text.startswith("the first words of answers stand in the thoughts") for text in report.deviations)
    assert any(row.prediction for row in report.predictions)


def test_tables_are_the_official_numbers(longbench, whole):
    for task in longbench.tasks:
        texts = [row.prediction for row in whole.predictions if row.task == task]
        assert whole.tables[task] == reports.table_of(longbench, list(longbench.examples(task)), texts)


def test_an_answer_is_the_models_own(longbench, whole):
    """Tasks of different limits and chat rules: against one prompt alone through `generate`."""
    for task in longbench.tasks:
        example = list(longbench.examples(task))[2]
        prompt = longbench.prompt(example, chat, whole.settings["max_length"])
        [ids] = next(answerers.answer(MODEL, [prompt], Batching())).values()
        [row] = [row for row in whole.predictions if row.id == example.id]
        assert row.prediction == chat.tokenizer.decode(ids, skip_special_tokens=True)
        assert (row.num_tokens, row.num_lost) == (prompt.num_tokens, 0)


def test_the_default_length_leaves_room_and_is_stated(longbench, whole):
    assert whole.settings["window"] == 4096
    assert whole.settings["max_length"] == 3500
    prompt = longbench.prompt(next(longbench.examples("hotpotqa")), chat, 4000)
    template = len(prompt.ids) - prompt.num_tokens
    assert template > 5
    assert default_max_length(longbench, ("hotpotqa",), chat, 512) == 512 - 6 - template - 64
    with pytest.raises(ValueError, match="set `max_length`"):
        default_max_length(longbench, ("hotpotqa",), chat, None)
    with pytest.raises(ValueError, match="lower the benchmark's `max_new_tokens`, if it has them, or leave"):
        default_max_length(longbench, ("hotpotqa",), chat, 60)


def test_what_truncation_did_is_reported(longbench, caplog):
    with caplog.at_level("WARNING"):
        report = run(longbench, tasks=["hotpotqa"], max_length=80)
    lost = [row.num_lost for row in report.predictions]
    assert 0 in lost
    tokens = sum(row.num_tokens for row in report.predictions)
    assert report.truncation() == {"hotpotqa": TruncationCounts(5, sum(map(bool, lost)), tokens, sum(lost))}
    assert sum(lost) > 100
    # It said "`max_length` is that of the benchmark" of what was typed, too.
    [said] = [message for message in caplog.messages if "cut in the middle to 80 tokens (`max_length`), the" in message]
    assert f"{sum(map(bool, lost))} of 5 prompts, {sum(lost) / tokens:.1%} of all prompts' tokens" in said


def test_a_limit_is_a_subset_and_a_larger_one_adds_to_it(longbench, whole):
    one, two = (run(longbench, limit=limit, seed=3) for limit in (1, 2))
    ids = [{row.id for row in report.predictions} for report in (one, two)]
    assert len(ids[0]) == 3
    assert ids[0] < ids[1]
    assert ids[0] != {row.id for row in run(longbench, limit=1, seed=5).predictions}
    assert "a subset of the examples: hotpotqa 1 of 5, trec 1 of 4, samsum 1 of 3" in one.deviations
    assert all(row in whole.predictions for row in one.predictions)


def test_unknown_tasks_and_impossible_settings_are_refused(longbench):
    with pytest.raises(ValueError, match=r"that have data: hotpotqa, trec, samsum; got qasper; correct `tasks`"):
        run(longbench, tasks=["qasper"])
    with pytest.raises(ValueError, match="`limit` from 1 to"):
        RunSettings(limit=0)
    with pytest.raises(ValueError, match="`max_minutes` above 0"):
        RunSettings(max_minutes=0)


class Killed(Exception):
    """What a test throws to end a run."""


class Counting(Responses):
    """Ends the run after some rounds, and counts what was generated."""

    def __init__(self, folder, rounds):
        super().__init__(folder)
        self.rounds, self.added = rounds, []

    def add(self, task, rows):
        if self.rounds == 0:
            raise Killed
        self.rounds -= 1
        super().add(task, rows)
        self.added += [row.id for row in rows]


@pytest.mark.parametrize("rounds", [0, 1, 4, 9])
def test_a_killed_run_goes_on_and_asks_nothing_twice(longbench, whole, tmp_path, rounds):
    small = {"batching": Batching(200, 32, 0)}
    killed = Counting(tmp_path, rounds)
    with pytest.raises(Killed):
        run(longbench, killed, **small)
    for path in tmp_path.glob("*.jsonl"):
        with path.open("a") as file:
            file.write('{"id": "hotpotqa/r0", "call": 0, "respo')  # killed while writing
    again = Counting(tmp_path, -1)
    report = run(longbench, again, **small)
    assert undated(report) == undated(whole)
    assert sorted(killed.added + again.added) == sorted(row.id for row in whole.predictions)
    assert run(longbench, Counting(tmp_path, 0), **small) == report


def test_stored_responses_are_scored_again_without_a_model(longbench, whole, tmp_path):
    run(longbench, Responses(tmp_path))
    scores = rescore(longbench, Responses(tmp_path), RunSettings())
    again = make_report(longbench, scores, step=7, model="tiny", settings=Responses(tmp_path).made_by())
    assert undated(again) == undated(whole)
    path = tmp_path / "trec.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps({**row, "response": "Greta", "crc": None}) + "\n" for row in rows))
    assert rescore(longbench, Responses(tmp_path), RunSettings())["trec"].table == {"score": 100.0}


def test_the_report_says_what_happened_in_which_task(longbench, whole):
    """By hand, from the tokenizer's files and the libraries; trec and samsum are asked plainly, as is official."""
    digest = hashlib.sha256(CHAT.encode()).hexdigest()[:16]
    assert whole.settings["chat template"] == f"sha256 {digest}"
    assert whole.settings["in the chat template"] == "no prompt of trec samsum"
    assert run(longbench, tasks=["hotpotqa"]).settings["in the chat template"] == "every prompt"
    assert whole.settings["versions"].startswith(f"torch {torch.__version__}, transformers {transformers.__version__}")
    assert (whole.settings["dtype"], whole.settings["end tokens"]) == ("float32", "1 <eos>, 2 <end>")
    root = Path(__file__).parents[3]
    if (root / ".git").exists():
        head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=root, check=True)
        assert whole.settings["commit"].partition(",")[0] == head.stdout[:12]
    said = datetime.datetime.strptime(whole.settings["date"], "%Y-%m-%d %H:%M UTC").replace(tzinfo=datetime.UTC)
    assert abs(datetime.datetime.now(datetime.UTC) - said) < datetime.timedelta(minutes=10)


@pytest.mark.parametrize(
    ("template", "chat_template", "said"),
    [
        (PromptTemplate(chat=False), CHAT, "not used, though the tokenizer has one"),
        (PromptTemplate(), None, "none: the tokenizer has none"),
    ],
)
def test_a_model_that_is_asked_plainly_is_said_to_be(longbench, template, chat_template, said):
    form = PromptFormat(byte_tokenizer(chat_template=chat_template), template)
    report = Runner(longbench, MODEL, form, RunSettings(limit=1, tasks=["hotpotqa"]), Responses()).run()
    assert report.settings["chat template"] == said
    assert "in the chat template" not in report.settings


def test_answers_of_several_runs_say_so(longbench, tmp_path, monkeypatch):
    run(longbench, Responses(tmp_path), tasks=["trec"])
    monkeypatch.setattr("evaluation.running.facts.transformers.__version__", "9.9")
    settings = run(longbench, Responses(tmp_path)).settings
    assert "transformers 9.9" in settings["versions"]
    assert settings["earlier runs"].startswith("versions: torch")
    assert "9.9" not in settings["earlier runs"]
    again = run(longbench, Responses(tmp_path)).settings  # which answers nothing
    assert again == settings


def test_a_changed_record_is_not_scored_with_an_old_answer(longbench, tmp_path):
    run(longbench, Responses(tmp_path), tasks=["trec"])
    other = official_layout.longbench(tmp_path / "other", {"trec": 2})
    path = other / "data" / "trec.jsonl"
    path.write_text(path.read_text().replace("Who came", "Who left"))
    with pytest.raises(ValueError, match=r"record trec/r0 as it is now.*delete .*trec\.jsonl"):
        run(LongBench(other), Responses(tmp_path), tasks=["trec"])


def test_a_damaged_line_is_named(longbench, tmp_path):
    run(longbench, Responses(tmp_path), tasks=["trec"])
    path = tmp_path / "trec.jsonl"
    path.write_text("nonsense\n" + path.read_text())
    with pytest.raises(DamagedResponseError, match=r"trec\.jsonl:1: .*; delete the line to ask again"):
        run(longbench, Responses(tmp_path), tasks=["trec"])


def test_a_folder_belongs_to_one_model_and_one_run(tmp_path):
    with open_responses(tmp_path, {"model": "a"}, {"source": "x"}) as responses:
        responses.add("t", [])
        with pytest.raises(BlockingIOError, match="no other evaluation"), open_responses(tmp_path, {}, {}):
            pass
    with pytest.raises(ValueError, match="another model"), open_responses(tmp_path, {"model": "b"}, {"source": "x"}):
        pass
    with open_responses(tmp_path, {"model": "a"}, {"source": "moved"}):
        pass


def test_answers_to_other_tokens_are_not_taken(longbench, tmp_path):
    """A tokenizer that was mended in its folder."""
    mended = byte_tokenizer(chat_template=CHAT)
    mended.backend_tokenizer.post_processor = processors.ByteLevel()  # no beginning of the text
    stores = [
        Store(longbench, MODEL, PromptFormat(tokenizer, PromptTemplate()), RunSettings(max_length=500))
        for tokenizer in (byte_tokenizer(chat_template=CHAT), mended)
    ]
    with stores[0].open(tmp_path / "new", {"name": "x"}):
        pass
    with pytest.raises(UserError, match="with another tokenizer"), stores[1].open(tmp_path / "new", {"name": "x"}):
        pass


def test_the_time_box_stops_between_batches(longbench, monkeypatch):
    clock = iter(range(10**6))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    report = run(longbench, max_minutes=24 / 60, batching=Batching(1, None, 0))
    assert 3 <= len(report.predictions) < 12
    assert {row.task for row in report.predictions} == {"hotpotqa", "samsum", "trec"}
    assert any("not all of them answered" in line and "hotpotqa" in line for line in report.deviations)


class Clock:
    """Seconds that pass only where a test says so."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)

    def spend_on_prompts(self, monkeypatch, benchmark, seconds):
        """Building a prompt takes so long; returns the ids of those that are built."""
        built, real = [], benchmark.prompt

        def prompt(example, *args, **options):
            built.append(example.id)
            self.now += seconds
            return real(example, *args, **options)

        monkeypatch.setattr(benchmark, "prompt", prompt)
        return built

    def spend_on_answers(self, monkeypatch, seconds):
        """A round of answers takes what `seconds` says of its first prompt; returns how many were asked at once."""
        asked, real = [], answerers.answer

        def answer(model, prompts, *args, **options):
            asked.append(len(prompts))
            for found in real(model, prompts, *args, **options):
                self.now += seconds(prompts[min(found)])
                yield found

        monkeypatch.setattr(answerers, "answer", answer)
        return asked


def test_the_time_box_covers_the_building_of_prompts(longbench, monkeypatch):
    monkeypatch.setattr(runner, "check_prompts", lambda *_: None)  # which builds those of the longest examples
    clock = Clock(monkeypatch)
    built = clock.spend_on_prompts(monkeypatch, longbench, seconds=60)
    report = run(longbench, max_minutes=3, max_length=3000, batching=Batching(1, None, 0))
    assert {name.partition("/")[0] for name in built} == {"hotpotqa"}
    assert len(built) == 4
    assert len(report.predictions) == 1


def test_only_a_time_box_splits_a_task(longbench, monkeypatch):
    clock = Clock(monkeypatch)
    asked = clock.spend_on_answers(monkeypatch, lambda prompt: 1.0)
    small = {"batching": Batching(1, None, 0)}
    whole = run(longbench, **small)
    assert asked == [5, 4, 3]
    boxed = run(longbench, max_minutes=60, **small)
    assert asked[3:] == [4, 1, 4, 3]
    assert boxed.predictions == whole.predictions


def test_a_time_box_leaves_a_random_subset_of_the_seed(tmp_path, monkeypatch):
    bench = LongBench(official_layout.longbench(tmp_path, {"hotpotqa": 10}))
    Clock(monkeypatch).spend_on_answers(monkeypatch, lambda prompt: 60.0)

    def answered(seed):
        return {row.id for row in run(bench, max_minutes=4, seed=seed, batching=Batching(1, None, 0)).predictions}

    one, other = answered(1), answered(2)
    assert len(one) == len(other) == 4
    assert one == answered(1)
    assert one != other
    assert one != {f"hotpotqa/r{number}" for number in range(4)}


@pytest.fixture
def reasoned(tmp_path, monkeypatch):
    monkeypatch.setattr("evaluation.benchmarks.longbench_v2._REASONING_TOKENS", 12)
    monkeypatch.setattr("evaluation.benchmarks.longbench_v2._ANSWER_TOKENS", 6)
    return LongBenchV2(official_layout.longbench_v2(tmp_path, 8), mode="chain_of_thought")


def test_a_time_box_leaves_time_for_the_second_call(reasoned, monkeypatch):
    Clock(monkeypatch).spend_on_answers(monkeypatch, lambda prompt: 60.0)
    report = run(reasoned, max_minutes=6, max_length=400, batching=Batching(1, None, 0))
    assert len(report.predictions) == 3


def test_time_that_the_second_call_leaves_is_used(reasoned, monkeypatch):
    cost = {12: 60.0, 6: 0.0}
    Clock(monkeypatch).spend_on_answers(monkeypatch, lambda prompt: cost[prompt.max_new_tokens])
    report = run(reasoned, max_minutes=6, max_length=400, batching=Batching(1, None, 0))
    assert len(report.predictions) == 5


def test_the_second_prompt_holds_the_reasoning(tmp_path, monkeypatch):
    monkeypatch.setattr("evaluation.benchmarks.longbench_v2._REASONING_TOKENS", 12)
    monkeypatch.setattr("evaluation.benchmarks.longbench_v2._ANSWER_TOKENS", 6)
    bench = LongBenchV2(official_layout.longbench_v2(tmp_path, 4), mode="chain_of_thought")
    examples = list(bench.examples())
    responses = Responses(tmp_path / "out")
    (tmp_path / "out").mkdir()
    report = run(bench, responses, max_length=400)
    stored = {(row.id, row.call): row for row in responses.of_task("longbench_v2")}
    assert len(stored) == 8
    for example, row in zip(examples, report.predictions, strict=True):
        reasoning = stored[example.id, 0].response
        prompt = bench.prompt(example, chat, 400, earlier=[reasoning])
        [ids] = next(answerers.answer(MODEL, [prompt], Batching())).values()
        assert row.prediction == chat.tokenizer.decode(ids, skip_special_tokens=True)
        first = bench.prompt(example, chat, 400)
        assert (row.num_tokens, row.num_lost) == (first.num_tokens, first.num_lost)
        assert chat.tokenizer.decode(prompt.ids) != chat.tokenizer.decode(first.ids)
    assert report.settings["mode"] == "chain_of_thought"


class Scripted(answerers.LocalModel):
    """Says of every prompt what was written down, and remembers what it was asked."""

    def __init__(self, model, said):
        super().__init__(model)
        self.said, self.asked = said, []

    def answers(self, prompts, prompt_format, batching, **options):
        self.asked.append([prompt.messages[0][1] for prompt in prompts])
        texts = self.said[len(self.asked) - 1]
        yield {number: answerers.GivenAnswer(text, at_limit=False) for number, text in enumerate(texts)}


def test_the_second_call_reads_what_was_said_behind_the_thoughts(tmp_path):
    """Its 1,024 tokens are the answer's by the authors, whose server keeps thoughts apart (LongBench#113)."""
    bench = LongBenchV2(official_layout.longbench_v2(tmp_path, 4), mode="chain_of_thought")
    keys = [example.answers[0] for example in bench.examples()]
    first = ["<think>Hm, B?</think>\nSo A.", "<think>The correct answer is (A). The correct answer is (B)", "C", ""]
    model = Scripted(MODEL, [first, [f"<think>D</think>The correct answer is ({keys[0]})", "<think>hm"]])
    report = Runner(bench, model, chat, RunSettings(max_length=4000), Responses()).run()
    known = zip(bench.examples(), ("So A.", "", "C"), strict=False)
    second = [bench.prompt(example, chat, 4000, earlier=[said]) for example, said in known]
    assert model.asked[1] == [second[0].messages[0][1], second[2].messages[0][1]]
    assert [row.score for row in report.predictions] == [1.0, 0.0, 0.0, 0.0]
    assert [bench.counts(row) for row in report.predictions] == [True, True, True, False]
    assert "scored: longbench_v2 3 of 4" in " ".join(report.deviations)
    assert "tokens were over: longbench_v2 2 of 3" in " ".join(report.deviations)


def test_an_empty_response_ends_an_example(longbench, tmp_path):
    bench = LongBenchV2(official_layout.longbench_v2(tmp_path, 2), mode="chain_of_thought")
    silent = tiny_model("Llama", vocab_size=260, max_position_embeddings=4096).eval()
    silent.lm_head.weight.data.zero_()  # the first token wins, which is made the end of an answer
    form = PromptFormat(byte_tokenizer(chat_template=CHAT), PromptTemplate())
    form.end_id = 0
    report = Runner(bench, silent, form, RunSettings(max_length=400), Responses()).run()
    assert [row.prediction for row in report.predictions] == ["", ""]


def test_questions_about_one_context_share_it(tmp_path):
    bench = LVEval(official_layout.lveval(tmp_path, 3))
    shared, apart = (run(bench, batching=Batching(min_shared=size)) for size in (64, 0))
    assert shared == apart
    assert set(shared.tables) == set(bench.tasks)


@pytest.mark.parametrize("name", ["longbench", "longbench_v2"])
def test_official_records_run(name, tmp_path):
    bench = {"longbench": LongBench, "longbench_v2": LongBenchV2}[name](official(name))
    tasks = [task for task in bench.tasks if task in ("trec", "samsum", "lcc", "longbench_v2")]
    report = run(bench, tasks=tasks, limit=1, max_length=300)
    assert len(report.predictions) == len(tasks)
    assert all(item.num_lost > 1000 for item in report.predictions)
    report.save(tmp_path / "report.json")
    assert load_report(tmp_path / "report.json").tables.keys() == set(tasks)
