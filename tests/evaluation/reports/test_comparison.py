from dataclasses import replace

import pytest
from support import reports

from evaluation.reports.comparison import change, compare, compare_files, longer_answers
from evaluation.reports.report import BenchmarkReport, Prediction, ReportRules
from lit_longpo.errors import InputError


def report(scores, *, step=0, task="trec", **more):
    rows = [
        Prediction(f"{task}/{number}", 100, None, "Who?", ("I",), "text", score, task=task)
        for number, score in enumerate(scores)
    ]
    return BenchmarkReport("longbench", step, tuple(rows), "model", "protocol", **more)


def merged(*parts):
    return replace(parts[0], predictions=tuple(item for part in parts for item in part.predictions))


def test_differences_are_paired_by_id_whatever_the_order():
    first = report([0.0, 0.5, 1.0, 0.5])
    second = report([0.2, 0.7, 1.0, 0.3])
    (row,) = compare(first, replace(second, predictions=second.predictions[::-1])).rows
    assert row.difference.mean == pytest.approx(0.05)
    assert (row.num_better, row.num_worse, row.difference.num) == (2, 1, 4)
    assert (row.before, row.after) == pytest.approx((0.5, 0.55))


def test_pairing_sees_what_separate_intervals_would_hide():
    """Scores vary widely, the gain is nearly the same everywhere: no doubt is left."""
    scores = [number / 40 for number in range(30)]
    gains = [0.0099, 0.0101] * 15
    (row,) = compare(report(scores), report([score + gain for score, gain in zip(scores, gains, strict=True)])).rows
    assert row.difference.low == pytest.approx(0.01, abs=1e-4)
    assert row.difference.high == pytest.approx(0.01, abs=1e-4)


def test_answers_that_are_all_the_same_leave_room_for_a_difference():
    """Ten questions without one are no proof that there is none: it was 0.00 to 0.00."""
    (row,) = compare(report([1.0, 0.0] * 5), report([1.0, 0.0] * 5)).rows
    assert (row.difference.low, row.difference.mean, row.difference.high) == pytest.approx(
        (0.025**0.1 - 1, 0, 1 - 0.025**0.1)
    )


def about(context, found):
    """The same report, its predictions about contexts that the function names."""
    return replace(found, predictions=tuple(replace(item, context=context(item)) for item in found.predictions))


def test_questions_about_other_texts_are_said():
    """One file padded to two lengths has the same ids, questions and answers: it was `differs: nothing else`."""
    short, long = (about(lambda item, name=name: f"{name}{item.id}", report([0.5] * 3)) for name in ("a", "b"))
    assert compare(short, long).differing == ("the contexts of 3 of 3 questions",)
    assert not compare(short, short).differing
    assert not compare(report([0.5] * 3), long).differing  # stored before contexts were


