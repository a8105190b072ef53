import csv
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from lightning.pytorch.loggers import WandbLogger
from support import official_layout, reports
from support.byte_tokenizer import byte_model
from support.command_line import COMMANDS, CONFIGS

from evaluation.reports.publishing import publish
from evaluation.reports.reading import load_report
from evaluation.reports.report import BenchmarkReport


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


@pytest.mark.usefixtures("blank_pictures")
def test_a_report_that_cannot_be_read_is_put_aside_and_written_anew(tmp_path, caplog):
    """Cut off by a kill, say: it stood in the way of every later report, `--rescore`'s too."""
    report = reports.needle()
    path = tmp_path / f"needle-step{report.step}.json"
    path.write_text('{"name": "needle", "predictions": [')
    publish(report, tmp_path, [Recorded()])
    assert load_report(path) == report
    assert (tmp_path / f"{path.name}.unreadable").read_text() == '{"name": "needle", "predictions": ['
    assert f"kept as {path.name}.unreadable, a new one is written" in caplog.text


@pytest.mark.usefixtures("blank_pictures")
def test_a_kill_while_a_report_is_written_leaves_the_one_of_before(tmp_path, monkeypatch):
    report = reports.needle()
    publish(report, tmp_path, [Recorded()])
    path = tmp_path / f"needle-step{report.step}.json"

    def killed(self, text, **options):
        write(self, text[:100], **options)
        raise KeyboardInterrupt

    write = Path.write_text
    monkeypatch.setattr(Path, "write_text", killed)
    with pytest.raises(KeyboardInterrupt):
        publish(report, tmp_path, [Recorded()])
    assert load_report(path) == report


@pytest.mark.usefixtures("blank_pictures")
def test_another_score_of_the_same_answers_is_a_report_beside_the_official_one(tmp_path):
    """`--rescore --benchmark.metric sub_em` replaced the official scores without a word."""
    official = BenchmarkReport.of({**asdict(reports.needle()), "tables": {"needle": {"score": 25.0}}})
    sub_em = replace(official, tables={"needle": {"sub_em": 50.0}})
    part = replace(sub_em, predictions=official.predictions[:2])
    for report in (official, sub_em, part, official):
        publish(report, tmp_path, [Recorded()])
    found = {path.name: load_report(path) for path in tmp_path.glob("*.json")}
    step = f"step{official.step}.json"
    assert found == {
        f"needle-{step}": official,
        f"needle-sub_em-{step}": sub_em,
        f"needle-sub_em-part-{step}": part,
    }
    publish(sub_em, tmp_path / "other", [Recorded()])
    publish(official, tmp_path / "other", [Recorded()])
    assert {path.name for path in (tmp_path / "other").glob("*.json")} == {f"needle-{step}", f"needle-official-{step}"}
