"""Small folders in the benchmarks' official layouts, with templates and records of our own."""

import json
from pathlib import Path

from evaluation.metrics.longbench import TASKS

WORDS = ["Oslo", "Bergen", "the old bridge", "a night train", "was painted", "last spring", "by Greta", "in 1987"]


def text(seed: int, words: int) -> str:
    """Words that differ from record to record."""
    return " ".join(WORDS[(seed * 7 + number * number) % len(WORDS)] for number in range(words))


def write_rows(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def longbench(folder: Path, counts: dict[str, int], *, tokens: int = 6) -> Path:
    """LongBench with so many records of each task; longer and longer contexts."""
    for task, count in counts.items():
        rows = [
            {
                "_id": f"r{number}",
                "input": f"Who came {text(number + 3, 2)}?",
                "context": text(number, 4 + 6 * number),
                "answers": ["Paragraph 7" if task.startswith("passage_retrieval") else "Greta"],
                "length": 3000 * number,
                "dataset": task,
                "language": "en",
                "all_classes": ["Greta", "Oslo"] if task.startswith("trec") else None,
            }
            for number in range(count)
        ]
        write_rows(folder / "data" / f"{task}.jsonl", rows)
    (folder / "config").mkdir(exist_ok=True)
    templates = dict.fromkeys(TASKS, "Read: {context}\nQ: {input}\nA:") | {"samsum": "S: {context}\n{input}"}
    (folder / "config" / "dataset2prompt.json").write_text(json.dumps(templates))
    (folder / "config" / "dataset2maxlen.json").write_text(json.dumps(dict.fromkeys(TASKS, tokens)))
    return folder


def longbench_v2(folder: Path, count: int) -> Path:
    """LongBench v2 with so many records."""
    rows = [
        {
            "_id": f"v{number}",
            "domain": "Single-Document QA",
            "sub_domain": "Literary",
            "difficulty": ("easy", "hard")[number % 2],
            "length": ("short", "medium", "long")[number % 3],
            "question": f"What about {text(number, 2)}?",
            **{f"choice_{letter}": text(number + place, 2) for place, letter in enumerate("ABCD")},
            "answer": "ABCD"[number % 4],
            "context": text(number, 10 + 5 * number),
        }
        for number in range(count)
    ]
    write_rows(folder / "data.jsonl", rows)
    choices = "Q: $Q$ (A) $C_A$ (B) $C_B$ (C) $C_C$ (D) $C_D$"
    prompts = {
        "0shot": f"$DOC$\n{choices}\nFormat: The correct answer is (X).",
        "0shot_cot": f"$DOC$\n{choices}\nThink.",
        "0shot_cot_ans": f"{choices}\n$COT$\nAnswer:",
        "0shot_no_context": f"{choices}\nAnswer:",
    }
    (folder / "prompts").mkdir(exist_ok=True)
    for name, template in prompts.items():
        (folder / "prompts" / f"{name}.txt").write_text(template)
    return folder


def lveval(folder: Path, count: int, *, tokens: int = 6) -> Path:
    """LV-Eval with two data sets at two levels; all questions of a data set share one context."""
    names = ("factrecall_en", "loogle_SD_mixup")
    for name in names:
        for level, words in (("16k", 30), ("32k", 45)):
            rows = [
                {
                    "input": f"{text(number, 1)}?",
                    "context": f"### Passage 1\n{text(1, words)}",
                    "answers": ["Greta", "Oslo"],
                    "length": words,
                    "dataset": name,
                    "language": "en",
                    "answer_keywords": "Greta",
                    "confusing_facts": None,
                }
                for number in range(count)
            ]
            write_rows(folder / "data" / f"{name}_{level}.jsonl", rows)
    values = {
        "DATASET_PROMPT": dict.fromkeys(names, "Read: {context}\nQ: {input}\nA:"),
        "DATASET_MAXGEN": dict.fromkeys(names, tokens),
        "DATASET_SELECTED": list(names),
        "DATASET_LENGTH_LEVEL": ["16k", "32k"],
    }
    (folder / "config.py").write_text("".join(f"{name} = {value!r}\n" for name, value in values.items()))
    return folder


def infinitebench(folder: Path, count: int) -> Path:
    """InfiniteBench in the documented schema, with templates and records of our own; no number_string."""
    answers = {
        "passkey": ("What is the pass key?", [["71432"], "305"]),
        "kv_retrieval": ("Key: a1?", [["b-2"], "c-3"]),
        "longbook_sum_eng": ("", [["Greta came."], "Oslo."]),
        "longbook_qa_eng": ("Who came?", [["Greta", "the old Greta"], ["Oslo"]]),
        "longbook_qa_chn": ("\u8c01?", [["\u96ea\u5c71"], ["\u798f"]]),
        "longbook_choice_eng": ("Who came?", [["Bergen"], ["Greta", "C"]]),
        "longdialogue_qa_eng": (None, [["ACE"], ["BEE"]]),
        "code_debug": ("", [["Oslo"], "Greta"]),
        "code_run": ("Please give me the value of func_3(-7).", [[12], "-5"]),
        "math_find": ("You should answer with only one number. The second largest number of the list is:", [[88], 4.5]),
    }
    lettered = ("longbook_choice_eng", "code_debug")
    for task, (question, labels) in answers.items():
        rows = [
            {
                "id": number,
                "context": f"{{x}} {text(number, 4 + 6 * number)}",
                "input": question,
                "answer": labels[number % 2],
                "options": ["Oslo", "Bergen", "Greta", "Bergen"] if task in lettered else [],
            }
            for number in range(count)
        ]
        write_rows(folder / f"{task}.jsonl", rows)
    choices = "A. {OPTION_A} B. {OPTION_B} C. {OPTION_C} D. {OPTION_D}"
    templates = dict.fromkeys((*answers, "number_string"), "{context}\n{input}")
    templates |= dict.fromkeys(lettered, "{context}\nQ: {question}\n" + choices)
    templates |= {"longbook_qa_eng": "{context}\nQ: {question}", "longbook_sum_eng": "{context}"}
    templates |= {"code_run": "{func} is in {context}: {func_call}", "math_find": "{prefix}\n{context}\n{input}"}
    lines = [f"{name}_templates = {templates!r}" for name in ("gpt4", "yarn_mistral")]
    (folder / "prompt.py").write_text("\n".join(["import nothing_here", "raise SystemExit('executed')", *lines]))
    return folder
