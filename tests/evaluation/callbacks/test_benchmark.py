from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from support.command_line import CONFIGS, build
from support.losses import Losses
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from data_modules import SyntheticDataModule, WorldHaystack
from evaluation import BenchmarkCallback, NeedleBenchmark, NeedleCallback
from evaluation.benchmarks.needle_tasks import Sizes
from evaluation.callbacks.scheduled import callbacks_of
from evaluation.reports.reading import load_report
from evaluation.reports.terminal import comparison
from evaluation.running import answerers
from lit_longpo.objectives import SoLoPO
from lit_longpo.policy import PolicyConfig, PromptTemplate

pytestmark = pytest.mark.usefixtures("blank_pictures")  # but for those of `run`

GRID = {"lengths": (16, 32), "depths": (0.0, 1.0), "num_examples": 2, "max_new_tokens": 2}


def parts(folder, callbacks, *, logger=True, steps=3):
    seed_everything(1, verbose=False)
    module = SoLoPO(policy=PolicyConfig(weights="random", template=PromptTemplate("{context} Complete: {question}")))
    data = SyntheticDataModule(
        num_train=12, num_val=2, num_test=2, short_words=16, long_words=(24, 32), max_examples=4,
        views=module.views, prompt_format=module.policy.prompt_format(),
    )  # fmt: skip
    losses = Losses()
    trainer = Trainer(
        max_steps=steps, max_epochs=2, accelerator="cpu", default_root_dir=folder, use_distributed_sampler=False,
        logger=TensorBoardLogger(folder) if logger else False, enable_checkpointing=True, log_every_n_steps=1,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=1, callbacks=[losses, *callbacks],
    )  # fmt: skip
    return trainer, module, data, losses


def fit(folder, callbacks, *, ckpt_path=None, **options):
    trainer, module, data, losses = parts(folder, callbacks, **options)
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
    reports = {f"needle-step{step}.{suffix}" for step in (0, 3) for suffix in ("json", "md", "html")}
    assert names == {*reports, "needle-comparison.md", "needle-comparison.html"}


def test_a_killed_benchmark_keeps_its_answers(tmp_path, monkeypatch):
    """The second start asks what is left; nothing stays behind once there is a report."""
    plain, asked, rounds = answerers.answer, [], [2]

    def dying(model, prompts, batching, **options):
        for number, found in enumerate(plain(model, prompts, batching, **options)):
            if number == rounds[0]:
                raise RuntimeError("killed")
            asked.extend(found)
            yield found

    monkeypatch.setattr(answerers, "answer", dying)
    with pytest.raises(RuntimeError, match="killed"):
        fit(tmp_path, [NeedleCallback(WorldHaystack(), **GRID, max_batch_tokens=1)], steps=1)
    [folder] = (tmp_path / "benchmark_answers").iterdir()
    assert len((folder / "needle.jsonl").read_text().splitlines()) == len(asked) == 2
    asked.clear()
    rounds[0] = -1
    needle = NeedleCallback(WorldHaystack(), **GRID, max_batch_tokens=1, every_n_validations=0)
    fit(tmp_path, [needle], steps=1)
    assert [len(report.predictions) for report in needle.reports] == [8, 8]
    assert len(asked) == 6 + 8
    assert not (tmp_path / "benchmark_answers").exists()


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


@pytest.mark.parametrize("command", ["validate", "test"])
def test_a_checkpoint_is_reported_at_its_own_step(run, tmp_path, command):
    """Lightning counts no steps there: the trained policy's report was called that of step 0, the untrained one's."""
    path = tmp_path / "three.ckpt"
    run[0].save_checkpoint(path)
    needle = NeedleCallback(WorldHaystack(), **GRID)
    trainer, module, data, _ = parts(tmp_path, [needle])
    getattr(trainer, command)(module, datamodule=data, ckpt_path=path, verbose=False)
    before, found = needle.reports  # the first is the checkpoint's own
    assert (before.step, found.step, found.model) == (0, 3, "embedded, SoLoPO at step 3")
    assert found.mean == run[1].reports[-1].mean
    assert (Path(trainer.log_dir) / "benchmarks" / "needle-step3.json").is_file()
    events = EventAccumulator(trainer.log_dir)
    events.Reload()
    assert [event.step for event in events.Scalars("benchmark/needle/mean")] == [3]


def test_weights_that_were_read_and_trained_on_are_reported_at_the_last_step(run, tmp_path):
    path = tmp_path / "three.ckpt"
    run[0].save_checkpoint(path)
    needle = NeedleCallback(WorldHaystack(), **GRID)
    trainer, module, data, _ = parts(tmp_path, [needle], steps=4)
    trainer.fit(module, data, ckpt_path=path)
    trainer.validate(module, data, verbose=False)
    assert [report.step for report in needle.reports] == [0, 4, 4]
    trainer.validate(module, data, verbose=False, ckpt_path=path)
    assert needle.reports[-1].step == 3


def test_it_works_without_a_logger(tmp_path):
    fit(tmp_path, [NeedleCallback(WorldHaystack(), **GRID)], logger=False, steps=1)
    assert (tmp_path / "benchmarks" / "needle-step0.html").is_file()


def test_the_comparison_names_points(run):
    table = comparison(run[1].reports[0], run[1].reports[-1])
    assert [column.header for column in table.columns] == ["task or length", "before", "after", "points"]
    assert {"all examples", "depth/0"} <= set(table.columns[0].cells)
    assert "mean" not in table.columns[0].cells  # what the line of the task calls the mean of its lengths
    assert table.row_count == 5  # two lengths, two depths, all examples


