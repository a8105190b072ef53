"""Read = trained on + filtered + refused + not reached, whatever is left out, however often a run goes on."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from support.qa_files import musique, write
from support.word_pairs import FORMAT, SFT, pair

from data_modules import MixtureDataModule, PreferenceDataModule, QADataModule
from data_modules.records import write_pairs
from data_modules.rows.accounts import Account, Selection, account_of
from data_modules.rows.truncation import SplitLengths
from lit_longpo.callbacks import RecordAccount
from lit_longpo.errors import LostRecordsError

ROWS = {"views": SFT, "prompt_format": FORMAT, "max_tokens": 200, "max_examples": 2}


class Stub(LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch, batch_idx):
        return self.weight * 0

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(data, folder, steps, caplog, resume=None, **options):
    """The line at the end."""
    caplog.set_level("INFO", "lit_longpo.callbacks")
    trainer = Trainer(
        accelerator="cpu", max_epochs=-1, max_steps=steps, logger=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False, limit_val_batches=0,
        callbacks=[RecordAccount(), ModelCheckpoint(folder, "{step}", every_n_train_steps=steps)], **options,
    )  # fmt: skip
    trainer.fit(Stub(), datamodule=data, ckpt_path=resume)
    return [record.getMessage() for record in caplog.records if record.name.endswith("record_account")][-1]


def pairs_file(folder, name="pairs.jsonl", count=20, first=0):
    """Every fifth was found worse, every sixth is too long for 40 tokens."""
    pairs = (pair(number, 60 if number % 6 == 5 else 20) for number in range(first, first + count))
    path = folder / name
    write_pairs(path, [replace(item, verified=number % 5 != 4) for number, item in enumerate(pairs)])
    return str(path)


def filtered_data(folder, **options):
    left_out = {"keep": "not_worse", "first": 14, "val_fraction": 0.15, "max_length": 40, "on_overlength": "skip"}
    return PreferenceDataModule(pairs_file(folder), **left_out, **{**ROWS, **options})


# 20, of which 4 were found worse, and 2 of the 16 others come after the first 14; 2 are held out, 2 or 3 too long.
FILTERED = "filtered (not `keep: not_worse`: 4; after `first: 14`: 2; held out for validation: 2; too long: 2)"


@pytest.mark.parametrize("cache", [False, True])
def test_every_record_that_was_read_is_said(cache, tmp_path, caplog):
    options = {"token_cache": str(tmp_path / "tokens")} if cache else {}
    for _ in range(1 + cache):  # the second time tokens are read from the disk, and no record is
        line = fit(filtered_data(tmp_path, **options), tmp_path, 10, caplog)  # two epochs of 5 rows
        assert line == f"records: 20 read = 10 trained on + 10 {FILTERED} + 0 refused"


def test_a_run_that_goes_on_counts_what_was_trained_before(tmp_path, caplog):
    line = fit(filtered_data(tmp_path), tmp_path, 2, caplog)
    assert line.startswith("records: 20 read = 4 trained on + 10 filtered")
    assert line.endswith("+ 6 not reached, as the training was over before")
    line = fit(filtered_data(tmp_path), tmp_path / "more", 4, caplog, tmp_path / "step=2.ckpt")
    assert line.startswith("records: 20 read = 8 trained on")
    assert line.endswith("+ 2 not reached, as the training was over before")


def test_limited_batches_are_not_reached_in_any_epoch(tmp_path, caplog):
    data = PreferenceDataModule(pairs_file(tmp_path, count=8), val_fraction=0.0, **ROWS)
    line = fit(data, tmp_path, 1, caplog, limit_train_batches=1)
    assert line.startswith("records: 8 read = 2 trained on + 0 filtered + 0 refused + 6 not reached")


def test_the_rows_of_all_ranks_are_one_account(tmp_path):
    accounts = list[str]()
    for rank in (0, 1):
        data = PreferenceDataModule(pairs_file(tmp_path, count=9), val_fraction=0.0, **ROWS)
        data.trainer = SimpleNamespace(
            distributed_sampler_kwargs={"num_replicas": 2, "rank": rank}, is_global_zero=True, loggers=[],
            strategy=SimpleNamespace(root_device=torch.device("cpu")), default_root_dir=str(tmp_path),
        )  # fmt: skip
        data.setup("fit")
        data.train_dataloader()
        accounts += [data.account({0: 1}), data.account({0: 3})]  # 5 rows, and one of them again, are 3 for each
    assert accounts[:2] == accounts[2:]
    assert accounts[1] == "records: 9 read = 9 trained on + 0 filtered + 0 refused"
    assert "not reached" in accounts[0]


def test_sources_of_a_mixture_are_one_account(tmp_path, caplog):
    def source(name, count, first, fraction):
        path = pairs_file(tmp_path, name, count, first)
        return PreferenceDataModule(path, val_fraction=fraction, max_length=40, on_overlength="skip")

    def mixed():
        sources = {"a": source("a.jsonl", 12, 0, 0.25), "b": source("b.jsonl", 6, 6, 0.0)}  # b is half of a
        return MixtureDataModule(sources, {"a": 0.7, "b": 0.3}, "repeat", **ROWS)

    # A quarter of 12 is held out, by the seed one of the two that are too long, and one of the six that b has, too.
    assert fit(mixed(), tmp_path, 30, caplog) == (
        "records: 18 read = 12 trained on + 6 filtered (a, held out for validation: 3; a, too long: 1; b, too long: 1; "
        "b, of a document that another source validates on: 1) + 0 refused"
    )


def test_questions_without_a_pair_are_refused_and_turns_are_counted(tmp_path):
    records = [musique(number) for number in range(6)]
    records[2] = musique(2, answerable=False)
    records.append(musique(0, id="again", question="And when was it opened?"))
    path = write(tmp_path / "set.jsonl", records)
    data = QADataModule(str(path), val_fraction=0.0, turns=2, first=6, **ROWS)
    pairs, selection = data.pairs("train"), data._selections["train"]
    account = account_of(selection, SplitLengths(examples=len(pairs)), len(pairs))
    assert account.line(len(pairs)) == (
        "records: 7 read = 4 trained on + 2 filtered (after `first: 6`: 1; a further turn of one of these: 1) + "
        "1 refused (the passages do not answer the question: 1)"
    )


class Odd(PreferenceDataModule):
    """A class of others that takes every second pair."""

    def pairs(self, split):
        return super().pairs(split)[::2]


def test_what_a_class_of_others_leaves_out_is_filtered(tmp_path, caplog):
    line = fit(Odd(pairs_file(tmp_path, count=8), val_fraction=0.0, **ROWS), tmp_path, 2, caplog)
    assert line == "records: 8 read = 4 trained on + 4 filtered (left out by Odd: 4) + 0 refused"


def test_a_sum_that_is_wrong_is_said_before_a_model_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr("data_modules.preference.first_of", lambda pairs, *_: pairs[1:])
    monkeypatch.setattr("data_modules.rows.accounts.Selection.filter", lambda self, reason, items: items)
    data = PreferenceDataModule(pairs_file(tmp_path, count=8), val_fraction=0.0, **ROWS)
    with pytest.raises(LostRecordsError, match="8 were to be tokenised, 7 were"):
        data.setup("fit")


class Loses(PreferenceDataModule):
    """One of the rows has an example less, or another one twice."""

    def __init__(self, *arguments, change, **options):
        super().__init__(*arguments, **options)
        self.change = change

    def train_dataloader(self):
        loader = super().train_dataloader()
        before = loader.collate_fn
        loader.collate_fn = lambda examples: before(self.change(list(examples)))
        return loader


@pytest.mark.parametrize("change", [lambda row: row[:1], lambda row: [row[0], replace_name(row[0])]])
def test_a_row_that_lost_or_swapped_an_example_stops_the_run(change, tmp_path, caplog):
    data = Loses(pairs_file(tmp_path, count=8), val_fraction=0.0, change=change, **ROWS)
    with pytest.raises(LostRecordsError, match="records are lost or doubled: rows 0 to 4 of epoch 0 were to hold 8"):
        fit(data, tmp_path, 4, caplog)


def replace_name(example):
    return replace(example, policy=tuple(replace(group, example="another") for group in example.policy))


def test_sums_that_are_wrong_are_no_account():
    with pytest.raises(LostRecordsError, match="5 were to be tokenised, 4 were"):
        account_of(Selection(7, {"a": 2}), SplitLengths(examples=4), 4)
    with pytest.raises(LostRecordsError, match="7 read, 4 examples, 2 filtered, 0 refused, 4 trained on"):
        Account(7, 4, {"a": 2}, {}).line(4)
    with pytest.raises(LostRecordsError, match="lost or doubled"):
        Account(4, 4, {}, {}).line(5)
    assert json.loads(json.dumps(Selection(3).__dict__)) == {"read": 3, "filtered": {}, "refused": {}, "unread": []}
