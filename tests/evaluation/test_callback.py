from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from data_modules import SyntheticDataModule, WorldHaystack
from evaluation import NeedleCallback
from evaluation.summary import comparison
from lit_longpo.objectives import SoLoPO
from lit_longpo.policy import PolicyConfig, PromptTemplate

GRID = {"lengths": (16, 32), "depths": (0.0, 1.0), "num_examples": 2, "max_new_tokens": 2}


class Losses(Callback):
    def __init__(self):
        self.values = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.values.append(outputs["loss"].item())


def fit(folder, callbacks, *, logger=True, steps=3, ckpt_path=None):
    seed_everything(1, verbose=False)
    module = SoLoPO(policy=PolicyConfig(weights="random", template=PromptTemplate("{context} Complete: {question}")))
    data = SyntheticDataModule(
        num_train=12, num_val=2, short_words=16, long_words=(24, 32), max_examples=4,
        views=module.views, prompt_format=module.policy.prompt_format(),
    )  # fmt: skip
    losses = Losses()
    trainer = Trainer(
        max_steps=steps, max_epochs=2, accelerator="cpu", default_root_dir=folder, use_distributed_sampler=False,
        logger=TensorBoardLogger(folder) if logger else False, enable_checkpointing=True, log_every_n_steps=1,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=1, callbacks=[losses, *callbacks],
    )  # fmt: skip
    trainer.fit(module, data, ckpt_path=ckpt_path)
    return trainer, losses.values


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    needle = NeedleCallback(WorldHaystack(), **GRID)
    save = ModelCheckpoint(folder / "best", monitor="benchmark/needle/mean", mode="max", save_top_k=1)
    trainer, losses = fit(folder, [needle, save])
    return trainer, needle, losses, save


def test_it_runs_before_training_and_at_validation(run):
    _, needle, _, _ = run
    assert [report.step for report in needle.reports] == [0, 3]


def test_reports_and_pictures_lie_in_the_run_folder(run):
    trainer, _, _, _ = run
    names = {path.name for path in (Path(trainer.log_dir) / "benchmarks").iterdir()}
    assert names == {f"needle-step{step}.{suffix}" for step in (0, 3) for suffix in ("json", "md", "html")}


def test_tensorboard_has_scalars_picture_and_text(run):
    events = EventAccumulator(run[0].log_dir)
    events.Reload()
    tags = events.Tags()
    assert {"benchmark/needle/16", "benchmark/needle/32", "benchmark/needle/mean"} <= set(tags["scalars"])
    assert [event.step for event in events.Scalars("benchmark/needle/mean")] == [0, 3]
    assert {f"benchmark/needle/{name}" for name in ("by_length", "by_depth", "heat_map")} <= set(tags["images"])
    assert any("benchmark/needle" in tag for tag in tags["tensors"])


def test_checkpoints_can_follow_the_score(run):
    assert run[3].best_model_path


def test_training_is_the_same_without_it(run, tmp_path):
    assert fit(tmp_path, [])[1] == run[2]


def test_after_a_resume_the_first_report_is_not_made_again(run, tmp_path):
    trainer, _, _, _ = run
    path = tmp_path / "step3.ckpt"
    trainer.save_checkpoint(path)
    again = NeedleCallback(WorldHaystack(), **GRID)
    fit(tmp_path, [again], steps=4, ckpt_path=path)
    assert [report.step for report in again.reports].count(0) == 1
    assert again.reports[0] == run[1].reports[0]
    assert again.reports[-1].step > 0


def test_it_works_without_a_logger(tmp_path):
    fit(tmp_path, [NeedleCallback(WorldHaystack(), **GRID)], logger=False, steps=1)
    assert (tmp_path / "benchmarks" / "needle-step0.html").is_file()


def test_the_comparison_names_points(run):
    table = comparison(run[1].reports[0], run[1].reports[-1])
    assert [column.header for column in table.columns] == ["task or length", "before", "after", "points"]
    assert table.row_count == 5  # two lengths, two depths, the mean


def test_a_resumed_run_keeps_the_scores_before_training_and_the_count(run, tmp_path):
    _, needle, _, save = run
    stored = torch.load(save.best_model_path, weights_only=True)["callbacks"][needle.state_key]
    fresh = NeedleCallback(WorldHaystack(), **GRID)
    fresh.load_state_dict(stored)
    assert [report.step for report in fresh.reports] == [0]
    assert fresh.reports[0] == needle.reports[0]
    assert fresh.state_dict()["validations"] == needle.state_dict()["validations"] > 0
    assert NeedleCallback(lengths=(8,)).state_key != needle.state_key  # a recipe and an overlay may both bring one
