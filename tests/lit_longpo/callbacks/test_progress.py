import sys
from types import SimpleNamespace

import pytest
import rich
from rich import console

from lit_longpo.callbacks import TrainingProgressBar


@pytest.mark.parametrize(("max_epochs", "shown"), [(-1, "Epoch 2"), (None, "Epoch 2"), (3, "Epoch 2/2")])
def test_the_last_epoch_is_named_only_where_there_is_one(max_epochs, shown):
    bar = TrainingProgressBar()
    bar._trainer = SimpleNamespace(max_epochs=max_epochs)
    assert bar._get_train_description(2).rstrip() == shown


def test_names_beside_the_bar_are_short():
    metrics = {"train/loss": 1.0, "train/rewards/margins": 0.2, "perf/tokens_per_second": 3.0, "own": 4.0}
    trainer = SimpleNamespace(loggers=[SimpleNamespace(version=3)], progress_bar_metrics=metrics)
    shown = TrainingProgressBar().get_metrics(trainer, None)
    assert shown == {"loss": 1.0, "margin": 0.2, "tokens/s": 3.0, "own": 4.0}


def test_in_notebooks_the_streams_stay_as_they_are(monkeypatch):
    """rich's stand-in for stderr and IPython's display flush each other without end (rich 3390)."""
    monkeypatch.setattr(console, "_is_jupyter", lambda: True)
    bar, stream = TrainingProgressBar(), sys.stderr
    bar._init_progress(None)
    try:
        assert sys.stderr is stream
    finally:
        bar.progress.stop()
        rich.reconfigure()
