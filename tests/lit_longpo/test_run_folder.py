"""Runs that start together do not share a folder: two real processes."""

import errno
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from support.command_line import CONFIGS
from support.ranks import run_command
from support.tracked_runs import Tracked

from lit_longpo.checkpoints import ResumableTrainer, fault, read_record
from lit_longpo.errors import BusyError, InputError
from lit_longpo.run_folder import claim_version, claim_versions, has_owner, only_owner, released_if_refused

SMALL = (
    *("--config", CONFIGS / "sft.yaml", "--data.num_train", 16, "--data.num_val", 0, "--data.long_words", "[32,48]"),
    *("--trainer.enable_progress_bar", "false", "--trainer.max_epochs", -1, "--trainer.max_steps", 2),
    *("--trainer.callbacks", "[{class_path: ModelCheckpoint, init_args: {save_last: true}}, SavePretrained]"),
)


def test_two_fits_that_start_together_have_a_folder_each(tmp_path):
    def fit(rate):
        return run_command("fit", *SMALL, "--trainer.default_root_dir", tmp_path, "--optimization.optimizer.lr", rate)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(fit, (1e-3, 1e-4)))
    folders = sorted((tmp_path / "lightning_logs").iterdir())
    assert [folder.name for folder in folders] == ["version_0", "version_1"]
    rates = set()
    for folder in folders:
        config = yaml.safe_load((folder / "config.yaml").read_text())
        checkpoint = folder / "checkpoints/last.ckpt"
        assert fault(checkpoint) is None
        assert (folder / "model/model.safetensors").is_file()
        rate = read_record(checkpoint)["settings"]["optimization.optimizer.lr"]
        assert config["optimization"]["optimizer"]["init_args"]["lr"] == rate
        rates.add(rate)
    assert rates == {1e-3, 1e-4}


@pytest.mark.parametrize("kind", [TensorBoardLogger, CSVLogger])
def test_a_number_that_another_run_took_meanwhile_is_passed_over(kind, tmp_path):
    loggers = [kind(tmp_path), kind(tmp_path)]
    for logger in loggers:
        logger._get_next_version = iter(range(9)).__next__  # both looked before either made a folder
    assert all(map(claim_version, loggers))
    assert [logger.version for logger in loggers] == [0, 1]


@pytest.mark.parametrize("kinds", [(CSVLogger, TensorBoardLogger), (TensorBoardLogger, CSVLogger)])
def test_all_loggers_of_a_run_have_its_number(kinds, tmp_path):
    """Beside each other they took two numbers: the events of one run lay in the folder of the next one."""

    def start():
        trainer = ResumableTrainer(logger=[kind(tmp_path) for kind in kinds], default_root_dir=tmp_path,
                                   accelerator="cpu", enable_progress_bar=False)  # fmt: skip
        with trainer._owned_folder():
            for logger in trainer.loggers:
                logger.experiment.log_metrics({"loss": 1.0}, 0) if isinstance(logger, CSVLogger) else logger.experiment
                logger.save()
        return {Path(logger.log_dir).name for logger in trainer.loggers}

    assert [start(), start()] == [{"version_0"}, {"version_1"}]
    for folder in (tmp_path / "lightning_logs").iterdir():
        assert len(list(folder.glob("events.out.tfevents*"))) == len(list(folder.glob("metrics.csv"))) == 1
    apart = [kinds[0](tmp_path, name="a"), kinds[1](tmp_path, name="b", version="mine"), kinds[1](tmp_path, name="b")]
    assert claim_versions(apart) == [apart[0], apart[2]]
    assert [logger.version for logger in apart] == [0, "mine", 0]


def test_where_there_are_no_locks_that_is_said_and_nothing_is_known_of_owners(tmp_path, monkeypatch, caplog):
    """Lustre and NFS, as some clusters mount them."""

    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    with only_owner(tmp_path):
        assert has_owner(tmp_path) is True
    assert has_owner(tmp_path) is False
    monkeypatch.setattr("fcntl.flock", flock)
    with only_owner(tmp_path):
        assert has_owner(tmp_path) is None
    assert caplog.text.count(f"{tmp_path} lies where there are no locks") == 1


def test_a_folder_that_was_named_has_one_owner(tmp_path):
    message = re.escape(f"expected no other fit in {tmp_path}, found one that is running")
    assert not claim_version(TensorBoardLogger(tmp_path, version="mine"))
    assert not claim_version(None)
    with only_owner(tmp_path), pytest.raises(BusyError, match=message), only_owner(tmp_path):
        pass
    with only_owner(tmp_path):
        pass


@pytest.mark.parametrize(
    ("error", "begun", "file", "stays"),
    [
        (InputError("no"), False, "config.yaml", False),
        (InputError("no"), False, "model.safetensors", True),  # nobody's idea of a beginning
        (InputError("no"), True, "config.yaml", True),
        (RuntimeError("no"), False, "config.yaml", True),  # not refused: whoever looks for the reason has its settings
    ],
)
def test_a_new_folder_goes_if_the_run_is_refused_before_it_does_anything(error, begun, file, stays, tmp_path):
    logger, second = TensorBoardLogger(tmp_path), CSVLogger(tmp_path)
    assert claim_versions([logger, second]) == [logger, second]
    folder = tmp_path / "lightning_logs/version_0"

    def fail():
        _ = logger.experiment, second.experiment
        (folder / file).touch()
        raise error

    with pytest.raises(type(error)), released_if_refused([logger, second], lambda: begun):
        fail()
    assert folder.exists() == stays
    # The same trainer's next `fit` takes a number again.
    assert claim_versions([logger, second]) == ([] if stays else [logger, second])
    assert logger.log_dir == second.log_dir == str(folder)


@pytest.mark.parametrize("save_dir", ["elsewhere", None], ids=["local", "server"])
def test_runs_of_one_tracking_folder_have_folders_of_their_own(save_dir, tmp_path):
    save_dir = save_dir and str(tmp_path / save_dir)
    folders = []
    for identity in ("a1", "b2"):
        trainer = ResumableTrainer(logger=Tracked(save_dir, identity), default_root_dir=tmp_path, accelerator="cpu",
                                   enable_progress_bar=False)  # fmt: skip
        with trainer._owned_folder():  # another one may run beside it
            folders.append(Path(trainer.log_dir))
            assert trainer.checkpoint_callback._ModelCheckpoint__resolve_ckpt_dir(trainer) == str(
                folders[-1] / "checkpoints"
            )
    assert folders == [Path(save_dir or tmp_path) / "project" / identity for identity in ("a1", "b2")]
