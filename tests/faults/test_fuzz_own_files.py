"""Files that this project writes, with one thing wrong: what was written, what a person changed by hand, or refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from support import reports
from support.mutations import Refused, changed, damaged, fuzz, outcome

from data_modules.builders.build import Build
from data_modules.builders.generators.requests import Completion
from data_modules.builders.journal import ANSWERS, open_journal
from data_modules.builders.report import BuildReport, Outcome
from evaluation.benchmarks import downloads
from evaluation.benchmarks.downloads import RemoteFile
from evaluation.reports.reading import load_report
from evaluation.reports.report import BenchmarkReport
from evaluation.running.responses import StoredResponse
from evaluation.running.store import open_responses
from lit_longpo.checkpoints.whole import MANIFEST, Manifest, fault
from lit_longpo.files.checksums import write_checksums

few_and_many = pytest.mark.parametrize("examples", [20, pytest.param(3000, marks=pytest.mark.slow)])
TEXTS = ("plain", "two\nlines \u2028 \u00e9", "", "\ud83d half a sign")
SETTINGS = {"seed": 0, "sizes": [1, 2], "recipe": {"class": "X", "temperature": 0.5}, "max_length": 64}


def answers_of(folder: Path) -> dict[str, str]:
    """What a build's journal holds."""
    with open_journal(folder, SETTINGS) as journal:
        return {f"key {number}": journal[f"key {number}"].text for number in range(4) if f"key {number}" in journal}


def responses_of(folder: Path) -> dict[str, str]:
    """What `evaluate` has of one task."""
    with open_responses(folder, SETTINGS, {"name": "needle"}) as responses:
        return {row.id: row.response for row in responses.of_task("task")}


def write_answers(folder: Path) -> None:
    with open_journal(folder, SETTINGS) as journal:
        for number, text in enumerate(TEXTS):
            journal.append(f"key {number}", Completion("r", text))


def write_responses(folder: Path) -> None:
    with open_responses(folder, SETTINGS, {"name": "needle"}) as responses:
        responses.add(
            "task",
            [StoredResponse(f"id {n}", 0, text, 5, 1, "0f", False, False, False) for n, text in enumerate(TEXTS)],
        )


KEPT: dict[str, tuple[Callable[[Path], None], Callable[[Path], dict[str, str]], tuple[str, ...]]] = {
    "journal": (write_answers, answers_of, (ANSWERS, "manifest.json")),
    "responses": (write_responses, responses_of, ("task.jsonl", "manifest.json", "runs.jsonl")),
}


@few_and_many
def test_an_answer_is_the_one_that_was_given_or_asked_for_again(examples: int, tmp_path: Path) -> None:
    """Lines have checksums: nothing but whole lines may be lost, and no other text comes."""
    whole = {}
    for name, (write, read, files) in KEPT.items():
        write(tmp_path / name)
        whole[name] = ({file: (tmp_path / name / file).read_bytes() for file in files}, read(tmp_path / name))

    def check(data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(list(KEPT)))
        files, valid = whole[name]
        for file, raw in files.items():
            (tmp_path / name / file).write_bytes(raw)
        file = data.draw(st.sampled_from(list(files)))
        (tmp_path / name / file).write_bytes(damaged(data.draw, files[file]))
        found = outcome(lambda: KEPT[name][1](tmp_path / name))
        if isinstance(found, Refused):
            assert str(tmp_path / name) in found.message
        else:
            assert found.items() <= valid.items()

    fuzz(check, examples)


@few_and_many
def test_a_report_is_what_its_file_says_or_refused(examples: int, tmp_path: Path) -> None:
    made = [reports.longbench(("qasper", "trec"), count=2), reports.longbench_v2(6), reports.needle(lengths=(512,))]
    path, texts = tmp_path / "report.json", []
    for report in made:
        report.save(path)
        texts.append(path.read_text())

    def check(data: st.DataObject) -> None:
        text = data.draw(st.sampled_from(texts))
        if data.draw(st.booleans()):
            path.write_text(json.dumps(changed(data.draw, json.loads(text))))
        else:
            path.write_bytes(damaged(data.draw, text.encode()))
        found = outcome(lambda: load_report(path))
        if isinstance(found, Refused):
            assert str(path) in found.message
        else:
            assert repr(found) == repr(BenchmarkReport.of(json.loads(path.read_bytes().decode("utf-8"))))
            assert all(0 <= row.score <= 1 for row in found.predictions)

    fuzz(check, examples)


