from types import SimpleNamespace

import pytest
import yaml
from jsonargparse import Namespace
from support.command_line import parse
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lit_longpo import __main__ as command
from lit_longpo.loggers.settings import SettingsCallback, hyper_parameters


def test_hyper_parameters_have_the_names_that_are_typed():
    config = parse("--config", "solopo", "--model.base", "SimPO", "--model.base.beta", "0.3", "--trainer.devices", 1)
    values = hyper_parameters(config.as_dict())
    assert values["model"].endswith("SoLoPO")
    assert values["model.base"].endswith("SimPO")
    assert values["model.base.beta"] == 0.3
    assert values["optimization.optimizer.lr"] == config.optimization.optimizer.init_args.lr
    assert {type(value) for value in values.values()} <= {str, int, float, bool}
    assert not [name for name in values if "callbacks" in name or "init_args" in name or "__path__" in name]
    assert len(values) < 100  # a table that people read


@pytest.mark.parametrize("options", [(), ("--name", "sweep/beta-0.3")], ids=["unnamed", "named"])
def test_a_run_tells_its_loggers_what_it_was_started_with(tmp_path, options, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command.main([
        *("fit", "--config", "dpo", "--trainer.max_steps", "1", "--trainer.callbacks", "[]", "--model.beta", "0.3"),
        *("--trainer.enable_progress_bar", "false", "--trainer.limit_val_batches", "0", "--policy.weights", "random"),
        *("--data.num_train", "8", "--data.num_val", "2", *options),
    ])  # fmt: skip
    folder = tmp_path / "runs" / ("sweep/beta-0.3" if options else "lightning_logs") / "version_0"
    assert yaml.safe_load((folder / "hparams.yaml").read_text())["model.beta"] == 0.3
    events = EventAccumulator(str(folder)).Reload()
    assert events.PluginTagToContent("hparams").keys() == {"_hparams_/session_start_info"}
    assert "hp_metric" not in events.Tags()["scalars"]
    [shown] = events.Tensors("config/text_summary")
    text = shown.tensor_proto.string_val[0].decode()
    lines = (folder / "config.yaml").read_text().splitlines()
    assert [line.removeprefix("    ") for line in text.splitlines()] == lines


def test_what_is_written_down_has_no_password():
    address = "http://me:geheim@host:8000/v1"
    inside = {"class_path": "ServerGenerator", "init_args": {"base_url": address}}
    store = Namespace(tracking_uri="mysql://me:geheim@db/m", source="hf://gpt2@main/x", user="See x://a:b@c {context}")
    config = Namespace(data=Namespace(init_args=Namespace(build={"generator": inside})), servers=[address], name="a@b",
                       store=store)  # fmt: skip
    written = SettingsCallback(None, config).config
    assert "geheim" in str(config)
    assert "geheim" not in str(written)
    assert written.data.init_args.build["generator"]["init_args"]["base_url"] == "http://host:8000/v1"
    assert vars(written.store) == {**vars(store), "tracking_uri": "mysql://me@db/m"}
    told = ["mysql+pymysql://me:ge/heim@db/m", "postgresql://db/m?user=me&password=geheim&sslmode=require"]
    told.append("redis://:geheim@db/0")
    assert SettingsCallback(None, Namespace(told=[*told, "redis://db:6379/0?name=a@b"])).config.told == [
        *("mysql+pymysql://me@db/m", "postgresql://db/m?user=me&password=&sslmode=require", "redis://db/0"),
        "redis://db:6379/0?name=a@b",
    ]  # fmt: skip
    comet = Namespace(
        class_path="CometLogger", init_args=Namespace(api_key="geheim", workspace="me", token_cache="here")
    )
    loggers = SettingsCallback(None, Namespace(logger=[comet])).config.logger
    assert vars(loggers[0].init_args) == {"api_key": None, "workspace": "me", "token_cache": "here"}
    assert (written.servers, written.name) == (["http://host:8000/v1"], "a@b")


def test_what_a_file_lacks_to_start_from_it_is_said(caplog):
    """A server without its user, a service without its key: the next run would be somebody else."""
    logger = Namespace(class_path="MLFlowLogger", init_args=Namespace(tracking_uri="http://me:geheim@host"))
    config = Namespace(policy=Namespace(source="embedded"), trainer=Namespace(logger=logger))
    trainer = SimpleNamespace(loggers=[])
    caplog.set_level("INFO", "lit_longpo")
    for given in (config, Namespace(policy=config.policy)):
        SettingsCallback(None, given).save_config(trainer, None, "fit")
    [said] = [record.getMessage() for record in caplog.records]
    assert said.startswith("config.yaml holds no passwords and keys (trainer.logger.init_args.tracking_uri): type")