def test_questions_of_one_context_are_no_independent_evidence():
    """Two contexts, one all better, one all worse: ten questions in each settle nothing."""
    scores, after = [0.5] * 20, [1.0] * 10 + [0.2] * 10
    alone, together = (
        compare(about(context, report(scores)), about(context, report(after)))
        for context in (lambda item: item.id, lambda item: str(int(item.id.split("/")[1]) // 10))
    )
    assert alone.rows[0].difference.low > -0.1
    assert (together.rows[0].difference.low, together.rows[0].difference.high) == pytest.approx((-0.3, 0.5))
    assert "over 2 contexts" in together.markdown()
    assert "over examples;" in alone.markdown()


def test_cut_prompts_are_said_beside_what_is_compared():
    first, second = report([0.0, 0.5]), report([0.2, 0.7])
    rows = (
        replace(second.predictions[0], num_tokens=300, num_lost=216),
        replace(second.predictions[1], num_tokens=100),
    )
    assert "cut in" not in compare(first, second).markdown()
    head = compare(first, replace(second, predictions=rows)).head
    assert [row for row in head if row[0].startswith("cut")] == [
        ("cut in b", "1 of 2 prompts, 54.0% of all prompts' tokens")
    ]


def test_a_change_in_one_line():
    scores, after = [0.5] * 20, [1.0] * 10 + [0.2] * 10
    first, second = (about(lambda item: str(int(item.id.split("/")[1]) // 10), report(n)) for n in (scores, after))
    assert change(first, second) == "+10.0 points (95% interval: -30.00 to 50.00) over 20 examples in 2 contexts"
    assert change(first, report(after, task="other")) == "no example in both reports"


def answered(text, **columns):
    found = report([0.0, 1.0], task="qa", tables={"qa": columns})
    return replace(found, predictions=tuple(replace(item, prediction=text) for item in found.predictions))


def test_longer_answers_that_raise_sub_em_alone_are_said():
    """As DPO did to SmolLM2: sub-EM rose by six points while F1 fell by eight."""
    short, long = answered("in Rome", sub_em=39.4, f1=47.1), answered("in Rome or in Paris or so", sub_em=46.0, f1=38.8)
    (text,) = longer_answers(short, long)
    assert text.startswith("qa: sub_em +6.6 but f1 -8.3; answers go from 2.0 to 7.0 words")
    assert ("beware", text) in compare(short, long).head


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"sub_em": 39.4, "f1": 47.1}, {"sub_em": 46.0, "f1": 46.5}),
        ({"sub_em": 46.0, "f1": 38.8}, {"sub_em": 39.4, "f1": 47.1}),
        ({"sub_em": 39.4}, {"sub_em": 46.0, "f1": 38.8}),
    ],
)
def test_scores_that_agree_or_are_not_both_there_need_no_word(before, after):
    assert longer_answers(answered("a", **before), answered("a", **after)) == []


def test_what_one_report_knows_of_contexts_holds_for_both():
    new = about(lambda item: "one" if item.id < "trec/2" else "two", report([1.0, 1.0, 0.0, 0.0]))
    old = report([0.0] * 4)
    assert "over examples, as nothing says which of them share a context;" in compare(old, old).markdown()
    assert "over 2 contexts" in compare(old, new).markdown()


def test_tasks_and_examples_are_summed_up_apart():
    first = merged(report([0.0] * 6), report([0.0] * 2, task="lcc"))
    second = merged(report([1.0] * 6), report([0.0] * 2, task="lcc"))
    rows = {row.task: row for row in compare(first, second).rows}
    assert list(rows) == ["trec", "lcc", "mean of tasks", "all examples"]
    assert rows["mean of tasks"].difference.mean == pytest.approx(0.5)
    assert rows["all examples"].difference.mean == pytest.approx(0.75)
    assert rows["mean of tasks"].after - rows["mean of tasks"].before == pytest.approx(0.5)
    assert rows["all examples"].num_better == 6


def test_ids_of_one_report_only_are_stated():
    found = compare(report([0.0, 1.0, 0.5]), report([0.0, 1.0]))
    assert found.only_first == ("trec/2",)
    assert "only in a: 1 ids (trec/2)" in found.markdown()
    assert "only in b: no id" in found.markdown()
    assert found.rows[0].difference.num == 2


def test_other_settings_are_stated():
    found = compare(report([0.1], settings={"max_length": 3500}), report([0.1], settings={"max_length": 7500}))
    assert found.differing == ("max_length: 3500 and 7500",)
    assert "differs: max_length: 3500 and 7500" in found.markdown()


def test_other_words_around_the_questions_are_a_warning():
    """A base model's generic prompt beside that of the training: +33 points, of which 17 were the prompt's."""
    asked = [{"prompt template": text, "chat template": text, "dtype": text} for text in ("{context} {question}", "x")]
    (told,) = [text for name, text in compare(*(report([0.1], settings=one) for one in asked)).head if name == "beware"]
    assert told.startswith("another prompt template, so the difference is not the models' alone; ask both in the same")
    for same in (asked[0], {"dtype": "x"}):
        assert "beware" not in dict(compare(report([0.1], settings=asked[0]), report([0.1], settings=same)).head)


def test_only_deviations_that_one_report_has_alone_differ():
    """Both sides' whole lists hid them."""
    both = "records: trec 1 of 200 official ones"
    ours, theirs = ((f"prompts cut to {length} tokens", both) for length in (512, 600))
    found = compare(report([0.1], deviations=ours), report([0.1], deviations=theirs))
    assert found.differing == ("deviations of one only: prompts cut to 512 tokens and prompts cut to 600 tokens",)
    found = compare(report([0.1], deviations=ours), report([0.1], deviations=(both,)))
    assert found.differing == ("deviations of one only: prompts cut to 512 tokens and none",)
    assert not compare(report([0.1], deviations=ours), report([0.1], deviations=ours[::-1])).differing


def test_official_scores_and_others_are_not_subtracted():
    official, sub_em = (report([0.1], tables={"trec": {name: 10.0}}) for name in ("score", "sub_em"))
    with pytest.raises(InputError, match=r"the same score, got score and sub_em.* type --rescore with the"):
        compare(official, sub_em)
    by_length = report([0.1], tables={"trec": {"score": 10.0, "8k": 10.0}})
    assert compare(official, by_length).rows  # of one score, at other lengths


def test_scores_that_share_their_tables_columns_are_told_apart_by_their_names():
    """F1 less sub-EM of the same answers was a gain, and `differs: nothing else`."""
    table = {"tables": {"trec": {"sub_em": 10.0, "f1": 20.0}}}
    by = {name: report([0.1], settings={"score of each answer": name}, **table) for name in ("sub_em", "f1")}
    with pytest.raises(InputError, match=r"the same score, got f1 and sub_em; .*qa: --benchmark.score_by"):
        compare(by["f1"], by["sub_em"])
    assert compare(by["f1"], by["f1"]).rows
    assert compare(by["f1"], report([0.1], **table)).rows  # stored before reports named their score


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "lveval"}, "the same name, got 'longbench' and 'lveval'"),
        ({"protocol": "other"}, "the same protocol, got 'protocol' and 'other'"),
        ({"predictions": report([0.1], task="lcc").predictions}, "ids that both reports have, got none"),
    ],
)
def test_what_cannot_be_compared_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        compare(report([0.1]), replace(report([0.1]), **change))


