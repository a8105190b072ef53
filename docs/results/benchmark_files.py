"""Folders in the benchmarks' official layouts from a folder of samples: what can be had without a network.

    python -m results.benchmark_files --samples FOLDER --output FOLDER

Official templates and limits stay as they are. LongBench (v1, v2) are official records. Of InfiniteBench and LV-Eval no
record can be had offline: theirs are MuSiQue's and HotpotQA's questions and LongBench's summaries in the official
schema, so that scores of them compare with nothing published. Tasks of lm-evaluation-harness likewise: sums of
our own under the names that the papers' configurations ask.
"""

import argparse
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Record = Mapping[str, Any]

_COUNT = 8  # records of a task
_SUMS = 32  # questions of a task, more than there are solved examples in a prompt
_GENERATED = ("leaderboard_ifeval", "leaderboard_math_hard")


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args(words)
    samples, output = options.samples, options.output
    musique = [_of_musique(row) for row in _rows(samples / "multihop/musique_dev_200.jsonl")]
    hotpot = _rows(samples / "multihop/hotpotqa_train_100.jsonl")
    _write(output / "hotpotqa.json", json.dumps(hotpot))
    _infinitebench(samples, output / "infinitebench", musique)
    _lveval(samples, output / "lveval", musique)
    _harness_tasks(output / "tasks")
    print(f"written: {output}")


def _infinitebench(samples: Path, folder: Path, questions: Sequence[Record]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(samples / "infinitebench/prompts.json", folder)
    reports = _rows(samples / "longbench/data/gov_report.jsonl")
    asked = [{"context": row["context"], "input": row["question"], "answer": row["answers"]} for row in questions]
    chosen = [
        {**row, "answer": row["answer"][:1], "options": _options(number, asked)}
        for number, row in enumerate(asked[:_COUNT])
    ]
    summed = [{"context": row["context"], "input": "", "answer": row["answers"]} for row in reports]
    for task, rows in {"qa": asked, "choice": chosen, "sum": summed}.items():
        numbered = ({"id": number, "options": [], **row} for number, row in enumerate(rows[:_COUNT]))
        _write_rows(folder / f"longbook_{task}_eng.jsonl", numbered)


def _options(number: int, rows: Sequence[Record]) -> list[str]:
    """A question's answer among those of the next three, in turn at every place."""
    others = [rows[number + step]["answer"][0] for step in (1, 2, 3)]
    others.insert(number % 4, rows[number]["answer"][0])
    return others


def _lveval(samples: Path, folder: Path, questions: Sequence[Record]) -> None:
    shutil.copytree(samples / "lveval/config", folder / "config", dirs_exist_ok=True)
    values = json.loads((folder / "config/config.json").read_text(encoding="utf-8"))
    for dataset in values["DATASET_SELECTED"]:
        language = "zh" if dataset.endswith("zh") or dataset.split("_")[0] in ("cmrc", "lic", "dureader") else "en"
        for level in ("64k", "128k"):
            rows = (
                {
                    "input": row["question"],
                    "context": row["context"],
                    "answers": row["answers"],
                    "length": len(row["context"].split()),
                    "dataset": dataset,
                    "language": language,
                    "answer_keywords": row["answers"][0],
                    "confusing_facts": [],
                }
                for row in questions[:_COUNT]
            )
            _write_rows(folder / "data" / f"{dataset}_{level}.jsonl", rows)


def _harness_tasks(folder: Path) -> None:
    """Tasks under the names of the papers' configurations, each of the same sums."""
    rows = [_sum(number % 7 + 1, number % 9 + 1, number % 4) for number in range(_SUMS)]
    _write_rows(folder / "questions.jsonl", rows)
    names = ("mmlu", "truthfulqa_mc2", "arc_challenge", "hellaswag", "winogrande")
    more = ("bbh", "gpqa", "musr", "mmlu_pro")
    for name in (*names, *(f"leaderboard_{part}" for part in more), *_GENERATED):
        _write(folder / f"{name}.yaml", json.dumps(_task(name, folder / "questions.jsonl")))  # JSON is YAML


def _sum(one: int, other: int, place: int) -> Record:
    """Four choices around the right one, which stands at a place."""
    choices = [str(one + other + step - place) for step in range(4)]
    return {"question": f"{one} plus {other} is", "choices": choices, "answer": place}


def _task(name: str, questions: Path) -> Record:
    generated = name in _GENERATED
    return {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(questions)}},
        "test_split": "test",
        "fewshot_split": "test",
        "output_type": "generate_until" if generated else "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{choices[answer]}}" if generated else "answer",
        **({"generation_kwargs": {"until": ["\n"], "max_gen_toks": 8}} if generated else {"doc_to_choice": "choices"}),
        "metric_list": [{"metric": "exact_match" if generated else "acc", "aggregation": "mean"}],
        "metadata": {"version": 0.0},
    }


def _of_musique(row: Record) -> Record:
    texts = (f"{part['title']}\n{part['paragraph_text']}" for part in row["paragraphs"])
    numbered = (f"### Passage {number}\n{text}" for number, text in enumerate(texts, 1))
    answers = list(dict.fromkeys((row["answer"], *row["answer_aliases"])))
    return {"context": "\n\n".join(numbered), "question": row["question"], "answers": answers}


def _rows(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _write_rows(path: Path, rows: Iterable[Record]) -> None:
    _write(path, "".join(json.dumps(dict(row), ensure_ascii=False) + "\n" for row in rows))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
