import pytest
from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch.loggers import Logger
from support.command_line import parse

from lit_longpo.errors import InputError, MissingPackageError
from lit_longpo.loggers import name_loggers, naming


def trainer(kind=None, **settings):
    logger = None if kind is None else Namespace(class_path=kind, init_args=Namespace(**settings))
    return Namespace(default_root_dir="runs", logger=logger)


@pytest.mark.parametrize(
    ("kind", "argument"),
    [("lightning.pytorch.loggers.CSVLogger", "name"), ("lightning.pytorch.loggers.MLFlowLogger", "run_name")],
)
def test_each_logger_is_told_in_its_own_words(kind, argument):
    section = trainer(kind, save_dir="elsewhere", **{argument: None})
    name_loggers(section, "beta-0.1")
    assert section.logger.init_args == Namespace(**{"save_dir": "elsewhere", argument: "beta-0.1"})


def test_what_would_be_written_into_the_current_folder_goes_to_the_root_folder():
    section = trainer("lightning.pytorch.loggers.WandbLogger", save_dir=".", name="mine")
    name_loggers(section, None)
    assert section.logger.init_args == Namespace(save_dir="runs", name="mine")


@pytest.mark.parametrize("kind", ["CSVLogger", "TensorBoardLogger"])
def test_a_logger_that_must_be_told_a_folder_gets_the_root_folder(kind):
    """`--trainer.logger CSVLogger` is all that has to be typed."""
    config = parse("--config", "solopo", "--trainer.logger", kind, "--name", "beta-0.3")
    name_loggers(config.trainer, "beta-0.3")
    assert (config.trainer.logger.init_args.save_dir, config.trainer.logger.init_args.name) == ("runs", "beta-0.3")
    both = parse("--config", "solopo", "--trainer.logger", f"[WandbLogger, {kind}]")
    name_loggers(both.trainer, None)
    assert [logger.init_args.save_dir for logger in both.trainer.logger] == ["runs", "runs"]
    own = trainer("somewhere.OwnLogger", save_dir="")  # as the parser leaves whoever's that has to be told
    name_loggers(own, None)
    assert own.logger.init_args.save_dir == "runs"
    told = trainer(f"lightning.pytorch.loggers.{kind}", save_dir="elsewhere")
    name_loggers(told, None)
    assert told.logger.init_args.save_dir == "elsewhere"


def test_neither_loggers_nor_names_without_all_that_costs_time():
    """Lightning refused them by their addresses in memory."""
    for logger, told in (("CSVLogger", "CSVLogger"), ("[WandbLogger, CSVLogger]", "WandbLogger, CSVLogger")):
        config = parse("--config", "solopo", "--trainer.logger", logger, "--trainer.barebones", "true")
        with pytest.raises(InputError, match=f"got `trainer.logger: {told}`; type --trainer.logger false"):
            name_loggers(config.trainer, None)
    bare = parse("--config", "solopo", "--trainer.barebones", "true").trainer
    with pytest.raises(InputError, match=r"--trainer\.default_root_dir runs/mine instead"):
        name_loggers(bare, "mine")
    name_loggers(bare, None)


def test_mlflow_gets_a_database_there(tmp_path):
    section = trainer("lightning.pytorch.loggers.MLFlowLogger", save_dir="./mlruns", tracking_uri=None)
    section["default_root_dir"] = str(tmp_path / "runs")
    name_loggers(section, None)
    assert section.logger.init_args.tracking_uri == f"sqlite:///{tmp_path}/runs/mlflow.db"
    assert section.logger.init_args.artifact_location == f"file://{tmp_path}/runs/mlartifacts"
    told = trainer("lightning.pytorch.loggers.MLFlowLogger", save_dir="./mlruns", tracking_uri="http://host")
    name_loggers(told, None)
    assert told.logger.init_args == Namespace(save_dir="./mlruns", tracking_uri="http://host")


def test_mlflow_without_what_its_database_takes_is_one_line(tmp_path, monkeypatch):
    """mlflow-skinny has no SQLAlchemy: it ended in pages of traceback about the scheme sqlite."""
    monkeypatch.setattr(naming, "find_spec", lambda name: None if name == "sqlalchemy" else object())
    section = trainer("lightning.pytorch.loggers.MLFlowLogger", save_dir="./mlruns", tracking_uri=None)
    with pytest.raises(MissingPackageError, match=r"pip install mlflow$"):
        name_loggers(section, None)


def test_what_comet_takes_beyond_its_arguments_is_read_again_from_config_yaml(tmp_path):
    """Its name ended the run: "expected options of this command, got name"; its runs lay below the current folder."""
    parser = ArgumentParser()
    parser.add_argument("--config", action="config")
    parser.add_argument("--logger", type=Logger)
    words = ["--logger", "lightning.pytorch.loggers.CometLogger", "--logger.online", "false"]
    for name in ("first", "second"):
        section = Namespace(default_root_dir=str(tmp_path), logger=parser.parse_args(words).logger)
        name_loggers(section, name)
        assert section.logger.dict_kwargs == {"name": name, "offline_directory": str(tmp_path)}
        (tmp_path / "config.yaml").write_text(parser.dump(Namespace(logger=section.logger)))
        words = ["--config", str(tmp_path / "config.yaml")]


@pytest.mark.parametrize("name", ["../up", "/absolute", "a//b", "", ".", "a/..", "x\ny"])
def test_names_that_lead_elsewhere_are_refused(name):
    with pytest.raises(InputError, match="type for example --name"):
        name_loggers(trainer(), name)


def test_a_name_that_nobody_takes_is_refused():
    with pytest.raises(InputError, match=r"--trainer.default_root_dir runs/x instead"):
        name_loggers(Namespace(logger=False), "x")
    with pytest.raises(InputError, match="expected a logger that takes"):
        name_loggers(trainer("own.Logger"), "x")
