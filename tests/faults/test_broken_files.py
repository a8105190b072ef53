"""Every JSON file that this project writes and reads back, broken in every way: one line that names it.

| file | who writes it | who reads it |
| --- | --- | --- |
| manifest.json | `build`, `evaluate` | the next run into the folder, `--rescore` |
| answers.jsonl, report.json, pairs.jsonl, checksums.json | `build` | the same `build` again, `fit` |
| <task>.jsonl, runs.jsonl | `evaluate` | the same `evaluate` again, `--rescore` |
| <benchmark>-step<n>.json | `evaluate`, callbacks | `--compare`, `evaluate` into the folder |
| downloads.json | `evaluate` | whoever asks the benchmark again |
| checkpoint.json | `fit` | `--ckpt_path`, `export` |
| adapter_config.json, README.md | `export`, peft | `policy.source`, `ask` |
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from support.builders import world_build

from data_modules.builders.generators.requests import Completion, digest
from data_modules.builders.journal import open_journal
from data_modules.records import read_pairs
from evaluation.benchmarks.downloads import RemoteFile, prepare_data
from evaluation.origins import origin_of
from evaluation.reports.reading import load_checked_report
from evaluation.reports.report import BenchmarkReport, Prediction
from evaluation.running.responses import Responses, StoredResponse
from evaluation.running.store import open_responses, stored_notes
from lit_longpo.checkpoints.whole import Manifest, newest_whole
from lit_longpo.errors import UserError
from lit_longpo.files.checksums import changed, checksum_of
from lit_longpo.files.manifest import check_manifest
from lit_longpo.policy.adapters.folder import AdapterFolder

_URL = "https://example.invalid/a.json"


@dataclass(frozen=True)
class Written:
    """One of our files.

    Args:
        name: of it.
        whole: its object, or one of its lines.
        read: reads it as the program does, in a folder.
        wrong: a field and what is not of its type; `None` where any value may stand.
        missing: a field that has to be there, likewise.
        number: a field that holds a number; NaN in its place is none.
    """

    name: str
    whole: dict[str, Any]
    read: Callable[[Path], Any]
    wrong: tuple[str, Any] | None = None
    missing: str | None = None
    number: str | None = None
    beside: tuple[str, ...] = field(default=())

    @property
    def has_lines(self) -> bool:
        return self.name.endswith(".jsonl")


def _opened(folder):
    with open_journal(folder, {"seed": 0}) as journal:
        return len(journal)


def _journal(folder):
    check_manifest(folder, {"seed": 0, "hash": digest({"seed": 0})}, "build")  # or nobody reads what is beside it
    return _opened(folder)


def _prediction(number):
    return asdict(Prediction(f"a{number}", 4, None, "q", ("x",), "x", 1.0))


_FILES = [
    Written("manifest.json", {"seed": 0}, lambda folder: check_manifest(folder, {"seed": 0}, "build"), number="seed"),
    Written(
        "manifest.json",
        {"benchmark settings": {}, "max_length": 4, "name": "m"},
        stored_notes,
        ("max_length", "4"),
        "name",
        "max_length",
    ),
    Written(
        "answers.jsonl",
        {"key": "k", **asdict(Completion("r", "text"))},
        _journal,
        ("new_tokens", "1"),
        "text",
        "new_tokens",
    ),
    Written(
        "report.json",
        {"records": 1, "statuses": {"pair": 1}},
        lambda folder: world_build(folder).num_failed,
        ("statuses", {"failed": "1"}),
        "statuses",
        "records",
    ),
    Written(
        "pairs.jsonl",
        {"id": "1", "question": "q", "long_context": "l", "short_context": "s", "chosen": "c", "rejected": ["r"]},
        lambda folder: read_pairs(folder / "pairs.jsonl"),
        ("rejected", "r"),
        "chosen",
    ),
    Written("checksums.json", {"a": "0" * 8}, lambda folder: changed(folder / "a"), ("a", 1), beside=("a",)),
    Written(
        "trec.jsonl",
        asdict(StoredResponse("a", 0, "x", 4, 0, "h", False, False, False)),
        lambda folder: Responses(folder).of_task("trec"),
        ("num_tokens", True),
        "record",
        "num_lost",
    ),
    Written("runs.jsonl", {"date": "2026"}, lambda folder: Responses(folder).made_by(), number="date"),
    Written(
        "needle-step0.json",
        {"name": "needle", "step": 0, "predictions": [_prediction(1), _prediction(2)]},
        lambda folder: load_checked_report(folder / "needle-step0.json"),
        ("predictions", [{**_prediction(1), "answers": "x"}]),
        "predictions",
        "step",
    ),
    Written(
        "downloads.json",
        {"a.json": {"url": _URL, "sizes": {}, "sha256": "0", "digests": {}}},
        lambda folder: prepare_data("x", [RemoteFile("a.json", _URL, "0" * 64)], folder),
        ("a.json", {"url": _URL, "sizes": {"a.json": "1"}}),
    ),
    Written(
        "checkpoint.json",
        {"strategy": "s", "world_size": 1, "files": {}, "checksums": {}},
        Manifest.of,
        ("files", {"a": "1"}),
        "world_size",
        "world_size",
    ),
    Written(
        "adapter_config.json",
        {"peft_type": "LORA", "r": 1, "lora_alpha": 2, "base_model_name_or_path": "m"},
        AdapterFolder.at,
        ("r", "8"),
        "lora_alpha",
        "r",
        beside=("adapter_model.safetensors",),
    ),
]


def _breaks(written):
    """(what was done to it, the bytes)."""
    text = json.dumps(written.whole).encode()
    yield "truncated", text[:-1]
    yield "no text", b"\xff\xfe" + text
    yield "a list", json.dumps([written.whole]).encode()
    yield "nothing in it", b"null"
    yield "nested for ever", b"[" * 100_000
    key = next(iter(written.whole))
    yield "a field twice", b'{"%s": 1, %s' % (key.encode(), text[1:])
    if not written.has_lines:
        yield "empty", b""
    if written.wrong is not None:
        yield "wrong type", json.dumps({**written.whole, written.wrong[0]: written.wrong[1]}).encode()
        yield "null", json.dumps({**written.whole, written.wrong[0]: None}).encode()
    if written.missing is not None:
        yield "missing", json.dumps({k: v for k, v in written.whole.items() if k != written.missing}).encode()
    if written.number is not None:
        yield "not a number", json.dumps({**written.whole, written.number: float("nan")}).encode()


_CASES = [(written, how, raw) for written in _FILES for how, raw in _breaks(written)]


def _put(folder, written, raw):
    for name in written.beside:
        (folder / name).write_bytes(b"")
    (folder / written.name).write_bytes(raw + b"\n" * written.has_lines)


@pytest.mark.parametrize("written", _FILES, ids=lambda written: written.name)
def test_what_is_whole_is_read(written, tmp_path, monkeypatch):
    _put(tmp_path, written, json.dumps(written.whole).encode())
    monkeypatch.setattr("evaluation.benchmarks.downloads.fetch", lambda *_: "0" * 64)
    written.read(tmp_path)


@pytest.mark.parametrize(("written", "how", "raw"), _CASES, ids=[f"{case[0].name}: {case[1]}" for case in _CASES])
def test_what_is_broken_is_one_line_that_names_it(written, how, raw, tmp_path):
    _put(tmp_path, written, raw)
    with pytest.raises(UserError) as refused:
        written.read(tmp_path)
    said = str(refused.value)
    assert f"{written.name}:1" in said if written.has_lines else f"{written.name}" in said
    assert ": expected " in said
    assert "; " in said.rpartition(", got ")[2]
    assert "\n" not in said
    assert len(said) < 600
    if how in ("wrong type", "null"):
        assert f"'{written.wrong[0]}" in said
    if how == "missing":
        assert repr(written.missing) in said


@pytest.mark.parametrize(
    "written", [w for w in _FILES if w.has_lines and w.name != "pairs.jsonl"], ids=lambda w: w.name
)
def test_a_last_line_that_a_kill_cut_off_is_dropped_and_any_other_is_not(written, tmp_path):
    line = json.dumps(written.whole).encode()
    path = tmp_path / written.name
    path.write_bytes(line + b"\n" + line[: len(line) // 2])
    written.read(tmp_path)
    assert path.read_bytes() == line + b"\n"
    path.write_bytes(line + b"\n" + line[: len(line) // 2] + b"\n" + line + b"\n")
    with pytest.raises(UserError, match=rf"{written.name}:2: "):
        written.read(tmp_path)


def test_a_damaged_list_of_files_hides_no_other_checkpoint(tmp_path):
    for name in ("bad", "good"):
        (tmp_path / f"{name}.ckpt").mkdir()
        (tmp_path / f"{name}.ckpt" / "a").write_bytes(b"1")
    good = {"strategy": "s", "world_size": 1, "files": {"a": 1}, "checksums": {"a": "0"}}
    (tmp_path / "good.ckpt" / "checkpoint.json").write_text(json.dumps(good))
    for how, raw in _breaks(_FILES[-2]):
        (tmp_path / "bad.ckpt" / "checkpoint.json").write_bytes(raw)
        assert newest_whole(tmp_path) == tmp_path / "good.ckpt", how


@pytest.mark.parametrize("change", [{"lora_alpha": 0}, {"r": 0}, {"lora_alpha": -2}])
def test_adapters_that_would_do_nothing_are_refused(change, tmp_path):
    written = _FILES[-1]
    _put(tmp_path, written, json.dumps({**written.whole, **change}).encode())
    with pytest.raises(
        UserError, match=rf"adapter_config.json: field '{next(iter(change))}': expected a number above 0"
    ):
        written.read(tmp_path)


def test_a_flipped_bit_in_a_stored_answer_is_found(tmp_path):
    Responses(tmp_path).add("trec", [StoredResponse("a", 0, "the answer is 7 \u4e2d", 4, 0, "h", False, False, False)])
    path = tmp_path / "trec.jsonl"
    assert Responses(tmp_path).of_task("trec")[0].response == "the answer is 7 \u4e2d"
    path.write_bytes(path.read_bytes().replace(b"is 7", b"is 6"))
    with pytest.raises(UserError, match=r"trec.jsonl:1: record: expected what has the checksum .*; delete the line"):
        Responses(tmp_path).of_task("trec")


def test_a_flipped_bit_in_an_answer_of_a_build_is_found(tmp_path):
    with open_journal(tmp_path, {"seed": 0}) as journal:
        journal.append("k", Completion("r", "the answer is 7"))
    path = tmp_path / "answers.jsonl"
    path.write_bytes(path.read_bytes().replace(b"is 7", b"is 6"))
    with pytest.raises(UserError, match=r"answers.jsonl:1: record: expected what has the checksum .*; delete the line"):
        _journal(tmp_path)


def _predictions(folder, manifest, notes):
    with open_responses(folder, manifest, notes) as responses:
        return responses.of_task("trec")


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("answers.jsonl", _opened),
        ("trec.jsonl", lambda folder: _predictions(folder, {"model": "other"}, {})),
    ],
)
def test_lines_without_their_manifest_are_nobodys(name, read, tmp_path):
    """With it deleted, the next model would have been given the answers of the one before."""
    (tmp_path / name).write_bytes(b"")  # made before the manifest is
    read(tmp_path)
    (tmp_path / "manifest.json").unlink()
    (tmp_path / name).write_bytes(b"{}\n")
    with pytest.raises(
        UserError, match=rf"expected manifest.json beside .*{name}, .* found none; put it back, or type"
    ):
        read(tmp_path)
    assert not (tmp_path / "manifest.json").exists()


def test_what_is_written_beside_answers_is_as_it_was_written(tmp_path):
    """A report made of them says it, and nothing else compares it."""
    notes = {"name": "Model", "max_length": 4, "benchmark settings": {}}
    _predictions(tmp_path, {"model": "x"}, notes)
    assert stored_notes(tmp_path)["name"] == "Model"
    path = tmp_path / "manifest.json"
    path.write_text(path.read_text().replace('"Model"', '"Other"'))
    for read in (stored_notes, lambda folder: _predictions(folder, {"model": "x"}, notes)):
        with pytest.raises(UserError, match=r"manifest.json: record: expected what has the checksum .*; type --output"):
            read(tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text()), "crc": None}))  # as of before, or by somebody's wish
    assert stored_notes(tmp_path)["name"] == "Other"


def test_two_answers_to_one_question_are_named(tmp_path):
    """The same line twice says nothing new; another one would have won because it came later."""
    row = StoredResponse("a", 0, "7", 4, 0, "h", False, False, False)
    for extra in (row, replace(row, response="8", record="of another text")):
        Responses(tmp_path).add("trec", [row, extra])
        Responses(tmp_path).of_task("trec")
    Responses(tmp_path).add("trec", [replace(row, response="8")])
    with pytest.raises(UserError, match=r"trec.jsonl:5: record: expected one answer to a, got another one before it"):
        Responses(tmp_path).of_task("trec")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"score": 5}, r"'predictions\[1\].score': expected a number from 0 to 1, got 5"),
        ({"score": -1}, r"'predictions\[1\].score': expected a number from 0 to 1, got -1"),
        ({"depth": 2.0}, r"'predictions\[1\].depth': expected a number from 0 to 1, got 2.0"),
        ({"id": "a1"}, "'predictions': expected each id once, got 'a1'"),
    ],
)
def test_predictions_of_a_report_are_what_they_can_be(change, said, tmp_path):
    report = {"name": "needle", "step": 0, "predictions": [_prediction(1), {**_prediction(2), **change}]}
    (tmp_path / "needle-step0.json").write_text(json.dumps(report))
    with pytest.raises(UserError, match=said):
        load_checked_report(tmp_path / "needle-step0.json")


def test_a_report_that_was_saved_is_read_as_it_was(tmp_path):
    rows = tuple(Prediction(f"a{n}", 4, n / 2, "q", ("x",), "x", n / 2, groups={"g": "1"}) for n in range(3))
    report = BenchmarkReport("needle", 0, rows, tables={"needle": {"mean": 50.0}}, settings={"max_length": 4})
    report.save(tmp_path / "needle-step0.json")
    assert load_checked_report(tmp_path / "needle-step0.json") == report


def test_a_model_card_whose_template_is_broken_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "README.md").write_text('---\nprompt_template: {"user": \n---\n')
    with pytest.raises(UserError, match=r"README.md: prompt_template: record: expected UTF-8 JSON"):
        origin_of(str(tmp_path))


def test_a_checksum_is_of_the_contents(tmp_path):
    (tmp_path / "a").write_bytes(b"123456789")
    assert checksum_of(tmp_path / "a") == "cbf43926"
    (tmp_path / "checksums.json").write_text('{"a": "cbf43926"}')
    assert not changed(tmp_path / "a")
    (tmp_path / "a").write_bytes(b"12345678:")
    assert changed(tmp_path / "a")
