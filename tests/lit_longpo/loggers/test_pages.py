"""What loggers show: TensorBoard's own backend reads it back; W&B and MLflow where they are installed."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from lightning.pytorch.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger, WandbLogger
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams.backend_context import Context

from lit_longpo.loggers import Table, pages_of
from lit_longpo.loggers.pages import MLFlowPages

ANSWERS = Table(("example", "response"), (("a", "1 | 2"),), "| example | response |\n| --- | --- |\n| a | 1 \\| 2 |")


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("model:\n  class_path: DPO\n")
    return path


def show(logger, config, values, folder):
    [pages] = pages_of([logger], folder)
    pages.settings(values, config)
    logger.log_metrics({"train/loss": 0.5}, step=3)
    pages.figure("benchmark/needle/heat_map", Figure(), 3)
    pages.table("benchmark/needle", ANSWERS, 3)
    return pages


def experiment(root):
    """TensorBoard's view of all runs below a folder, as the HPARAMS page asks for it."""
    runs = EventMultiplexer().AddRunsFromDirectory(str(root))
    runs.Reload()
    context = Context(TBContext(data_provider=MultiplexerDataProvider(runs, str(root))))
    found = context.hparams_metadata(RequestContext(), "")
    return runs, context.experiment_from_metadata(RequestContext(), "", True, found, None)


def test_tensorboard_tells_the_runs_of_a_sweep_apart(tmp_path, config):
    for number, values in enumerate(({"model.beta": 0.1}, {"model.beta": 0.3}, {"model.beta": 1.0, "model.alpha": 2})):
        logger = TensorBoardLogger(tmp_path / "runs", name=f"beta-{number}")
        pages = show(logger, config, {"model": "SoLoPO", **values}, tmp_path)
        logger.finalize("success")
    runs, seen = experiment(tmp_path / "runs")
    # The last run's own setting is there too, which a run's own experiment would have hidden.
    assert [(info.name, info.differs) for info in seen.hparam_infos] == [
        ("model.beta", True), ("model", False), ("model.alpha", False),
    ]  # fmt: skip
    assert [info.name.tag for info in seen.metric_infos] == ["train/loss"]  # and no metric of nobody's
    tags = runs.Runs()["beta-0/version_0"]["tensors"]
    assert {"config/text_summary", "benchmark/needle/heat_map", "benchmark/needle/text_summary"} <= set(tags)
    assert pages.viewer.startswith("tensorboard --logdir ")


def test_tensorboards_custom_charts_begin_with_training(tmp_path, config):
    from tensorboard.plugins.custom_scalar import layout_pb2

    logger = TensorBoardLogger(tmp_path)
    show(logger, config, {"model": "DPO"}, tmp_path)
    logger.finalize("success")
    runs, _ = experiment(tmp_path)
    [run] = runs.Runs()
    [event] = runs.Tensors(run, "custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
    assert [page.title.split(" ", 1)[1] for page in layout.category] == ["training", "benchmarks", "speed and memory"]


def test_loggers_without_pages_leave_files(tmp_path, config):
    logger = CSVLogger(tmp_path)
    show(logger, config, {"model.beta": 0.1}, tmp_path / "run")
    logger.save()
    files = {path.name: path for path in (tmp_path / "run" / "pages").rglob("*.*")}
    assert files.keys() == {"heat_map-step3.png", "needle-step3.md"}
    assert files["needle-step3.md"].read_text() == ANSWERS.markdown + "\n"
    assert "model.beta: 0.1" in next(tmp_path.rglob("hparams.yaml")).read_text()


def test_mlflow_has_them_all(tmp_path, config, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    logger = MLFlowLogger(run_name="beta-0.1", tracking_uri=f"sqlite:///{tmp_path}/runs.db",
                          artifact_location=f"file:{tmp_path}/artifacts")  # fmt: skip
    pages = show(logger, config, {"model.beta": 0.1}, tmp_path)
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/runs.db")
    run = client.get_run(logger.run_id)
    assert run.data.params == {"model.beta": "0.1"}
    assert run.data.metrics == {"train/loss": 0.5}
    assert run.info.run_name == "beta-0.1"
    names = {path.relative_to(run.info.artifact_uri.removeprefix("file:")).as_posix()
             for path in Path(run.info.artifact_uri.removeprefix("file:")).rglob("*.*")}  # fmt: skip
    assert names == {"config.yaml", "benchmark/needle/heat_map-step3.png", "benchmark/needle-step3.md"}
    assert pages.viewer == f"mlflow ui --backend-store-uri sqlite:///{tmp_path}/runs.db"


class Refusing:
    """What MLflow's client does with parameters: a run keeps those that it has, and another value is an error."""

    def __init__(self):
        self.params, self.artifacts = {}, []

    def get_run(self, run_id):
        return SimpleNamespace(data=SimpleNamespace(params=dict(self.params)))

    def log_artifact(self, run_id, path):
        self.artifacts.append(Path(path).name)

    def log_hyperparams(self, values):
        for name, value in values.items():
            assert self.params.setdefault(name, str(value)[:250]) == str(value)[:250], "Changing param values"


def test_mlflow_runs_that_go_on_keep_what_they_began_with(config, caplog):
    """mlflow#7152: a longer `max_steps` on the way ended in a traceback."""
    client, long = Refusing(), "x" * 300
    logger = SimpleNamespace(experiment=client, run_id="r1", log_hyperparams=client.log_hyperparams)
    pages = MLFlowPages(logger, config.parent)
    for steps, more in ((6, {}), (8, {"model.alpha": 1.0}), (8, {})):
        pages.settings({"trainer.max_steps": steps, "data.path": long, **more}, config)
    assert client.params == {"trainer.max_steps": "6", "data.path": long[:250], "model.alpha": "1.0"}
    assert client.artifacts == ["config.yaml"] * 3
    assert caplog.text.count("not this start's trainer.max_steps=8 (its artifact config.yaml has them)") == 2


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://me:geheim@mlflow.example/x", "open https://mlflow.example/x"),
        (
            "postgresql+psycopg2://me:geheim@db:5432/m",
            "mlflow ui --backend-store-uri postgresql+psycopg2://me@db:5432/m",
        ),
        ("sqlite:////tmp/a@b:c/m.db", "mlflow ui --backend-store-uri sqlite:////tmp/a@b:c/m.db"),
        ("sqlite:///my runs/m.db", "mlflow ui --backend-store-uri 'sqlite:///my runs/m.db'"),
    ],
)
def test_where_to_look_has_no_password(address, shown, tmp_path):
    pages = MLFlowPages(SimpleNamespace(experiment=SimpleNamespace(tracking_uri=address)), tmp_path)
    assert pages.viewer == shown


def test_wandb_has_them_all(tmp_path, config):
    pytest.importorskip("wandb")
    logger = WandbLogger(name="beta-0.1", save_dir=tmp_path, offline=True)
    pages = show(logger, config, {"model.beta": 0.1}, tmp_path)
    run = logger.experiment
    files = Path(run.dir)
    assert run.name == "beta-0.1"
    assert dict(run.config) == {"model.beta": 0.1}
    assert pages.viewer.startswith("wandb sync ")
    run.finish()
    assert (files / "config.yaml").is_file()
    assert len(list(files.rglob("heat_map_*.png"))) == 1
    [table] = files.rglob("needle_*.table.json")
    assert json.loads(table.read_text())["data"] == [["a", "1 | 2"]]
