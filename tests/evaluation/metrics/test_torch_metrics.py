import json
import math

import pytest
import torch
from support.ranks import run_ranks
from torch import distributed

from evaluation.metrics import LongBenchEScore, LongBenchV2Accuracy, OfficialScore, SubEM, aggregate


@pytest.mark.filterwarnings("ignore:The ``compute`` method:UserWarning")
def test_nothing_has_no_mean():
    assert math.isnan(SubEM().compute())


def test_sub_em_is_a_mean():
    metric = SubEM()
    for prediction in ("in Paris", "in Oslo", "Paris!", "no"):
        metric.update(prediction, ["Paris"])
    assert metric.compute() == 0.5


def test_official_scores_pass_everything_on():
    metric = OfficialScore("longbench", "trec")
    metric.update("a b", ["a"], all_classes=["a", "b"])
    metric.update("a", ["a"], all_classes=["a", "b"])
    assert metric.compute() == 0.75
    gated = OfficialScore("lveval", "loogle_SD_mixup_16k")
    gated.update("x", ["x"], answer_keywords="y")
    assert gated.compute() == 0.0


def test_empty_responses_of_v2_are_left_out():
    metric = OfficialScore("longbench_v2", "")
    for response in ("The correct answer is A", "", "no idea"):
        metric.update(response, ["A"])
    assert metric.compute() == 0.5


def test_buckets_agree_with_the_file_score():
    predictions, answers, lengths = ["x", "y", "x y"], [["x"]] * 3, [100, 5000, 6000]
    metric = LongBenchEScore("qasper_e")
    for prediction, accepted, length in zip(predictions, answers, lengths, strict=True):
        metric.update(prediction, accepted, length)
    expected = aggregate("longbench", "qasper_e", predictions, answers, lengths)
    assert {name: round(100 * float(value), 2) for name, value in metric.compute().items() if value == value} == {
        name: value for name, value in expected.items() if value == value
    }


def test_v2_groups():
    metric = LongBenchV2Accuracy()
    metric.update("The correct answer is A", "A", difficulty="easy", length="short")
    metric.update("The correct answer is B", "A", difficulty="hard", length="short")
    metric.update("", "A", difficulty="hard", length="long")
    scores = {name: float(value) for name, value in metric.compute().items()}
    assert math.isnan(scores.pop("Long"))
    assert math.isnan(scores.pop("Medium"))
    assert scores == {"Overall": 0.5, "Easy": 1.0, "Hard": 0.0, "Short": 0.5}


def test_ranks_add_up():
    """One rank has 1 of 1, the other 0 of 3: a mean of means would be 0.5."""
    other = SubEM()
    for _ in range(3):
        other.update("no", ["x"])

    def gather(tensor, group=None):
        theirs = {metric.total.data_ptr(): other.total, metric.count.data_ptr(): other.count}
        return [tensor, theirs.get(tensor.data_ptr(), torch.zeros_like(tensor))]

    metric = SubEM(distributed_available_fn=lambda: True, dist_sync_fn=gather)
    metric.update("x", ["x"])
    assert metric.compute() == 0.25
    assert metric.count.tolist() == [1.0]  # only the synced copy was added up


RESPONSES = (["C"], ["D", "D", "D"])  # of two ranks; right once on the first, never on the second
GROUPS = ({"difficulty": "easy", "length": "short"}, {"difficulty": "hard", "length": "short"})


def score_on_rank(folder):
    """One of two processes."""
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    mean, groups = SubEM(), LongBenchV2Accuracy()
    for response in RESPONSES[rank]:
        mean.update(response, ["C"])
        groups.update(f"The correct answer is {response}", "C", **GROUPS[rank])
    found = {"mean": mean.compute().item(), "groups": {name: value.item() for name, value in groups.compute().items()}}
    (folder / f"{rank}.json").write_text(json.dumps({**found, "count": mean.count.tolist()}))
    distributed.barrier()
    distributed.destroy_process_group()


def test_two_real_ranks_add_up(tmp_path):
    run_ranks(score_on_rank, tmp_path)
    for rank, count in enumerate((1.0, 3.0)):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        assert (found["mean"], found["count"]) == (0.25, [count])
        assert all(math.isnan(found["groups"].pop(name)) for name in ("Medium", "Long"))
        assert found["groups"] == {"Overall": 0.25, "Easy": 1.0, "Hard": 0.0, "Short": 0.25}


@pytest.mark.parametrize("metric", [SubEM(), LongBenchV2Accuracy()])
def test_resetting_forgets(metric):
    metric.total += 1
    metric.reset()
    assert not metric.total.any()
