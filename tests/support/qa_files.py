"""Small files in the formats of public QA sets."""

import json
from pathlib import Path
from typing import Any

TITLES = ["Oslo Harbour", "Lima Hall", "Cairo Tower", "Perth Mill"]


def musique(number: int, **changes: Any) -> dict[str, Any]:
    paragraphs = [
        {
            "idx": i,
            "title": f"{title} {number}",
            "paragraph_text": f"{title} was opened in {1900 + 10 * number + i} by Person{number}{i} Jones. "
            f"It has {20 + i} rooms.",
            "is_supporting": i == 1,
        }
        for i, title in enumerate(TITLES)
    ]
    record = {
        "id": f"m{number}",
        "question": f"When was the second building of town {number} opened?",
        "answer": f"{1901 + 10 * number}",
        "answer_aliases": [],
        "answerable": True,
        "paragraphs": paragraphs,
    }
    return {**record, **changes}


def hotpotqa(number: int, **changes: Any) -> dict[str, Any]:
    record = musique(number)
    context = [[p["title"], [p["paragraph_text"], " "]] for p in record["paragraphs"]]
    facts = [[record["paragraphs"][1]["title"], 0]]
    base = {"_id": f"h{number}", "question": record["question"], "answer": record["answer"]}
    return {**base, "supporting_facts": facts, "context": context, **changes}


def squad(count: int) -> dict[str, Any]:
    articles = []
    for number in range(count):
        paragraphs = [
            {
                "context": p["paragraph_text"],
                "qas": [
                    {"id": f"s{number}-{i}", "question": "When was it opened?", "answers": [
                        {"text": f"{1900 + 10 * number + i}", "answer_start": 0}]}
                ],
            }
            for i, p in enumerate(musique(number)["paragraphs"])
        ]  # fmt: skip
        articles.append({"title": f"Town {number}", "paragraphs": paragraphs})
    return {"version": "1.1", "data": articles}


def write(path: Path, value: Any) -> Path:
    text = "\n".join(map(json.dumps, value)) + "\n" if path.suffix == ".jsonl" else json.dumps(value)
    path.write_text(text)
    return path
