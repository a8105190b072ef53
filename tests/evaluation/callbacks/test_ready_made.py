from pathlib import Path

import pytest
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.figure import Figure
from support import official_layout
from support.command_line import CONFIGS, build
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from data_modules import MixtureDataModule, SyntheticDataModule
from evaluation import LongBenchCallback, LongBenchV2Callback, LVEvalCallback, QACallback
from evaluation.reports.reading import load_report
from lit_longpo.objectives import SoLoPO
from lit_longpo.policy import PolicyConfig

pytestmark = pytest.mark.usefixtures("blank_pictures")

QUICK = {"max_length": 400, "limit": 2}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("official")
    for name in ("longbench", "longbench_e", "v2", "lveval"):
        (root / name).mkdir()
    official_layout.longbench(root / "longbench", {"hotpotqa": 3, "trec": 2})
    official_layout.longbench(root / "longbench_e", {"trec_e": 4})
    official_layout.longbench_v2(root / "v2", 2)
    official_layout.lveval(root / "lveval", 2)
    return root


def fit(folder, callbacks, *, validate=False, mixed=False):
    seed_everything(1, verbose=False)
    module = SoLoPO(policy=PolicyConfig(weights="random"))
    world = {"num_train": 8, "num_val": 2, "short_words": 16, "long_words": (24, 32)}
    rows = {"max_examples": 4, "views": module.views, "prompt_format": module.policy.prompt_format()}
    data = SyntheticDataModule(**world, **rows)
    if mixed:
        data = MixtureDataModule(
            {name: SyntheticDataModule(**world, seed=seed) for seed, name in enumerate("ab")}, **rows
        )
    losses = []
    trainer = Trainer(
        max_steps=2, accelerator="cpu", default_root_dir=folder, use_distributed_sampler=False,
        logger=TensorBoardLogger(folder), enable_checkpointing=False, log_every_n_steps=1, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, callbacks=callbacks,
    )  # fmt: skip
    module.on_train_batch_end = lambda outputs, batch, number: losses.append(outputs["loss"].item())
    assert isinstance(module, LightningModule)
    (trainer.validate if validate else trainer.fit)(module, data)
    return trainer, losses


@pytest.fixture(scope="module")
def run(folders, tmp_path_factory):
    callbacks = [
        LongBenchCallback(str(folders / "longbench"), **QUICK),
        LongBenchCallback(str(folders / "longbench_e"), extended=True, max_length=400, before_training=False),
        LongBenchV2Callback(str(folders / "v2"), mode="no_context", **QUICK, every_n_validations=0),
        LVEvalCallback(str(folders / "lveval"), levels=["16k"], **QUICK),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "draw", lambda figure, renderer: None)  # as in `blank_pictures`
        return *fit(tmp_path_factory.mktemp("run"), callbacks), callbacks


def test_they_run_before_and_after_training_and_at_validation(run):
    assert [[report.step for report in callback.reports] for callback in run[2]] == [[0, 2], [2], [0, 2], [0, 2]]


def test_scalars_have_the_promised_names(run):
    trainer = run[0]
    events = EventAccumulator(trainer.log_dir)
    events.Reload()
    scalars = {name for name in events.Tags()["scalars"] if name.startswith("benchmark/")}
    assert scalars >= {
        *("benchmark/longbench/hotpotqa", "benchmark/longbench/trec", "benchmark/longbench/mean"),
        *("benchmark/longbench_e/trec_e/0-4k", "benchmark/longbench_e/trec_e/4-8k", "benchmark/longbench_e/trec_e/8k+"),
        *("benchmark/longbench_v2/Overall", "benchmark/longbench_v2/Hard", "benchmark/longbench_v2/mean"),
        *("benchmark/lveval/factrecall_en_16k", "benchmark/lveval/loogle_SD_mixup_16k", "benchmark/lveval/mean"),
    }
    assert "benchmark/longbench_v2/Long" not in scalars  # an empty group has no score
    assert float(trainer.callback_metrics["benchmark/longbench/mean"]) == run[2][0].reports[-1].mean
    assert any("benchmark/longbench" in tag for tag in events.Tags()["tensors"])


