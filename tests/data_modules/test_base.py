"""Pairs -> packed batches: every example once, resume under Lightning, ranks, reports."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger
from support.recorded_fit import Recorder, fit
from support.word_pairs import FORMAT, LONGPO, SFT, SOLOPO_DPO, pair

from data_modules.base import PairDataModule
from data_modules.records import PreferencePair
from data_modules.rows.positions import PositionSynthesis
from lit_longpo.batch import Views
from lit_longpo.objectives import DPO, IPO, LOGO, ORPO, LongPO, SimPO, SoLoPO
from lit_longpo.objectives import SFT as SFTObjective


class Pairs(PairDataModule):
    def __init__(self, train: int = 12, val: int = 3, **options: Any) -> None:
        super().__init__(**{"prompt_format": FORMAT, "views": SOLOPO_DPO, "max_tokens": 80, **options})
        self.sizes = {"train": train, "val": val, "test": 0}

    def pairs(self, split: str) -> list[PreferencePair]:
        return [pair(n, long=10 + n % 5) for n in range(self.sizes[split])]


@given(st.integers(1, 15), st.integers(45, 150), st.integers(1, 5) | st.none())
@settings(max_examples=25, deadline=None)
def test_batches_hold_every_example_once(train: int, max_tokens: int, max_examples: int | None) -> None:
    data = Pairs(train, max_tokens=max_tokens, max_examples=max_examples)
    data.setup("fit")
    batches = list(data.train_dataloader())
    assert sorted(name for batch in batches for name in batch.policy.examples) == sorted(f"r{n}" for n in range(train))
    assert all(batch.policy.num_tokens <= max_tokens for batch in batches)
    assert all(len(batch.policy.examples) <= (max_examples or 99) for batch in batches)


def test_reference_rows_cover_train_and_val_once() -> None:
    data = Pairs(views=LONGPO)
    data.setup("fit")
    rows = list(data.reference_dataloader())
    assert [name for row in rows for name in row.examples] == [f"r{n}" for n in [*range(12), *range(3)]]
    wanted = {
        f
        for loader in (data.train_dataloader(), data.val_dataloader())
        for b in loader
        for f in b.reference.fingerprints
    }
    assert {fingerprint for row in rows for fingerprint in row.fingerprints} == wanted
    data = Pairs(views=SFT)
    data.setup("fit")
    assert list(data.reference_dataloader()) == []


@pytest.mark.parametrize("num_replicas", [2, 3])
def test_ranks_share_the_work(num_replicas: int) -> None:
    seen, counts = set(), set()
    for rank in range(num_replicas):
        data = Pairs()
        data.setup("fit")
        ranks = {"num_replicas": num_replicas, "rank": rank}
        data.trainer = SimpleNamespace(
            distributed_sampler_kwargs=ranks, strategy=SimpleNamespace(root_device=torch.device("cpu"))
        )
        names = [batch.policy.examples for batch in data.train_dataloader()]
        counts.add((len(names), len(list(data.reference_dataloader()))))
        seen.update(name for row in names for name in row)
    assert seen == {f"r{n}" for n in range(12)}
    assert len(counts) == 1


@pytest.mark.parametrize(
    ("max_length", "said"), [(None, ""), (14, "train: what the length policy did: 12 examples, 0 cut, ")]
)
def test_what_the_length_policy_did_is_said_where_it_did_something(max_length, said, caplog) -> None:
    """A run in which nothing was cut began with a line of zeros for each split."""
    caplog.set_level("INFO")
    Pairs(views=SFT, max_length=max_length, on_overlength="skip").setup("fit")
    assert ("the length policy did" in caplog.text) == bool(said)
    assert said in caplog.text
    assert "0 skipped" not in caplog.text


def test_a_split_of_which_nothing_is_left_is_told(caplog) -> None:
    """Only counts told that nothing was validated."""
    Pairs(views=SFT, max_length=3, on_overlength="skip").setup("validate")
    assert "val: all examples are longer than `data.init_args.max_length`, and none is left; raise it" in caplog.text


@pytest.mark.parametrize("num_examples", [1, 3, 5, 40])
def test_the_first_rows_are_those_of_the_training(num_examples: int) -> None:
    """As many on both ranks; all of them where there are fewer examples."""
    counts = set()
    for rank in range(2):
        data = Pairs(train=13, max_examples=2)
        assert list(data.first_rows(num_examples)) == []
        data.setup("fit")
        data.trainer = SimpleNamespace(
            distributed_sampler_kwargs={"num_replicas": 2, "rank": rank},
            strategy=SimpleNamespace(root_device=torch.device("cpu")),
        )
        trained = [batch.policy.examples for batch in data.train_dataloader()]
        first = [batch.policy.examples for batch in data.first_rows(num_examples)]
        assert first == trained[: len(first)]
        assert sum(map(len, first)) >= min(num_examples, 6) - 1  # a row of one may be among them
        counts.add(len(first))
    assert len(counts) == 1


def test_what_is_missing_is_said() -> None:
    with pytest.raises(ValueError, match="needs `views`"):
        Pairs(views=None).setup("fit")
    data = Pairs(train=0)
    data.setup("fit")
    with pytest.raises(ValueError, match="expected examples in the train split, got none"):
        data.train_dataloader()


@pytest.mark.parametrize("num_workers", [0, 1])
def test_resumed_fit_sees_what_an_uninterrupted_one_does(tmp_path: Path, num_workers: int) -> None:
    """From a checkpoint after any step, the last of an epoch included."""
    whole = fit(tmp_path, Pairs(num_workers=num_workers), 3).seen
    assert len({frozenset(rows) for rows in whole}) > len(whole) / 3  # epochs differ
    steps = range(1, len(whole)) if num_workers == 0 else [len(whole) // 2]
    for step in steps:
        resumed = fit(tmp_path, Pairs(num_workers=num_workers), 3, tmp_path / f"step={step}.ckpt")
        assert resumed.seen == whole[step:], step


def test_report_lies_in_the_run_folder(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    trainer = Trainer(
        accelerator="cpu", logger=logger, max_steps=1, enable_progress_bar=False, enable_model_summary=False
    )
    data = Pairs(max_length=16, on_overlength="truncate")
    trainer.fit(Recorder(), datamodule=data)
    report = json.loads((Path(logger.log_dir) / "data_report.json").read_text())["truncation"]
    assert report["train"]["examples"] == 12
    assert report["train"]["cut"] > 0
    assert report["train"]["tokens_lost"] == data.splits["train"].lengths.tokens_lost > 0
    assert set(report) == {"train", "val"}


class Emphasised(Pairs):
    """Every second record has a weight and a margin."""

    def pairs(self, split):
        records = [pair(number) for number in range(self.sizes[split])]
        return [replace(one, weight=0.5, margin=0.3) if number % 2 else one for number, one in enumerate(records)]


@pytest.mark.parametrize("margins", [False, True])
def test_weights_and_margins_reach_the_batch_in_its_order(margins):
    views = replace(SOLOPO_DPO, margins=margins)
    if not margins:
        with pytest.raises(ValueError, match=r"subtracts none.*got 0.3 in record 'r1'; take the field `margin` out"):
            Emphasised(views=views).setup("fit")
        return
    for batch in _ready(Emphasised(views=views)).train_dataloader():
        odd = [int(name[1:]) % 2 for name in batch.policy.examples]
        assert batch.weights.tolist() == [0.5 if number else 1.0 for number in odd]
        assert batch.margins.tolist() == pytest.approx([0.3 * number for number in odd])
    assert next(iter(_ready(Pairs()).train_dataloader())).weights is None


def test_a_margin_of_answers_that_nobody_compares_is_not_asked_for():
    batch = next(iter(_ready(Emphasised(views=SFT)).train_dataloader()))
    assert batch.margins is None
    assert set(batch.weights.tolist()) == {0.5, 1.0}


class SomeDoubled(Pairs):
    """Every second record has two rejected answers."""

    def pairs(self, split):
        return [pair(number, rejected=1 + number % 2) for number in range(self.sizes[split])]


@pytest.mark.parametrize(("views", "said"), [(SFT, False), (SOLOPO_DPO, True), (replace(LONGPO, num_rejected=1), True)])
def test_rejected_answers_that_are_not_used_are_counted(views, said, caplog):
    SomeDoubled(views=views).setup("fit")
    message = "train: 6 of 12 records have rejected answers that are not used: only the first 1 of each"
    assert (message in caplog.text) == said


@pytest.mark.parametrize("positions", [None, PositionSynthesis(400, 2)])
def test_the_data_say_what_positions_they_reach(positions):
    data = Pairs(positions=positions, max_tokens=200)
    data.setup("fit")
    rows = [batch.policy for batch in (*data.train_dataloader(), *data.val_dataloader())]
    assert data.reach == max(int(row.position_ids.max()) for row in rows) + 1
    assert (data.reach == 400) == (positions is not None)


def test_long_prompts_can_be_made_of_short_ones():
    positions = PositionSynthesis(400, 2)
    data = Pairs(positions=positions, long_positions="synthesised", max_tokens=200)
    data.setup("fit")
    batch = next(iter(data.train_dataloader())).policy
    assert batch.position_ids.max() == 399
    longest = max(len(p.short_context.split()) for p in data.pairs("train"))
    true = next(iter(_ready(Pairs(max_tokens=200)).train_dataloader())).policy
    assert batch.num_tokens < true.num_tokens
    distractors = {FORMAT.encode(word)[0] for word in ("word40", "word60")}  # of every long context, and no short one
    assert distractors & set(true.input_ids.flatten().tolist())
    assert not distractors & {t for row in data.train_dataloader() for t in row.policy.input_ids.flatten().tolist()}
    assert data.reports()["positions"] == {"train": {"stretched": 12}, "val": {"stretched": 3}}
    assert longest == 3
    with pytest.raises(ValueError, match="target_length"):
        Pairs(long_positions="synthesised")


def test_prompts_too_long_for_their_positions_are_counted_or_refused(caplog):
    rows = _ready(Pairs())._encoded["train"]
    lengths = sorted(group.num_tokens for row in rows for group in row.policy if group.context == "long")
    with caplog.at_level(logging.WARNING):
        data = _ready(Pairs(positions=PositionSynthesis(lengths[len(lengths) // 2], 2)))
    assert data.reports()["positions"]["train"]["too_long"] > 0
    assert "keep their true positions" in caplog.text
    with pytest.raises(ValueError, match=r"train: 12 of 12 long prompts.*raise it"):
        _ready(Pairs(positions=PositionSynthesis(4, 2)))
    assert _ready(Pairs(positions=PositionSynthesis(4, 2, scheme="none"))).reports()["positions"]["train"] == {}


def _ready(data):
    data.setup("fit")
    return data


EVERY_OBJECTIVE = [
    SFTObjective(context="short"),
    SFTObjective(),
    DPO(),
    IPO(),
    SimPO(context="short"),
    ORPO(),
    SoLoPO(),
    SoLoPO(base=DPO()),
    LongPO(),
    LOGO(num_rejected=2),
]


class VariedPairs(Pairs):
    """Lengths of contexts and answers that have nothing to do with each other."""

    def pairs(self, split: str) -> list[PreferencePair]:
        made = [pair(n, long=20 + 7 * n % 23) for n in range(self.sizes[split])]
        more = [" word9" * (3 * n % 7) for n in range(len(made))]
        return [
            replace(one, short_context=one.short_context + more[n] * 2, rejected=(one.rejected[0] + more[-n], "word8"))
            for n, one in enumerate(made)
        ]


def pairs_by_step(views: Views, **options: Any) -> list[list[list[str]]]:
    data = VariedPairs(12, views=views, max_tokens=300, max_examples=3, **options)
    data.setup("fit")
    stores = [(data._encoded[split], split == "train") for split in ("train", "val")]
    samplers = [(store, data._dealer.sampler("", store, None, shuffle=shuffle)) for store, shuffle in stores]
    return [[[store.names[n] for n in row] for row in sampler.batches(1)] for store, sampler in samplers]


@pytest.mark.parametrize("options", [{}, {"max_length": 40, "on_overlength": "skip"}, {"prefix_sharing": False}])
def test_every_objective_sees_the_same_pairs_in_the_same_steps(options: dict[str, Any]) -> None:
    seen = [pairs_by_step(module.views, rows_by="all_views", **options) for module in EVERY_OBJECTIVE]
    assert all(steps == seen[0] for steps in seen[1:])
    assert 2 < len(seen[0][0]) < 12
    left = sum(map(len, seen[0][0]))
    assert left == 12 if "max_length" not in options else 0 < left < 12
    by_objective = [pairs_by_step(module.views, **options) for module in EVERY_OBJECTIVE[:2]]
    assert by_objective[0] != by_objective[1]  # what the option is for


def test_rows_by_all_views_need_only_what_the_record_holds() -> None:
    """Pairs without a short context, or without rejected answers, are rows of what is there."""
    data = Pairs(views=SFT, rows_by="all_views")
    data.pairs = lambda split: [replace(pair(0), id=split, short_context="", rejected=())]  # type: ignore[method-assign]
    data.setup("fit")
    example = data._encoded["train"][0]
    assert list(data._encoded["train"].lengths) == [example.num_tokens]
