"""What is counted while a split is tokenised, and read again from what lies beside its tokens."""

import json
from dataclasses import asdict

from support.word_tokenizer import word_tokenizer

from data_modules.records import PreferencePair
from data_modules.rows.split_report import SplitReport
from lit_longpo.batch import View, Views
from lit_longpo.policy import PromptFormat, PromptTemplate

FORM = PromptFormat(word_tokenizer(), PromptTemplate("{context} {question}"))


def read_by(*roles, **answers):
    pair = PreferencePair(
        id="a", question="word1", short_context="", long_context="word2", **{"chosen": "word3", **answers}
    )
    report = SplitReport()
    views = Views(tuple(View("long", role) for role in roles))
    assert list(report.counted([pair, pair], FORM, views)) == [pair, pair]
    return report


def test_rejected_answers_beyond_the_objectives_are_counted_only_where_it_reads_them():
    rejected = ("word4", "word5", "word6")
    assert read_by("chosen", "rejected", rejected=rejected).unused == 2
    assert read_by("chosen", "rejected", rejected=rejected[:1]).unused == 0
    assert read_by("chosen", rejected=rejected).unused == 0


def test_a_report_survives_its_file():
    report = SplitReport(positions={"stretched": 2}, unused=3, same_role=1)
    written = json.dumps(asdict(report))
    assert json.dumps(asdict(SplitReport.of(json.loads(written)))) == written