@few_and_many
def test_a_checkpoints_list_of_files(examples: int, tmp_path: Path) -> None:
    folder = tmp_path / "last.ckpt"
    (folder / "inner").mkdir(parents=True)
    sizes = {"meta.pt": 3, "inner/shard": 4}
    for name, size in sizes.items():
        (folder / name).write_bytes(b"x" * size)
    valid = {"strategy": "X", "world_size": 2, "files": sizes, "checksums": dict.fromkeys(sizes, "0" * 8)}

    def check(data: st.DataObject) -> None:
        raw: Any = json.dumps(valid).encode()
        changes = [damaged, lambda draw, _: json.dumps(changed(draw, valid)).encode()]
        (folder / MANIFEST).write_bytes(data.draw(st.sampled_from(changes))(data.draw, raw))
        found = outcome(lambda: Manifest.of(folder))
        wrong = outcome(lambda: fault(folder))
        if isinstance(found, Refused):
            assert isinstance(wrong, str)
            assert "its list of files is damaged" in wrong
        elif wrong is None:
            assert found.files.items() <= sizes.items()

    fuzz(check, examples)


URL = "https://example.org/a.zip"


@few_and_many
def test_a_list_of_downloads(examples: int, tmp_path: Path) -> None:
    """A file counts as there only with the size that the list says."""
    (tmp_path / "a.txt").write_bytes(b"12345")
    file = RemoteFile("a.zip", URL, "0" * 64, is_archive=True)
    valid = {"a.zip": {"url": URL, "sizes": {"a.txt": 5}, "sha256": "0" * 64, "digests": {}}}

    def check(data: st.DataObject) -> None:
        changes = [damaged, lambda draw, _: json.dumps(changed(draw, valid)).encode()]
        raw = data.draw(st.sampled_from(changes))(data.draw, json.dumps(valid).encode())
        (tmp_path / "downloads.json").write_bytes(raw)
        there = outcome(lambda: downloads._is_there(file, tmp_path))
        if isinstance(there, Refused):
            assert str(tmp_path / "downloads.json") in there.message
        elif there:
            entry = json.loads(raw.decode("utf-8"))["a.zip"]
            assert (entry["url"], entry["sizes"].get("a.txt", 5)) == (URL, 5)

    fuzz(check, examples)


@few_and_many
def test_what_a_build_wrote_at_its_end(examples: int, tmp_path: Path) -> None:
    """Its report and checksums: counts are those that were written, or a file is named."""
    report = BuildReport()
    for number, status in enumerate(("pair", "filtered", "failed", "pair")):
        report.add(Outcome(f"r{number}", status, "" if status == "pair" else f"{status} so"), len)  # type: ignore[arg-type]
    report.write(tmp_path)
    (tmp_path / "pairs.jsonl").write_text("{}\n")
    write_checksums(tmp_path, ("pairs.jsonl", "report.json"))
    files = {name: (tmp_path / name).read_bytes() for name in ("report.json", "checksums.json")}
    build = Build.__new__(Build)
    build.output = tmp_path
    whole = build.record_counts()

    def check(data: st.DataObject) -> None:
        for name, raw in files.items():
            (tmp_path / name).write_bytes(raw)
        name = data.draw(st.sampled_from(list(files)))
        other = json.dumps(changed(data.draw, json.loads(files[name]))).encode()
        (tmp_path / name).write_bytes(data.draw(st.sampled_from([other, damaged(data.draw, files[name])])))
        wrong = outcome(lambda: build.damaged)
        if isinstance(wrong, Refused):
            assert str(tmp_path) in wrong.message
        elif wrong is None:
            assert outcome(build.record_counts) == whole

    fuzz(check, examples)
