"""Files of questions and folders of benchmarks with one thing wrong: refused in one line, or read as they are there."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from support import official_layout, qa_files
from support.byte_tokenizer import CHAT, byte_tokenizer
from support.made_up_records import WRITERS
from support.mutations import MARK, Refused, changed, damaged, fuzz, leaves, outcome

from data_modules.qa_sets.formats import read_corpus, read_qa
from data_modules.questions import read_question_records
from data_modules.records import QARecord
from evaluation.benchmark import Benchmark
from evaluation.benchmarks.babilong import BABILong
from evaluation.benchmarks.graphwalks import GraphWalks
from evaluation.benchmarks.infinitebench import InfiniteBench
from evaluation.benchmarks.longbench import LongBench
from evaluation.benchmarks.longbench_pro import LongBenchPro
from evaluation.benchmarks.longbench_v2 import LongBenchV2
from evaluation.benchmarks.lveval import LVEval
from evaluation.benchmarks.mrcr import MRCR
from evaluation.benchmarks.qa import QA
from lit_longpo.policy import PromptFormat, PromptTemplate

FORMAT = PromptFormat(byte_tokenizer(chat_template=CHAT), PromptTemplate())
PLAIN = {"id": 3, "question": "Who?", "answers": ["Ines", "her"], "context": "Ines counted them."}
PASSAGES = [{"title": "A", "text": "Ines counted.", "supporting": True}, {"title": "B", "text": "It rained."}]
SETS: dict[str, list[Any]] = {
    "musique": [qa_files.musique(number) for number in range(2)],
    "hotpotqa": [qa_files.hotpotqa(number) for number in range(2)],
    "2wikimultihop": [qa_files.hotpotqa(number, evidences=[["a", "b", "c"]]) for number in range(2)],
    "squad": [qa_files.squad(2)],
    "questions": [PLAIN, {"question": "Who?", "answer": "Ines", "passages": PASSAGES}],
}
UNREAD = {"version", "idx", "answer_start", "evidences", "id", "_id"}
few_and_many = pytest.mark.parametrize("examples", [20, pytest.param(3000, marks=pytest.mark.slow)])


def told(records: list[QARecord]) -> str:
    """All that questions say, as one text."""
    return "\n".join(
        text
        for record in records
        for text in (
            record.id,
            record.question,
            *record.answers,
            *[f"{passage.title}\n{passage.text}" for passage in record.passages],
        )
    )


def read_texts(value: Any) -> list[str]:
    """Texts of a tree, without those of columns that nothing reads."""
    if isinstance(value, dict):
        return [text for name, child in value.items() if name not in UNREAD for text in read_texts(child)]
    return [text for child in value for text in read_texts(child)] if isinstance(value, list) else list(leaves(value))


@few_and_many
def test_questions_are_read_whole_or_refused(examples: int, tmp_path: Path) -> None:
    def check(data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(list(SETS)))
        rows = changed(data.draw, SETS[name])
        path = tmp_path / "questions.json"
        path.write_text(json.dumps(rows))
        format = data.draw(st.sampled_from(["auto", name]))
        found = outcome(lambda: read_qa(path, format))
        if isinstance(found, Refused):
            assert "questions.json" in found.message
            return
        text, here = told(found), list(leaves(rows))
        for record in found:
            for said in (record.question, *record.answers):
                assert said in here, said
            if record.answers:
                assert any(passage.supporting for passage in record.passages)
        if not any(record.unanswered for record in found):
            for said in read_texts(rows):
                assert MARK not in said or said.split()[0] in text, f"{said!r} is lost"

    fuzz(check, examples)


@few_and_many
def test_damaged_files_of_questions(examples: int, tmp_path: Path) -> None:
    corpus = [{"title": "A", "text": "Ines counted."}, {"title": "B", "text": "It rained."}]
    readers: dict[str, tuple[Any, Callable[[Path], Any]]] = {
        "corpus": (corpus, read_corpus),
        **{name: (rows, read_qa) for name, rows in SETS.items()},
    }

    def check(data: st.DataObject) -> None:
        rows, read = readers[data.draw(st.sampled_from(list(readers)))]
        lines = data.draw(st.booleans())
        text = "\n".join(map(json.dumps, rows)) if lines else json.dumps(rows, indent=1)
        path = tmp_path / f"file.json{'l' * lines}"
        path.write_text(text)
        valid = read(path)
        path.write_bytes(damaged(data.draw, text.encode()))
        found = outcome(lambda: read(path))
        again = outcome(lambda: read_question_records(str(path)))
        assert isinstance(found, Refused) or isinstance(again, Refused) or read is read_corpus or found == again
        if isinstance(found, list) and found != valid:
            assert decoded(path, lines) != rows

    fuzz(check, examples)


def decoded(path: Path, lines: bool) -> Any:
    """By Python's own parser."""
    text = path.read_bytes().decode("utf-8-sig")
    return [json.loads(line) for line in text.split("\n") if line.strip()] if lines else json.loads(text or "[]")