def test_the_same_questions_under_other_ids_are_named():
    """A SQuAD file and its rows as JSONL."""
    first = report([0.0, 1.0])
    rows = [replace(item, id=f"line-{number}", question=f"{number}?") for number, item in enumerate(first.predictions)]
    squad = [replace(item, id=f"56be{number}") for number, item in enumerate(rows)]
    words = r"got none; 2 of 2 questions are the same under other ids \(line-0 and 56be0\), .* run both on one file"
    with pytest.raises(ValueError, match=words):
        compare(replace(first, predictions=tuple(rows)), replace(first, predictions=tuple(squad)))
    with pytest.raises(ValueError, match="got none; run both on the same tasks"):
        compare(report([0.0]), report([1.0], task="qasper"))


def test_one_id_with_two_questions_is_refused():
    first = report([0.1])
    other = replace(first, predictions=(replace(first.predictions[0], question="Where?"),))
    with pytest.raises(ValueError, match="expected trec/0 to be one question"):
        compare(first, other)


def test_files_become_markdown(tmp_path):
    first, second = reports.longbench(seed=0), reports.longbench(seed=0)
    second = replace(second, step=40, predictions=tuple(replace(p, score=1.0) for p in second.predictions))
    first.save(tmp_path / "a.json")
    second.save(tmp_path / "b.json")
    text = compare_files(tmp_path / "a.json", tmp_path / "b.json")
    assert text.startswith("# longbench: b against a\n\n- a: models/&lt;small&gt;, step 20, 105 examples\n")
    paired, numbers = text.split("## Numbers of both reports")
    assert paired.count("\n| ") == 2 + 21 + 2
    assert "| average" not in paired
    assert "| category/average |" in numbers
    assert "2,000 resamples" in text
    assert "passage_retrieval_zh" in text
    assert "mean of tasks" in text


def test_a_file_that_is_no_report_is_named(tmp_path):
    path = tmp_path / "other.json"
    for text in ("{}", "[1]", "not json"):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"other\.json: .*; name a <benchmark>-step<n>\.json"):
            compare_files(path, path)
    with pytest.raises(FileNotFoundError):
        compare_files(tmp_path / "none.json", path)


def test_a_report_whose_rule_nobody_knows_is_not_compared(tmp_path, monkeypatch):
    """Its class is not imported, so all predictions would count."""

    class Right(ReportRules):
        name = "right answers only"

        @classmethod
        def counts(cls, prediction):
            return prediction.score == 1.0

    path = tmp_path / "a.json"
    replace(report([0.0, 1.0]), name=Right.name).save(path)
    assert "| trec | 1 |" in compare_files(path, path)
    monkeypatch.delitem(ReportRules._of, Right.name)
    with pytest.raises(ValueError, match=r"mean 1\.0 that .*a\.json states, got 0\.5 .*which of them count: import it"):
        compare_files(path, path)


@pytest.mark.parametrize("score", ["5", "-1", "NaN", '"1"', "true"])
def test_scores_that_are_none_are_refused(score, tmp_path):
    path = tmp_path / "needle-step0.json"
    row = '{"id": "a", "length": 1, "depth": null, "question": "q", "answers": ["a"], "prediction": "p", "score": %s}'
    path.write_text(f'{{"name": "needle", "step": 0, "predictions": [{row % score}]}}')
    with pytest.raises(ValueError, match=r"needle-step0.json: (field 'predictions\[0\].score'|record): expected"):
        compare_files(path, path)
