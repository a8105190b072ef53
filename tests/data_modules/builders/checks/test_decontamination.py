"""Evaluation files that no pair may overlap with."""

import json
from collections import Counter

import pytest
from support.builders import Scripted, world_build

from data_modules.builders.checks.decontamination import Decontamination
from data_modules.builders.recipes.base import DroppedError
from data_modules.builders.sources.qa_files import QAFiles


def test_evaluation_questions_are_kept_out(tmp_path):
    records = [
        {
            "id": f"r{n}",
            "question": question,
            "answer": "word0",
            "paragraphs": [
                {"title": "T", "paragraph_text": "word0 word1", "is_supporting": True},
                {"title": "U", "paragraph_text": "word5 word6", "is_supporting": False},
            ],
        }
        for n, question in enumerate(["Where did the old captain sail in the autumn of that year?", "Who was it?"])
    ]
    (tmp_path / "qa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in records))
    evaluation = {
        "nested": [{"question": "Where did the old captain sail, in the autumn of that year, then?", "answer": "word0"}]
    }
    (tmp_path / "eval.json").write_text(json.dumps(evaluation))
    generator = Scripted()
    report = world_build(
        tmp_path / "out",
        source=QAFiles((str(tmp_path / "qa.jsonl"),)),
        decontamination=Decontamination((str(tmp_path / "eval.json"),)),
        generator=generator,
    ).run()
    assert report.reasons["the question overlaps with an evaluation file"] == 1
    assert report.candidates["short answers that also occur in an evaluation file (kept)"] == 1
    assert not any(name.startswith("r0/") for name in generator.asked)  # nothing was paid for it


def test_one_chinese_name_does_not_make_an_english_question_one_of_letters(tmp_path):
    asked = "Where did the old captain \u5f20\u4f1f sail in the autumn of that long year?"
    other = "Which of the old captains saw \u674e\u5a1c dance in the autumn of that year?"
    (tmp_path / "eval.jsonl").write_text(json.dumps({"question": asked, "answer": "north"}) + "\n")
    check = Decontamination((str(tmp_path / "eval.jsonl"),), n=4).check
    check(other, (), Counter())
    with pytest.raises(DroppedError):
        check(asked.replace("long", "very"), (), Counter())