def test_a_resumed_run_keeps_the_scores_before_training_and_the_count(run, tmp_path):
    _, needle, _, save = run
    stored = torch.load(save.best_model_path, weights_only=True)["callbacks"][needle.state_key]
    fresh = NeedleCallback(WorldHaystack(), **GRID)
    fresh.load_state_dict(stored)
    assert [report.step for report in fresh.reports] == [0]
    assert fresh.reports[0] == needle.reports[0]
    assert fresh.state_dict()["validations"] == needle.state_dict()["validations"] > 0
    assert NeedleCallback(lengths=(8,)).state_key != needle.state_key  # a recipe and an overlay may both bring one


def test_two_of_one_benchmark_leave_their_own_reports_and_scalars(tmp_path):
    plain = NeedleCallback(WorldHaystack(), **GRID)
    other = NeedleCallback(WorldHaystack(), **{**GRID, "lengths": (16, 24)}, label="other")
    trainer, _ = fit(tmp_path, [plain, other], steps=1)
    folder = Path(trainer.log_dir) / "benchmarks"
    for name, callback in {"needle": plain, "needle-other": other}.items():
        for report in callback.reports:
            assert load_report(folder / f"{name}-step{report.step}.json").predictions == report.predictions
    events = EventAccumulator(trainer.log_dir)
    events.Reload()
    tags = events.Tags()
    assert {"benchmark/needle/32", "benchmark/needle-other/24", "benchmark/needle-other/mean"} <= set(tags["scalars"])
    assert {"benchmark/needle/24", "benchmark/needle-other/32"}.isdisjoint(tags["scalars"])
    assert {"benchmark/needle/heat_map", "benchmark/needle-other/heat_map"} <= set(tags["images"])
    assert any("benchmark/needle-other" in tag for tag in tags["tensors"])
    assert float(trainer.callback_metrics["benchmark/needle-other/mean"]) == other.reports[-1].mean


def test_the_comparison_is_headed_by_the_label(run):
    assert "needle-prose: step 0" in comparison(run[1].reports[0], run[1].reports[-1], "needle-prose").title


def test_two_that_would_overwrite_each_other_are_refused_before_training(tmp_path):
    twice = [NeedleCallback(WorldHaystack(), **{**GRID, "lengths": lengths}) for lengths in ((16,), (32,))]
    with pytest.raises(ValueError, match=r"needle-step<n>.*got 2: NeedleCallback, NeedleCallback; set `label` of one"):
        fit(tmp_path, twice)
    assert not list(tmp_path.rglob("needle-*"))
    with pytest.raises(ValueError, match="got 'a/b'; correct `label`"):
        NeedleCallback(label="a/b")


def test_recipe_and_overlay_ask_side_by_side():
    overlay = CONFIGS / "overlays" / "benchmark.yaml"
    trainer = build("--config", CONFIGS / "solopo.yaml", "--config", overlay).trainer
    assert [callback.title for callback in callbacks_of(trainer)] == ["needle", "needle-prose"]


@pytest.mark.parametrize(
    "other",
    [{"label": "b"}, {"limit": 2}, {"seed": 1}, {"max_length": 99}, {"max_minutes": 1.0}, {"depths": (0.5,)}],
    ids=lambda other: next(iter(other)),
)
def test_the_state_belongs_to_what_is_asked(other):
    assert NeedleCallback(**other).state_key != NeedleCallback().state_key
    assert NeedleCallback(**other).state_key == NeedleCallback(**other).state_key


def test_the_state_belongs_to_the_tasks_of_the_run():
    keys = {
        BenchmarkCallback(NeedleBenchmark(tasks=("needle", "multi_key")), tasks=tasks).state_key
        for tasks in (None, ["needle"], ["multi_key"])
    }
    assert len(keys) == 3


def test_needles_take_what_benchmark_and_run_take():
    callback = NeedleCallback(
        tasks=["needle", "multi_key"], scoring="all", sizes=Sizes(num_keys=3), needle_seed=5,
        limit=2, seed=7, max_length=900, max_minutes=3.0, before_training=False,
    )  # fmt: skip
    own, run = callback.benchmark, callback.settings
    assert (own.tasks, own.scoring, own.sizes.num_keys, own.seed) == (("needle", "multi_key"), "all", 3, 5)
    assert (run.tasks, run.limit, run.seed, run.max_length, run.max_minutes) == (None, 2, 7, 900, 3.0)
    assert run.chosen(own) == ("needle", "multi_key")
    assert not callback.before_training
    assert NeedleCallback().benchmark.tasks == ("needle",)


def test_needles_take_it_from_the_command_line_too():
    given = {
        "tasks": '["multi_value"]', "scoring": "all", "sizes.num_values": 2, "needle_seed": 5, "label": "lists",
        "limit": 2, "seed": 7, "max_length": 900, "max_minutes": 3, "num_samples": 1,
    }  # fmt: skip
    options = [word for name, value in given.items() for word in (f"--trainer.callbacks.{name}", value)]
    cli = build("--config", CONFIGS / "solopo.yaml", "--trainer.callbacks+", "NeedleCallback", *options)
    [callback] = [item for item in callbacks_of(cli.trainer) if item.label]
    assert callback.title == "needle-lists"
    assert callback.benchmark.tasks == ("multi_value",)
    assert (callback.benchmark.sizes.num_values, callback.benchmark.seed) == (2, 5)
    assert (callback.settings.limit, callback.settings.seed, callback.settings.max_minutes) == (2, 7, 3.0)


def test_the_options_of_needles_are_listed(capsys):
    with pytest.raises(SystemExit):
        build("--trainer.callbacks.help", "NeedleCallback")
    told = capsys.readouterr().out
    for name in ("haystack", "tasks", "sizes", "needle_seed", "limit", "max_minutes", "max_batch_tokens", "label"):
        assert f".{name} " in told or f".{name}." in told