BENCHMARKS: dict[str, tuple[Callable[[Path], Any], Callable[[Path], Benchmark]]] = {
    "longbench": (
        lambda folder: official_layout.longbench(folder, {"qasper": 2, "trec": 1, "samsum": 1}),
        lambda folder: LongBench(str(folder), tasks=["qasper", "trec", "samsum"]),
    ),
    "longbench_v2": (lambda folder: official_layout.longbench_v2(folder, 3), lambda folder: LongBenchV2(str(folder))),
    "lveval": (lambda folder: official_layout.lveval(folder, 2), lambda folder: LVEval(str(folder))),
    "infinitebench": (
        lambda folder: official_layout.infinitebench(folder, 2),
        lambda folder: InfiniteBench(
            str(folder), tasks=["passkey", "longbook_qa_eng", "code_debug", "code_run", "math_find"]
        ),
    ),
    "graphwalks": (WRITERS["graphwalks"], lambda folder: GraphWalks(str(folder))),
    "mrcr": (WRITERS["mrcr"], lambda folder: MRCR(str(folder))),
    "babilong": (WRITERS["babilong"], lambda folder: BABILong(str(folder / "data"), str(folder / "prompts.py"))),
    "longbench_pro": (WRITERS["longbench_pro"], lambda folder: LongBenchPro(str(folder))),
    "qa": (
        lambda folder: (folder / "qa.json").write_text(json.dumps(SETS["musique"])),
        lambda folder: QA(str(folder / "qa.json")),
    ),
}


def asked(benchmark: Benchmark) -> list[tuple[Any, ...]]:
    """Every prompt with what counts as its answer."""
    examples = [example for task in benchmark.tasks for example in benchmark.examples(task)]
    return [
        (example, benchmark.prompt(example, FORMAT, 100_000), benchmark.score(example, MARK)) for example in examples
    ]


@few_and_many
def test_a_benchmarks_folder_is_asked_or_refused(examples: int, tmp_path: Path) -> None:
    for name, (write, _) in BENCHMARKS.items():
        (tmp_path / name).mkdir()
        write(tmp_path / name)
        assert asked(BENCHMARKS[name][1](tmp_path / name))

    def check(data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(list(BENCHMARKS)))
        folder = tmp_path / "changed"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(tmp_path / name, folder)
        path = data.draw(st.sampled_from(sorted(item for item in folder.rglob("*") if item.is_file())))
        raw = path.read_bytes()
        change = data.draw(st.sampled_from([with_other_values, damaged, None]))
        path.write_bytes(raw if change is None else change(data.draw, raw))
        if change is None:
            path.unlink()
        found = outcome(lambda: asked(BENCHMARKS[name][1](folder)))
        if isinstance(found, Refused):
            assert str(folder) in found.message or path.name in found.message, found

    fuzz(check, examples)


def with_other_values(draw: Any, raw: bytes) -> bytes:
    """One line of JSON, or the whole file if it is JSON, with values changed."""
    try:
        lines = raw.decode().split("\n")
        number = draw(st.integers(0, len(lines) - 1))
        lines[number] = json.dumps(changed(draw, json.loads(lines[number])))
        return "\n".join(lines).encode()
    except ValueError:
        return damaged(draw, raw)
