"""A fit that only tries whether it runs asks few questions."""

from types import SimpleNamespace

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.demos.boring_classes import BoringModel
from support.reports import longbench

from data_modules import WorldHaystack
from evaluation import NeedleCallback
from evaluation.callbacks import benchmark
from evaluation.reports.pages import Pages
from lit_longpo.errors import InputError

pytestmark = pytest.mark.usefixtures("blank_pictures")


class Asked:
    """In the place of the runner: what it was told, nothing answered."""

    limits = []

    def __init__(self, benchmark, model, prompt_format, settings, responses, extremes):
        self.limits.append(settings.limit)

    def run(self, **names):
        return SimpleNamespace(predictions=())


@pytest.fixture
def limits(monkeypatch):
    monkeypatch.setattr(benchmark, "Runner", Asked)
    monkeypatch.setattr(benchmark, "check_lengths", lambda *_: None)
    monkeypatch.setattr(benchmark, "base_model", lambda model: SimpleNamespace(config=None))
    monkeypatch.setattr(benchmark, "readable_positions", lambda config: None)
    monkeypatch.setattr(benchmark.Store, "manifest", {})  # there is no model to tell apart
    monkeypatch.setattr(Asked, "limits", [])
    return Asked.limits


def trainer_and_model(folder, limit, **options):
    needle = NeedleCallback(WorldHaystack(), lengths=(32,), depths=(0.5,), num_examples=40, limit=limit)
    model = BoringModel()
    model.model, model.prompt_format, model.policy = None, object(), SimpleNamespace(source="x")
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    quiet |= {"enable_model_summary": False, "num_sanity_val_steps": 0, "accelerator": "cpu"}
    return Trainer(default_root_dir=folder, callbacks=[needle], **quiet, **options), model


@pytest.mark.parametrize(
    ("options", "limit", "expected"),
    [
        ({"fast_dev_run": True}, None, 2),
        ({"fast_dev_run": True}, 1, 1),
        ({"max_steps": 2}, None, 20),
        pytest.param({"max_steps": 2}, 5, 5, marks=pytest.mark.slow),
        pytest.param({"max_epochs": 1, "limit_train_batches": 10}, None, 20, marks=pytest.mark.slow),
        ({"max_steps": 11}, None, None),
        ({"max_epochs": 1, "accumulate_grad_batches": 16}, None, None),  # all 64 rows in 4 steps
        pytest.param({"max_steps": 11}, 500, 500, marks=pytest.mark.slow),
    ],
)
def test_a_trial_asks_few_questions_and_says_so(options, limit, expected, limits, tmp_path, caplog):
    trainer, model = trainer_and_model(tmp_path, limit, **options)
    trainer.fit(model)
    assert set(limits) == {expected}
    assert ("this run is a trial" in caplog.text) == (expected not in (None, 500))
    assert len(limits) > 1  # before training and after it


def test_validate_after_a_trial_asks_all(limits, tmp_path):
    trainer, model = trainer_and_model(tmp_path, None, max_steps=2)
    trainer.fit(model)
    limits.clear()
    trainer.validate(model)
    assert limits == [None]


def test_validate_of_a_trial_asks_few_too(limits, tmp_path):
    trainer, model = trainer_and_model(tmp_path, None, fast_dev_run=True)
    trainer.validate(model)
    assert limits == [2]


@pytest.mark.parametrize("dry", [True, False])
def test_a_dry_run_writes_its_reports_for_a_try_only(dry, limits, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    report, written = longbench(tasks=("qasper",), count=2), []
    monkeypatch.setattr(Asked, "run", lambda self, **names: report)
    write = Pages.write
    monkeypatch.setattr(Pages, "write", lambda *words: written.append([path.stat().st_size for path in write(*words)]))
    trainer, model = trainer_and_model(tmp_path, None, **({"fast_dev_run": True} if dry else {"max_steps": 1}))
    trainer.fit(model)
    assert len(written) == 2
    assert all(map(all, written))
    assert (list(tmp_path.iterdir()) == []) == dry
    assert ("reports are not kept" in caplog.text) == dry


def test_a_validation_between_two_steps_asks_nothing_again(limits, tmp_path):
    """Of 64 rows the 16th ends a step: validations behind rows 8, 24, 40 and 56 meet a policy that was asked."""
    trainer, model = trainer_and_model(
        tmp_path, None, max_epochs=1, accumulate_grad_batches=16, val_check_interval=8, limit_val_batches=1
    )
    trainer.fit(model)
    assert len(limits) == 1 + 4  # before training and behind every step
    other, model = trainer_and_model(tmp_path, None, max_steps=4, val_check_interval=4, limit_val_batches=1)
    limits.clear()
    other.callbacks[:1] = trainer.callbacks[:1]  # the callback of a fit that ended at step 4
    other.callbacks[0].before_training = False
    other.fit(model)
    assert len(limits) == 1


@pytest.mark.parametrize("every", [0, 2])
def test_scores_that_are_watched_are_measured_at_every_validation(every, tmp_path):
    """Between two measurements weights were kept under the scores of earlier ones."""
    trainer, model = trainer_and_model(tmp_path, None, max_steps=1)
    (needle,) = [one for one in trainer.callbacks if isinstance(one, NeedleCallback)]
    trainer.callbacks.append(ModelCheckpoint(monitor="benchmark/needle/mean", mode="max"))
    needle._check_watched(trainer)
    needle.every_n_validations = every
    with pytest.raises(InputError, match=rf"whose benchmark/needle/mean ModelCheckpoint watches .*got {every}, "):
        trainer.fit(model)
    needle.label = "other"
    needle._check_watched(trainer)
