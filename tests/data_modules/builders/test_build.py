"""Nothing is lost, nothing is doubled: every record ends somewhere, and a killed build goes on."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from support.builders import FirstWords, Scripted, text_tokens, world_build
from support.byte_tokenizer import CHAT, byte_model

from data_modules.builders.generators.requests import Decoding, RequestTemplate
from data_modules.builders.journal import ANSWERS
from data_modules.builders.recipes.judges import Judge, TokenF1
from data_modules.builders.recipes.solopo import SoLoPORecipe
from data_modules.builders.sources.documents import DocumentFiles
from data_modules.builders.sources.qa_files import QAFiles
from data_modules.builders.sources.worlds import WorldDocuments
from data_modules.records import read_pairs
from lit_longpo.errors import LostRecordsError
from lit_longpo.policy import PolicyConfig

ROOT = Path(__file__).resolve().parents[3]


def test_counts_add_up_and_files_are_there(tmp_path):
    report = world_build(tmp_path).run()
    assert report.records == 11 == report.statuses.total()
    pairs = read_pairs(tmp_path / "pairs.jsonl")
    outcomes = [json.loads(line) for line in (tmp_path / "outcomes.jsonl").read_text().splitlines()]
    assert len(outcomes) == 11
    assert [row["id"] for row in outcomes if row["status"] == "pair"] == [pair.id for pair in pairs]
    assert all(row["reason"] for row in outcomes if row["status"] != "pair")
    assert all(pair.verified is True for pair in pairs)
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["statuses"] == dict(report.statuses)
    assert written["flip_rate"]["GoldAnswer"]["rate"] == 0.0
    markdown = (tmp_path / "report.md").read_text()
    for title in ("Is chosen better", "Tokens: long context", "supporting text lies", "Short context by long"):
        assert title in markdown


def test_a_record_that_no_count_knows_is_an_error_and_the_sum_is_said(tmp_path, caplog):
    caplog.set_level("INFO", "data_modules")
    report = world_build(tmp_path / "whole").run()
    sums = rf"records: 11 read = {report.statuses['pair']} pair \+ {report.statuses['filtered']} filtered.* \+ 0 failed"
    assert re.search(sums, caplog.text)
    build = world_build(tmp_path / "lost")
    build.num_records = lambda: 12
    with pytest.raises(LostRecordsError, match="records are lost or doubled: 12 read, 11 counted, 11 ended"):
        build.run()
    assert not build.finished


class Wordy(Scripted):
    """The gold answer, alone or in a sentence."""

    def answer(self, batches):
        for reply in super().answer(batches):
            is_wordy = int(reply.request.rpartition("/")[2]) % 2
            yield replace(reply, text="It is word0 as all who know it say." if is_wordy else "word0")


def test_right_answers_that_are_rejected_are_told_at_the_end(tmp_path, caplog):
    """Another judge than the paper's takes them for wrong (`recipe.judge: TokenF1`)."""
    rows = [{"question": f"{n}?", "context": f"word0 and {n} are here.", "answers": ["word0"]} for n in ("one", "two")]
    (tmp_path / "qa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = SoLoPORecipe(RequestTemplate("{question}"), Decoding(1.0), 4, TokenF1(), short_tokens=40, long_tokens=100)
    options = {"source": QAFiles((str(tmp_path / "qa.jsonl"),)), "recipe": recipe, "generator": Wordy()}
    report = world_build(tmp_path / "out", **options, verifiers=()).run()
    assert report.statuses["pair"] == 2
    assert "2 rejected answers that hold a gold answer: the judge scores them lower" in caplog.text
    assert "rejected answers that hold a gold answer" in (tmp_path / "out" / "report.md").read_text()


class Unfinished(Scripted):
    """Never comes to an end."""

    def answer(self, batches):
        for completion in super().answer(batches):
            yield replace(completion, finished=False)


def test_chosen_answers_that_were_cut_off_are_said(tmp_path, caplog):
    world_build(tmp_path / "whole").run()
    assert "cut off" not in caplog.text
    report = world_build(tmp_path / "cut", generator=Unfinished()).run()
    said = rf"{report.statuses['pair']} chosen answers cut off at max_new_tokens: `fit` .*; raise max_new_tokens"
    assert re.search(said, caplog.text)


class Thinking(Scripted):
    """Says what comes first to mind, and no more."""

    gives_thoughts = True


@pytest.mark.parametrize(("generator", "pairs"), [(Scripted, True), (Thinking, False)])
def test_a_prompt_that_opens_thoughts_is_known_to_the_judges(generator, pairs, tmp_path):
    """DeepSeek-R1's: an answer without `</think>` is nothing but thoughts; servers may keep these to themselves."""
    byte_model(tmp_path, chat_template=CHAT.replace("[assistant]", "[assistant]<think>\n"))
    lengths = {"short_tokens": 1500, "long_tokens": 3000}
    recipe = SoLoPORecipe(RequestTemplate("{question}"), Decoding(1.0), 4, FirstWords(), **lengths)
    build = world_build(tmp_path / "out", recipe=recipe, generator=generator(), verifiers=())
    report = replace(build, policy=PolicyConfig(str(tmp_path))).run()
    assert bool(report.statuses["pair"]) == pairs
    assert pairs or any("no sample is right" in reason for reason in report.reasons)


class Knowing(Scripted):
    """Finds every third pair hard."""

    pairs = 0

    def margin(self, pair):
        self.pairs += 1
        return 0.75 if self.pairs % 3 else -0.25


def test_difficulty_is_in_the_report_where_the_policy_can_tell(tmp_path, caplog):
    with caplog.at_level("INFO", logger="data_modules"):
        report = world_build(tmp_path, generator=Knowing()).run()
    count = report.statuses["pair"]
    written = json.loads((tmp_path / "report.json").read_text())["difficulty"]
    assert written["pairs"] == count > 3
    assert written["ranked_right"] == (count - count // 3) / count
    assert written["margins"] == {"-0.5 .. 0": count // 3, "0 .. 0.5": 0, "0.5 .. 1": count - count // 3}
    assert "How hard are the pairs?" in (tmp_path / "report.md").read_text()
    rows = [json.loads(line) for line in (tmp_path / "outcomes.jsonl").read_text().splitlines()]
    assert [row.get("margin") for row in rows if row["status"] == "pair"][:3] == [0.75, 0.75, -0.25]
    assert "already ranks" in caplog.text
    assert world_build(tmp_path / "served").run().difficulty is None


def test_pairs_that_are_too_easy_for_the_policy_are_left_out_and_counted(tmp_path):
    every = world_build(tmp_path / "every", generator=Knowing()).run().statuses["pair"]
    report = world_build(tmp_path / "hard", generator=Knowing(), max_margin=0.5).run()
    assert report.statuses["pair"] == every // 3 == len(read_pairs(tmp_path / "hard" / "pairs.jsonl"))
    assert report.reasons["the policy is surer of chosen than max_margin"] == every - every // 3
    assert set(report.margins) == {-0.25}
    assert report.statuses.total() == report.records
    with pytest.raises(ValueError, match=r"`max_margin: 0.5`, got Scripted; type --generator TransformersGenerator"):
        world_build(tmp_path / "served", max_margin=0.5)


def test_the_same_seed_gives_the_same_file_and_another_seed_does_not(tmp_path):
    files = [tmp_path / name / "pairs.jsonl" for name in "abc"]
    for file, seed in zip(files, (0, 0, 1), strict=True):
        world_build(file.parent, seed=seed).run()
    first, second, third = (file.read_bytes() for file in files)
    assert first == second != third


@pytest.mark.parametrize("share", [0.0, 0.1, 0.35, 0.5, 0.77, 0.99, 1.0])
def test_a_build_killed_anywhere_goes_on_to_the_identical_file(tmp_path, share):
    """The journal is the only state: any prefix of its bytes is what a kill can leave behind."""
    whole, cut = world_build(tmp_path / "whole"), world_build(tmp_path / "cut")
    whole.run()
    cut.run()
    journal = tmp_path / "cut" / ANSWERS
    complete = journal.read_bytes()
    journal.write_bytes(complete[: round(share * len(complete))])
    for name in ("pairs.jsonl", "outcomes.jsonl", "report.json"):
        (tmp_path / "cut" / name).unlink()
    (tmp_path / "cut" / "pairs.jsonl.partial").write_text('{"id": "half a li')
    again = world_build(tmp_path / "cut", generator=Scripted())
    again.run()
    for name in ("pairs.jsonl", "outcomes.jsonl", "report.json", ANSWERS):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    kept = complete[: round(share * len(complete))].count(b"\n")
    assert len(again.generator.asked) == complete.count(b"\n") - kept


def test_a_higher_limit_goes_on(tmp_path):
    world_build(tmp_path, limit=5).run()
    more = world_build(tmp_path, generator=Scripted())
    assert more.run().records == 11
    assert not any(f"world-{n}/" in name for name in more.generator.asked for n in range(4))


def test_other_settings_are_refused(tmp_path):
    world_build(tmp_path).run()
    with pytest.raises(ValueError, match="another seed"):
        world_build(tmp_path, seed=3).run()
    other = Scripted()
    other.open = lambda policy: "other weights"
    with pytest.raises(ValueError, match="another model"):
        world_build(tmp_path, generator=other).run()


def test_changed_input_is_refused(tmp_path):
    (tmp_path / "docs.txt").write_text("one")
    source = DocumentFiles(str(tmp_path / "docs.txt"))
    first = world_build(tmp_path / "out", source=source).settings()
    (tmp_path / "docs.txt").write_text("two")
    assert world_build(tmp_path / "out", source=source).settings()["contents"] != first["contents"]


def test_failed_requests_fail_their_record_alone_and_are_tried_again(tmp_path):
    report = world_build(tmp_path, generator=Scripted(fail=("world-3/", "world-7/"))).run()
    assert report.statuses["failed"] == 2
    assert report.errors == {"world-3": "it refused", "world-7": "it refused"}
    assert world_build(tmp_path, generator=(healthy := Scripted())).run().statuses["failed"] == 0
    assert {name.split("/")[0] for name in healthy.asked} == {"world-3", "world-7"}


def test_a_recipe_that_breaks_on_one_record_does_not_cost_the_others(tmp_path):
    class Breaks(Judge):
        def score(self, prediction, answers):
            if prediction == "word3":
                raise ZeroDivisionError("bad luck")
            return float(prediction == "word0")

    recipe = SoLoPORecipe(RequestTemplate("{question}"), Decoding(1.0), 4, Breaks(), short_tokens=40, long_tokens=100)
    report = world_build(tmp_path, recipe=recipe, verifiers=()).run()
    assert 0 < report.statuses["failed"] < report.records == 11
    assert set(report.errors.values()) == {"ZeroDivisionError: bad luck"}


def test_unreadable_input_ends_as_failed(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.pdf").write_bytes(b"x")
    (tmp_path / "in" / "b.txt").write_text("too short a text")
    from data_modules.builders.recipes.longpo import LongPORecipe

    report = world_build(tmp_path / "out", source=DocumentFiles(str(tmp_path / "in")), recipe=LongPORecipe()).run()
    assert report.statuses == {"failed": 1, "filtered": 1}
    assert "a.pdf" in report.errors


def test_a_recipe_fed_by_the_wrong_source_says_so(tmp_path):
    with pytest.raises(TypeError, match="expected QARecord from the source, got Document"):
        world_build(tmp_path, source=WorldDocuments(2)).run()


@pytest.mark.slow
def test_kill_minus_nine_and_again(tmp_path):
    """A real process, killed while it writes; the second run ends with the file of an undisturbed one."""
    command = [sys.executable, "-m", "lit_longpo", "build", "--config", "configs/build/longpo.yaml", "--window", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed = subprocess.Popen([*command, "--output", str(tmp_path / "a")], cwd=ROOT, env=environment)
    journal = tmp_path / "a" / ANSWERS
    deadline = time.monotonic() + 1800
    while not (journal.exists() and journal.stat().st_size > 4000) and time.monotonic() < deadline:
        time.sleep(0.005)
    assert killed.poll() is None, "it ended before it was killed"
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "a" / "pairs.jsonl").exists()
    for name in "ab":
        subprocess.run([*command, "--output", str(tmp_path / name)], cwd=ROOT, env=environment, check=True)
    assert (tmp_path / "a" / "pairs.jsonl").read_bytes() == (tmp_path / "b" / "pairs.jsonl").read_bytes()


def test_questions_of_ones_own_are_read_before_a_model_is_loaded(tmp_path):
    rows = [{"question": f"Where is {n}?", "context": f"{n} is in Oslo{n}.", "answers": [f"Oslo{n}"]} for n in range(4)]
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = QAFiles((str(path),))
    assert [record.answers for record in source.items(text_tokens())] == [(f"Oslo{n}",) for n in range(4)]
    assert len(source.pool()) == 4

    class Unopened(Scripted):
        def open(self, policy):
            raise AssertionError("the model is loaded")

    path.write_text(json.dumps(rows[0]))
    with pytest.raises(ValueError, match=r"expected at least two passages in .*--source.corpus"):
        world_build(tmp_path / "build", source=source, generator=Unopened()).run()
