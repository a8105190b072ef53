"""What the data module is told of the rows: of every epoch, whoever trained them; the sums: data_modules/rows."""

from types import SimpleNamespace

import pytest

from lit_longpo.callbacks import RecordAccount
from lit_longpo.errors import LostRecordsError

ROWS = 4  # of an epoch


class Data:
    """Deals names by epoch and number."""

    def __init__(self):
        self.told = None

    def planned(self, epoch, start, end):
        return [f"{epoch}-{number}" for number in range(start, end)]

    def account(self, rows):
        self.told = dict(rows)
        return "records: all"


def run(data, epochs, *, total=0, epoch=0):
    """Rows of some epochs, and the end."""
    progress = SimpleNamespace(batch_progress=SimpleNamespace(total=SimpleNamespace(ready=total)))
    trainer = SimpleNamespace(
        datamodule=data, is_global_zero=True, current_epoch=epoch, num_training_batches=ROWS,
        fit_loop=SimpleNamespace(epoch_loop=progress),
    )  # fmt: skip
    callback = RecordAccount()
    callback.on_train_start(trainer, None)
    for trainer.current_epoch, numbers in epochs.items():
        for number in numbers:
            batch = SimpleNamespace(policy=SimpleNamespace(examples=[f"{trainer.current_epoch}-{number}"]))
            callback.on_train_batch_end(trainer, None, None, batch, number)
        callback.on_train_epoch_end(trainer, None)
    callback.on_train_end(trainer, None)
    return data.told


def test_rows_of_whole_and_of_resumed_epochs_are_counted():
    assert run(Data(), {0: range(4), 1: range(2)}) == {0: 4, 1: 2}
    assert run(Data(), {2: range(1, 3)}) == {0: 4, 1: 4, 2: 3}  # two epochs and a row came before


@pytest.mark.parametrize(
    ("total", "epoch", "expected"), [(2, 0, {0: 2}), (6, 1, {0: 4, 1: 2}), (8, 2, {0: 4, 1: 4, 2: 0})]
)
def test_a_run_that_was_over_counts_what_was_trained(total, epoch, expected):
    assert run(Data(), {}, total=total, epoch=epoch) == expected


def test_rows_that_are_skipped_or_come_twice_stop_the_run():
    with pytest.raises(LostRecordsError, match="row 2 of epoch 0 came after row 0"):
        run(Data(), {0: [0, 2]})
    with pytest.raises(LostRecordsError, match="row 1 of epoch 0 came after row 1"):
        run(Data(), {0: [0, 1, 1]})


def test_data_that_keep_no_account_are_left_alone():
    assert run(SimpleNamespace(told="nothing"), {0: range(2)}) == "nothing"
