import json

import pytest
from support import official_layout
from support.official_data import official
from support.ranks import run_ranks
from torch import distributed

from evaluation import LongBench, LongBenchV2
from evaluation.running.responses import Responses, StoredResponse, record_hash
from evaluation.running.task_scores import AnswerScores, score_task


class Counting(LongBench):
    """Remembers which answers it scored."""

    name = "counting"

    def score(self, example, prediction):
        self.scored = [*getattr(self, "scored", []), example.id]
        return super().score(example, prediction)


def answered(bench, texts):
    """Responses to the first examples, as every process has them."""
    examples, responses = list(bench.examples("hotpotqa")), Responses()
    for example, text in zip(examples, texts, strict=False):
        responses.remember(
            "hotpotqa", [StoredResponse(example.id, 0, text, 10, 0, record_hash(example), False, False, False)]
        )
    return examples, responses


TEXTS = ("Greta", "by Greta", "Oslo", "Greta in Oslo", "")
SCORES = [1.0, 2 / 3, 0.0, 0.5, 0.0]


def test_every_answer_is_scored_once(tmp_path):
    bench = Counting(official_layout.longbench(tmp_path, {"hotpotqa": 6}))
    part = score_task(bench, *answered(bench, TEXTS), 6)
    assert bench.scored == [f"hotpotqa/r{number}" for number in range(5)]
    assert [item.score for item in part.predictions] == pytest.approx(SCORES)
    assert (part.table, part.num_chosen) == ({"score": 43.33}, 6)


@pytest.mark.parametrize("texts", [(), TEXTS[:1]], ids=["none", "one"])
def test_few_answers_are_scored_too(tmp_path, texts):
    bench = LongBench(official_layout.longbench(tmp_path, {"hotpotqa": 6}))
    part = score_task(bench, *answered(bench, texts), 6)
    assert [item.score for item in part.predictions] == SCORES[: len(texts)]


def test_an_answer_cut_off_in_its_thoughts_counts_against_the_model(tmp_path):
    """LongBench v2 leaves empty answers out of its means: the model would be the better the more it is cut off."""
    bench = LongBenchV2(official("longbench_v2"))
    examples, responses = list(bench.examples("longbench_v2"))[:2], Responses()
    right = [f"The correct answer is ({example.answers[0]})" for example in examples]
    for opened, text in ((None, f"<think>{right[0]}? Or"), (True, f"{right[0]}? Or")):  # by the model, by its prompt
        for example, said in zip(examples, (text, f"<think>A</think>{right[1]}"), strict=True):
            row = StoredResponse(example.id, 0, said, 10, 0, record_hash(example), False, opened, False)
            responses.remember("longbench_v2", [row])
        part = score_task(bench, examples, responses, 503)
        assert [bench.counts(item) for item in part.predictions] == [True, True]
        assert [item.score for item in part.predictions] == [0, 1]
    responses.remember(
        "longbench_v2", [StoredResponse(examples[0].id, 0, "", 10, 0, record_hash(examples[0]), False, False, False)]
    )
    empty = score_task(bench, examples, responses, 503).predictions[0]
    assert not bench.counts(empty)


def score_on_rank(folder, records):
    """One of three processes, of which the last has one answer less."""
    distributed.init_process_group("gloo")
    bench, rank = Counting(records), distributed.get_rank()
    part = score_task(bench, *answered(bench, TEXTS), 6)
    facts = {"scored": bench.scored, "scores": [item.score for item in part.predictions], "table": dict(part.table)}
    (folder / f"{rank}.json").write_text(json.dumps(facts))
    distributed.barrier()
    distributed.destroy_process_group()


def test_processes_share_the_scoring_and_all_know_all_scores(tmp_path):
    """To the last digit as one process alone has them."""
    records = official_layout.longbench(tmp_path, {"hotpotqa": 6})
    bench = LongBench(records)
    alone = score_task(bench, *answered(bench, TEXTS), 6)
    run_ranks(score_on_rank, tmp_path, records, num_ranks=3)
    facts = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(3)]
    assert [[int(name[-1]) for name in item["scored"]] for item in facts] == [[0, 3], [1, 4], [2]]
    for item in facts:
        assert item["scores"] == [row.score for row in alone.predictions]
        assert item["table"] == alone.table


def test_scores_are_given_once_and_forgotten_when_reset():
    scores = AnswerScores(3)
    scores.update([2, 0], [0.5, 1.0])
    scores.update([1], [0.25])
    assert scores.compute().tolist() == [1.0, 0.25, 0.5]
    scores.update([1], [0.25])
    with pytest.raises(AssertionError, match="scored once"):
        scores.compute()
    scores.reset()
    assert not scores.scores.any()
    assert not scores.times.any()