def test_reports_lie_beside_the_run(run):
    folder = Path(run[0].log_dir) / "benchmarks"
    report = load_report(folder / "longbench-step2.json")
    assert report.predictions == run[2][0].reports[-1].predictions
    assert report.model == "embedded, SoLoPO at step 2"
    assert report.settings["limit"] == 2
    assert {"lveval-step0.json", "longbench_v2-step2.json"} <= {path.name for path in folder.iterdir()}


def test_training_is_the_same_without_them(run, tmp_path):
    assert fit(tmp_path, [])[1] == run[1]


def test_validate_runs_them_once(folders, tmp_path):
    callback = LongBenchCallback(str(folders / "longbench"), tasks=["trec"], every_n_validations=5, **QUICK)
    fit(tmp_path, [callback], validate=True)
    assert [set(report.tables) for report in callback.reports] == [{"trec"}]


def test_two_modes_of_one_benchmark_are_told_apart_by_a_label(folders, tmp_path):
    given = {"limit": 1, "max_length": 400}
    modes = [
        LongBenchV2Callback(str(folders / "v2"), mode=mode, label=label, **given)
        for mode, label in (("zero_shot", ""), ("no_context", "memorised"))
    ]
    trainer, _ = fit(tmp_path, modes, validate=True)
    for name, mode in {"longbench_v2": "zero_shot", "longbench_v2-memorised": "no_context"}.items():
        report = load_report(Path(trainer.log_dir) / "benchmarks" / f"{name}-step0.json")
        assert report.settings["mode"] == mode
        assert f"benchmark/{name}/Overall" in trainer.callback_metrics


def test_a_time_box_without_an_answer_is_a_warning(folders, tmp_path, caplog):
    callback = LongBenchCallback(str(folders / "longbench"), max_minutes=1e-9, max_length=400)
    fit(tmp_path, [callback], validate=True)
    assert not callback.reports
    assert "nothing was answered within max_minutes" in caplog.text


def test_own_questions_are_those_of_the_validation_pairs(tmp_path, caplog):
    caplog.set_level("INFO")
    callback = QACallback(max_new_tokens=2, every_n_validations=0, label="own")
    trainer, _ = fit(tmp_path, [callback])
    before, after = callback.reports
    assert (before.step, after.step) == (0, 2)
    pairs = {pair.id: pair for pair in trainer.datamodule.pairs("val")}
    assert {item.id: item.answers for item in after.predictions} == {key: pairs[key].answers for key in pairs}
    names = {f"benchmark/qa-own/{name}" for name in ("sub_em", "f1", "em", "128", "mean")}
    assert names <= set(trainer.callback_metrics)
    assert (Path(trainer.log_dir) / "benchmarks" / "qa-own-step2.html").is_file()
    assert "qa-own, after minus before: " in caplog.text
    key = QACallback(max_new_tokens=2, every_n_validations=0, label="own").state_key
    assert callback.state_key == key != QACallback(max_new_tokens=3, label="own").state_key


def test_own_questions_of_a_mixture_are_those_of_all_sources(tmp_path):
    """Two worlds name their examples alike."""
    callback = QACallback(max_new_tokens=2)
    fit(tmp_path, [callback], validate=True, mixed=True)
    [report] = callback.reports
    assert sorted(item.id for item in report.predictions) == ["a/val-0", "a/val-1", "b/val-0", "b/val-1"]


def test_yaml_finds_them(folders):
    given = ["--trainer.callbacks+", "LongBenchV2Callback", "--trainer.callbacks.folder", folders / "v2"]
    given += ["--trainer.callbacks.limit", 3, "--trainer.callbacks.label", "few"]
    cli = build("--config", CONFIGS / "solopo.yaml", *given)
    [callback] = [item for item in cli.trainer.callbacks if isinstance(item, LongBenchV2Callback)]
    assert callback.settings.limit == 3
    assert callback.title == "longbench_v2-few"
