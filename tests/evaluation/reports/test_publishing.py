import csv

from lightning.pytorch.loggers import WandbLogger
from support import official_layout, reports
from support.byte_tokenizer import byte_model
from support.command_line import COMMANDS, CONFIGS

from evaluation.reports.publishing import publish


def test_a_typed_logger_shows_what_tensorboard_would(tmp_path):
    folder = official_layout.longbench(tmp_path / "data", {"trec": 2}, tokens=2)
    model = byte_model(tmp_path / "model", max_position_embeddings=4096)
    given = ["--config", CONFIGS / "eval" / "longbench.yaml", "--benchmark.folder", folder, "--model", model]
    given += ["--output", tmp_path / "out", "--accelerator", "cpu"]
    given += ["--logger", "CSVLogger", "--logger.save_dir", tmp_path / "csv", "--logger.name", "mine"]
    COMMANDS["evaluate"]([str(word) for word in given])
    [rows] = (tmp_path / "csv" / "mine").rglob("metrics.csv")
    [row] = csv.DictReader(rows.open())
    assert {"benchmark/longbench/trec", "benchmark/longbench/mean", "step"} <= set(row)
    assert (tmp_path / "out" / "pages" / "benchmark" / "longbench" / "by_length-step0.png").is_file()
    assert not (tmp_path / "out" / "tensorboard").exists()


class Recorded(WandbLogger):
    """W&B's logger without its package: what it would send."""

    def __init__(self):
        self.sent = {}

    def log_metrics(self, metrics, step=None):
        self.sent["scalars"] = (dict(metrics), step)

    def log_image(self, key, images, step=None, **options):
        self.sent[key] = (len(images), step)

    def log_table(self, key, columns=None, data=None, dataframe=None, step=None):
        self.sent[key] = (columns, step)


def test_pictures_and_answers_reach_weights_and_biases(tmp_path):
    report, logger = reports.needle(), Recorded()
    publish(report, tmp_path, [logger])
    names = {f"benchmark/needle/{name}" for name in ("by_length", "by_depth", "heat_map")}
    assert names | {"benchmark/needle", "scalars"} == set(logger.sent)
    assert {step for _, step in logger.sent.values()} == {report.step}
    assert logger.sent["scalars"][0]["benchmark/needle/mean"] == report.mean
