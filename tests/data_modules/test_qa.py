"""QA sets -> pairs: every format, budgets, distractors without the answer, counted failures."""

import re
from pathlib import Path
from typing import Any

import pytest
from support.builders import text_tokens
from support.qa_files import hotpotqa, musique, squad, write
from support.word_tokenizer import word_tokenizer

from data_modules.builders.sources.qa_files import QAFiles
from data_modules.qa import QADataModule
from data_modules.qa_sets.formats import read_corpus
from data_modules.qa_sets.matching import mentions, normalise
from data_modules.records import Passage
from lit_longpo.batch import View, Views
from lit_longpo.policy import PromptFormat, PromptTemplate

SHARED = Path(__file__).resolve().parents[2].parent / "shared/data"
REAL = [
    "multihop/musique_train_100.jsonl",
    "multihop/hotpotqa_train_100.jsonl",
    "multihop/2wikimultihop_train_500.jsonl",
    "squad/xquad.en.json",
    "squad/cmrc2018_trial.squad.json",
]
FORMAT = PromptFormat(word_tokenizer(), PromptTemplate())


@pytest.fixture(params=["musique", "hotpotqa", "hotpotqa list", "2wikimultihop", "squad"])
def small_set(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    name = request.param
    if name == "musique":
        return write(tmp_path / "set.jsonl", [musique(n) for n in range(8)])
    if name == "squad":
        return write(tmp_path / "set.json", squad(3))
    extra = {"evidences": []} if name == "2wikimultihop" else {}
    return write(
        tmp_path / ("set.json" if name.endswith("list") else "set.jsonl"),
        [hotpotqa(n, **extra) for n in range(8)],
    )


def module(path: Path | str, **options: Any) -> QADataModule:
    views = Views((View("short", "chosen"), View("short", "rejected"), View("long", "chosen")))
    defaults = {
        "views": views,
        "prompt_format": FORMAT,
        "short_tokens": 60,
        "long_tokens": 200,
        "val_fraction": 0.25,
    }
    return QADataModule(str(path), **{**defaults, **options})


def check_pairs(data: QADataModule, pairs: list[Any]) -> None:
    for pair in pairs:
        facts = [pair.long_context[start:end] for start, end in pair.supporting]
        assert facts
        for text, budget in ((pair.short_context, data.short_tokens), (pair.long_context, data.long_tokens)):
            passages = text.split("\n\n")
            assert set(facts) <= set(passages)
            assert len(FORMAT.encode(text)) <= budget
            distractors = [passage for passage in passages if passage not in facts]
            assert not any(mentions(passage, pair.answers) for passage in distractors)
        assert len(pair.short_context.split("\n\n")) <= len(facts) + data.short_distractors
        assert pair.chosen == pair.answers[0]
        for wrong in pair.rejected:
            assert not any(
                normalise(wrong) in normalise(answer) or normalise(answer) in normalise(wrong)
                for answer in pair.answers
            )


def test_pairs_of_every_format(small_set: Path) -> None:
    data = module(small_set)
    train, val = data.pairs("train"), data.pairs("val")
    check_pairs(data, [*train, *val])
    articles = [{pair.id.split("-")[0] for pair in share} for share in (train, val)]
    assert len(articles[1]) == round(0.25 * len(articles[0] | articles[1]))  # SQuAD asks several times about each
    assert not articles[0] & articles[1]
    assert data.built["train"].built == len(train)
    assert not data.built["train"].left_out
    assert all(pair.rejected[0].isdigit() and len(pair.rejected[0]) == 4 for pair in train)  # a year for a year
    assert all(len(pair.long_context) > 2 * len(pair.short_context) for pair in train)
    assert module(small_set).pairs("train") == train
    assert module(small_set, seed=1, val_fraction=0).pairs("train") != module(small_set, val_fraction=0).pairs("train")


def test_rejected_answers_can_be_read_in_the_short_context(small_set: Path) -> None:
    near, far = module(small_set, val_fraction=0), module(small_set, val_fraction=0, rejected_from="long")
    pairs, others = near.pairs("train"), far.pairs("train")
    assert all(normalise(pair.rejected[0]) in normalise(pair.short_context) for pair in pairs)
    assert not all(normalise(pair.rejected[0]) in normalise(pair.short_context) for pair in others)
    assert [pair.long_context for pair in pairs] == [pair.long_context for pair in others]
    assert sum(near.built["train"].rejected_from.values()) == len(pairs)
    assert "distractors of the long context" not in near.built["train"].rejected_from
    assert far.built["train"].rejected_from == {"distractors of the long context": len(pairs)}


def several(path: Path) -> Path:
    """SQuAD paragraphs with two questions each, and one that no paragraph answers."""
    document = squad(3)
    for article in document["data"]:
        for i, paragraph in enumerate(article["paragraphs"]):
            answers = [{"text": f"{20 + i}", "answer_start": 0}]
            name = paragraph["qas"][0]["id"]
            paragraph["qas"] += [
                {"id": f"{name}-rooms", "question": "How many rooms has it?", "answers": answers},
                {"id": f"{name}-none", "question": "Who paid?", "answers": []},
            ]
    return write(path, document)


def test_questions_about_one_paragraph_become_turns(tmp_path: Path) -> None:
    path = several(tmp_path / "set.json")
    views = Views((View("long", "chosen"), View("long", "rejected")))
    words = sorted(set(re.findall(r"\w+|[^\w\s]+", path.read_text())))
    form = PromptFormat(word_tokenizer(words), PromptTemplate())
    data = module(path, turns=4, val_fraction=0, views=views, max_tokens=2000, prompt_format=form)
    pairs = data.pairs("train")
    assert [[turn.question for turn in pair.all_turns] for pair in pairs] == [
        ["When was it opened?", "How many rooms has it?"]
    ] * 12
    report = data.built["train"]
    assert (report.records, report.built, report.questions) == (36, 12, 24)
    assert {reason: len(ids) for reason, ids in report.left_out.items()} == {
        "the passages do not answer the question": 12
    }
    for pair in pairs:
        assert len({turn.short_context for turn in pair.all_turns}) == 1
        gold = [turn.chosen for turn in pair.all_turns]
        (start, end) = pair.supporting[0]
        others = [text for text in pair.long_context.split("\n\n") if text != pair.long_context[start:end]]
        assert len(others) >= 3
        assert not any(mentions(text, gold) for text in others)  # of any turn
        for turn in pair.all_turns:
            assert normalise(turn.rejected[0]) in normalise(turn.short_context)
            assert turn.rejected[0] != turn.chosen
    apart = module(path, val_fraction=0).pairs("train")
    assert [pair.id for pair in apart[::2]] == [pair.id for pair in pairs]
    assert len(apart) == 24
    data.setup("fit")
    (group,) = data._encoded["train"][0].policy  # one prompt, both sides of the conversation behind it
    assert [response.role for response in group.responses] == ["chosen", "rejected"]
    with pytest.raises(ValueError, match=r"`data.init_args.turns` from 1 .*, got 0"):
        module(path, turns=0).pairs("train")


def test_the_first_questions_are_whole_contexts_and_the_pairs_that_they_were(tmp_path: Path) -> None:
    path = several(tmp_path / "set.json")
    every, few = (module(path, val_fraction=0, first=first).pairs("train") for first in (None, 4))
    assert few == every[:4]  # two contexts of three questions, one of them without an answer
    assert len(few) < len(every)
    source = QAFiles((str(path),), first=4)
    assert [item.id for item in source.items(text_tokens())] == [
        f"s0-{i}{kind}" for i in (0, 1) for kind in ("", "-rooms", "-none")
    ]
    assert source.pool() == QAFiles((str(path),)).pool()


def test_batches_come_out(small_set: Path) -> None:
    words = sorted(set(re.findall(r"\w+|[^\w\s]+", small_set.read_text())))
    form = PromptFormat(word_tokenizer(words), PromptTemplate())
    data = module(small_set, max_tokens=600, prompt_format=form)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert {(slot.context, slot.role) for slot in batch.policy.slots} == {
        ("short", "chosen"), ("short", "rejected"), ("long", "chosen"),
    }  # fmt: skip
    assert data.reports()["built"]["train"]["built"] == data.built["train"].records


def test_distractors_from_a_corpus(tmp_path: Path) -> None:
    path = write(tmp_path / "set.jsonl", [musique(0)])
    corpus = [{"title": f"Note {n}", "text": f"It says {n} things, one of them 1901."} for n in range(5)]
    corpus += [{"title": f"Good {n}", "text": f"Nothing happened in {1950 + n}."} for n in range(5)]
    data = module(path, val_fraction=0, corpus=str(write(tmp_path / "corpus.json", corpus)))
    (pair,) = data.pairs("train")
    assert pair.long_context.count("Good") == 5
    assert "Note" not in pair.long_context
    assert data.built["train"].underfilled == 1
    assert read_corpus(tmp_path / "corpus.json")[0] == Passage("Note 0", "It says 0 things, one of them 1901.")


def test_records_without_a_pair_are_counted_or_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lonely = musique(2, paragraphs=musique(2)["paragraphs"][1:2])
    records = [musique(0), musique(1, answerable=False), lonely]
    path = write(tmp_path / "set.jsonl", records)
    corpus = str(write(tmp_path / "corpus.json", [{"title": "", "text": "1921"}]))
    data = module(path, val_fraction=0, corpus=corpus, rejected_from="long")
    with caplog.at_level("INFO", logger="data_modules"):
        assert [pair.id for pair in data.pairs("train")] == ["m0"]
        data.pairs("train")
    assert caplog.text.count("train: 1 pairs from 3 records") == 1
    assert data.built["train"].left_out == {
        "the passages do not answer the question": ["m1"],
        "fewer than 1 wrong answers in the distractors": ["m2"],
    }
    assert "1 left out (the passages do not answer the question): m1" in caplog.text
    with pytest.raises(ValueError, match=r"expected a pair from every record.*m1.*on_unbuildable: skip"):
        module(path, val_fraction=0, on_unbuildable="error").pairs("train")


def test_facts_longer_than_the_short_budget_are_counted(tmp_path: Path) -> None:
    data = module(write(tmp_path / "set.jsonl", [musique(0)]), val_fraction=0, short_tokens=5)
    assert data.pairs("train") == []
    assert list(data.built["train"].left_out) == ["the supporting passages alone exceed `data.init_args.short_tokens`"]


def test_missing_file_says_where_and_how(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"musique.jsonl.*set `data.init_args.path`.*--data.path"):
        module(tmp_path / "musique.jsonl").pairs("train")
    path = write(tmp_path / "set.jsonl", [musique(0), musique(1)])
    with pytest.raises(FileNotFoundError, match=r"set `data.init_args.corpus`"):
        module(path, corpus=str(tmp_path / "none.json")).pairs("train")


@pytest.mark.parametrize("name", REAL)
def test_real_files(name: str) -> None:
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    data = module(path, short_tokens=700, long_tokens=1500, val_fraction=0.92)
    pairs = data.pairs("train")
    check_pairs(data, pairs)
    report = data.built["train"]
    assert report.records == report.built + sum(map(len, report.left_out.values()))
    assert report.built >= 0.85 * report.records
    assert report.underfilled < 0.1 * report.records


def test_questions_that_cannot_be_asked_are_counted(tmp_path: Path) -> None:
    """And plain answers that no supporting passage holds: they may be in other words, so they stay."""
    facts = [*hotpotqa(1)["supporting_facts"], ["Elsewhere", 0]]
    records = [hotpotqa(0), hotpotqa(1, supporting_facts=facts), hotpotqa(2, answer="Nobody"), hotpotqa(3)]
    data = module(write(tmp_path / "set.jsonl", records), val_fraction=0)
    data.pairs("train")
    assert data.built["train"].left_out == {
        "a supporting title is not in the context": ["h1"],
        "no supporting passage holds an answer": ["h2"],
    }
    plain = [{"id": n, "question": "When?", "context": f"Built in {1900 + n}.", "answers": [answer]}
             for n, answer in enumerate(["1900", "in summer 1999", "1902", "1903"])]  # fmt: skip
    data = module(write(tmp_path / "own.jsonl", plain), val_fraction=0)
    assert len(data.pairs("train")) == data.built["train"].built == 4
    assert data.built["train"].unread == ["1"]
    assert any(line.startswith("1 with an answer that no") for line in data.built["train"].lines())
