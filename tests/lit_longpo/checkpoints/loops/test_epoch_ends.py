"""A run that goes on from an epoch's end has the next epoch, all of it, from whichever hook the checkpoint is."""

import pytest
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping
from support import resume_worker

from data_modules import SyntheticDataModule
from lit_longpo.objectives import ORPO
from lit_longpo.policy import PolicyConfig

EPOCH = 3  # rows


class Rows(Callback):
    """The epoch and the records of every row; a checkpoint in every hook that may write one behind an epoch's last."""

    def __init__(self, folder, last):
        self.folder, self.last, self.seen = folder, last, []

    def _save(self, trainer, place):
        if trainer.global_step == self.last:
            trainer.save_checkpoint(self.folder / f"{place}.ckpt")

    def on_train_batch_start(self, trainer, module, batch, *_):
        self.seen.append((trainer.current_epoch, batch.policy.examples))

    def on_train_batch_end(self, trainer, *_):
        self._save(trainer, "row")

    def on_validation_end(self, trainer, module):
        self._save(trainer, "validation")

    def on_train_epoch_end(self, trainer, module):
        self._save(trainer, "epoch")

    def on_train_end(self, trainer, module):
        self._save(trainer, "training")


def seen(folder, epochs, workers, last=0, checkpoint=None, **options):
    """Epoch and records of every row, and what was watched; checkpoints are written after step `last`."""
    policy = PolicyConfig(weights="random")
    module, rows = ORPO(policy=policy), Rows(folder, last)
    data = SyntheticDataModule(
        num_train=6, num_val=1, short_words=8, long_words=(8, 12), max_examples=2, num_workers=workers,
        views=module.views, prompt_format=policy.prompt_format(),
    )  # fmt: skip
    watch = EarlyStopping("val/loss", patience=9)
    trainer = resume_worker.trainer_for("single", folder, rows, watch, steps=options.pop("steps", -1), **options)
    trainer.fit_loop.max_epochs = epochs
    trainer.fit(module, datamodule=data, ckpt_path=checkpoint)
    return rows.seen, (float(watch.best_score), watch.wait_count)


@pytest.mark.parametrize(
    ("workers", "rows", "options"),
    [
        pytest.param(1, 2, {"limit_train_batches": 2, "steps": 3}, id="all"),
        pytest.param(1, EPOCH, {}, id="workers", marks=pytest.mark.slow),
        pytest.param(0, EPOCH, {"steps": EPOCH + 2}, id="max_steps", marks=pytest.mark.slow),
        pytest.param(0, 2, {"limit_train_batches": 2}, id="limited", marks=pytest.mark.slow),
    ],
)
def test_an_epoch_follows_whole_whatever_wrote_the_checkpoint_at_the_end_of_the_one_before(
    workers, rows, options, tmp_path
):
    """verl#7401 under Lightning 2.6: it was left out, had no rows, or went on with those of the epoch before.

    Before its end a checkpoint left that out, or there was nothing to be watched (Lightning#18595).
    """
    whole, watched = seen(tmp_path, 2, workers, rows, **options)
    assert [epoch for epoch, _ in whole] == [0] * rows + [1] * (options.get("steps", 2 * rows) - rows)
    assert {path.stem for path in tmp_path.glob("*.ckpt")} == {"row", "validation", "epoch"}
    for path in tmp_path.glob("*.ckpt"):
        rest, watched_again = seen(tmp_path, 2, workers, checkpoint=path, **options)
        assert rest == whole[rows:], path.stem
        if path.stem != "epoch":  # it was saved before the value was looked at
            assert watched_again == watched, path.stem
    # A training that ended there is given more to do; its learning rates were others.
    ended = {**options, "steps": rows} if "steps" in options else options
    seen(tmp_path / "ended", 2 if "steps" in options else 1, workers, rows, **ended)
    assert seen(tmp_path, 2, workers, checkpoint=tmp_path / "ended/training.ckpt", **options)[0] == whole[rows:]
