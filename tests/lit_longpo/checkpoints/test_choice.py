"""Broken, unsuitable and foreign checkpoints are refused before anything starts, and a good one is named or taken."""

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.strategies import ModelParallelStrategy, SingleDeviceStrategy
from lightning.pytorch.trainer.states import TrainerFn
from support.stored_checkpoints import Nothing, cut, flip, save_file, save_folder, trainer

from lit_longpo.checkpoints import newest_whole, read_weights
from lit_longpo.checkpoints.choice import CheckpointChoice, check_loadable
from lit_longpo.checkpoints.resumption import ResumingConnector
from lit_longpo.checkpoints.whole import partial_name
from lit_longpo.strategies import AnyDeviceDeepSpeedStrategy

SINGLE = SingleDeviceStrategy("cpu")


def last(folder):
    return CheckpointChoice(trainer(folder)).usable("last", {}, fitting=False)


@pytest.mark.parametrize("command", ["fit", "validate", "test"])
def test_the_error_for_a_broken_checkpoint_names_the_newest_whole_one(command, tmp_path):
    good = save_file(tmp_path / "step=2.ckpt")
    broken = save_file(tmp_path / "step=4.ckpt")
    cut(broken)
    with pytest.raises(ValueError, match=rf"step=4.ckpt, but .*cut off; type: --ckpt_path {good}"):
        getattr(trainer(tmp_path), command)(Nothing(), ckpt_path=broken)
    good.unlink()
    with pytest.raises(ValueError, match="there is no whole one of these settings"):
        getattr(trainer(tmp_path), command)(Nothing(), ckpt_path=str(broken))


@pytest.mark.parametrize("command", ["fit", "validate", "test"])
def test_a_trainer_refuses_changed_bits_and_names_another(command, tmp_path):
    good, broken = save_file(tmp_path / "step=2.ckpt"), save_file(tmp_path / "step=4.ckpt")
    flip(broken)
    flip(save_file(tmp_path / "step=6.ckpt"))
    with pytest.raises(ValueError, match=rf"step=4.ckpt, but it is damaged .*; type: --ckpt_path {good}"):
        getattr(trainer(tmp_path), command)(Nothing(), ckpt_path=broken)


@pytest.mark.parametrize("command", ["fit", "validate"])
def test_weights_alone_are_no_checkpoint(command, tmp_path):
    """Of `torch.save`, or of zero_to_fp32: Lightning looks for its version in them, and ends in a KeyError."""
    torch.save({"model.weight": torch.ones(3)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"pytorch_model.bin, got a file without `state_dict`, of weights alone"):
        getattr(trainer(tmp_path), command)(Nothing(), ckpt_path=tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"of weights alone; name the checkpoint that it was made from"):
        read_weights(tmp_path / "pytorch_model.bin")


def test_last_passes_over_changed_bits(tmp_path, caplog):
    good, broken = save_file(tmp_path / "step=2.ckpt"), save_file(tmp_path / "step=4.ckpt")
    flip(broken)
    assert last(tmp_path) == good
    assert f"passing over {broken}: it is damaged" in caplog.text


@pytest.mark.parametrize("command", ["fit", "validate"])
def test_the_checkpoint_that_is_named_instead_is_of_this_objective(command, tmp_path):
    """That of another objective would be refused, too."""
    ours = save_file(tmp_path / "ours.ckpt")
    theirs = save_file(tmp_path / "theirs.ckpt")
    for path, objective in ((ours, "DPO"), (theirs, "SoLoPO")):
        torch.save({**torch.load(path), "run": {"objective": objective, "settings": {"model": objective}}}, path)
    model = Nothing()
    model.settings = {"model": "DPO"}
    with pytest.raises(ValueError, match=f"nothere.ckpt.* type: --ckpt_path {ours}"):
        getattr(trainer(tmp_path), command)(model, ckpt_path=tmp_path / "nothere.ckpt")
    ours.unlink()
    with pytest.raises(ValueError, match="there is no whole one of these settings"):
        getattr(trainer(tmp_path), command)(model, ckpt_path=tmp_path / "nothere.ckpt")


def test_last_is_the_newest_whole_one_of_any_earlier_run(tmp_path, caplog):
    first = tmp_path / "lightning_logs/version_0/checkpoints"
    second = tmp_path / "lightning_logs/version_1/checkpoints"
    for folder in (first, second):
        folder.mkdir(parents=True)
    good = save_file(first / "last.ckpt")
    cut(save_file(second / "last.ckpt"))
    partial_name(second / "step=9.ckpt").write_bytes(good.read_bytes())
    assert newest_whole(tmp_path) == good
    assert last(tmp_path) == good
    assert f"going on from {good}" in caplog.text
    assert last(first / "nothing") is None
    assert "no whole checkpoint" in caplog.text


@pytest.mark.parametrize("command", ["fit", "validate", "test"])
def test_the_best_is_known_to_who_has_trained_it(command, tmp_path):
    """Lightning ends in a traceback otherwise."""
    callback = ModelCheckpoint(tmp_path, monitor="val/loss")
    with pytest.raises(ValueError, match="or last, for --ckpt_path, got best, which only the process that has trained"):
        getattr(trainer(tmp_path, callbacks=[callback]), command)(Nothing(), ckpt_path="best")
    callback.best_model_path = str(tmp_path / "step=2.ckpt")
    choice = CheckpointChoice(trainer(tmp_path, callbacks=[callback]))
    assert choice.usable("best", {}, fitting=False) == "best"


def test_weights_alone_are_not_gone_on_from(tmp_path, caplog):
    """`save_weights_only` ended in Lightning's KeyError after the policy was loaded."""
    whole, alone = save_file(tmp_path / "step=2.ckpt"), save_file(tmp_path / "step=4.ckpt")
    written = {"pytorch-lightning_version": "2.6.0", "loops": {}}
    torch.save({**torch.load(alone), **written}, alone)
    torch.save({**torch.load(whole), **written, "optimizer_states": [], "lr_schedulers": []}, whole)
    choice = CheckpointChoice(trainer(tmp_path))
    with pytest.raises(ValueError, match=rf"step=4.ckpt, which `save_weights_only` .*: --initial_weights {alone} inst"):
        choice.to_fit(alone, {})
    assert choice.to_fit(whole, {}) == (whole, None)
    assert choice.to_fit("last", {}) == (None, [whole])
    assert f"passing over {alone}: it holds weights alone" in caplog.text
    assert choice.to_score(alone, Nothing()) == alone


@pytest.mark.parametrize("fits", [True, False])
def test_under_slurm_only_a_checkpoint_of_this_run_is_gone_on_from(fits, tmp_path, monkeypatch, caplog):
    """Lightning takes any `hpc_ckpt_N.ckpt` of the root folder there, if nothing is named."""
    monkeypatch.setattr(SLURMEnvironment, "detect", lambda: True)
    path, objective = save_file(tmp_path / "hpc_ckpt_1.ckpt"), "DPO" if fits else "SoLoPO"
    torch.save({**torch.load(path), "run": {"objective": objective, "settings": {"model": objective}}}, path)
    flip(save_file(tmp_path / "hpc_ckpt_2.ckpt"))
    one, model = trainer(tmp_path), {"model_provided": True, "model_connected": True}
    choice = CheckpointChoice(one)
    connector = ResumingConnector(one, choice.to_fit(None, {"model": "DPO"})[1], lambda path: None, choice.damage)
    assert connector._parse_ckpt_path(TrainerFn.FITTING, None, **model) is None
    assert connector._last_of_this_data(connector.last) == (path if fits else None)
    assert f"passing over {tmp_path / 'hpc_ckpt_2.ckpt'}: it is damaged" in caplog.text
    with one._scoring(None, Nothing(), None) as path:
        assert path is None
    assert one._checkpoint_connector._parse_ckpt_path(TrainerFn.VALIDATING, None, **model) is None


def test_a_folder_of_another_strategy_is_refused_with_what_to_type(tmp_path):
    folder = save_folder(tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match=r"DeepSpeed folder of AnyDevice.* with 2 processes.*reads a file"):
        check_loadable(folder, SINGLE, 1, fitting=True)
    anew = rf"start anew from its weights: --initial_weights {folder} instead"  # --policy.source: another reference
    with pytest.raises(ValueError, match=anew):
        check_loadable(folder, ModelParallelStrategy(), 2, fitting=True)
    with pytest.raises(ValueError, match="expected a checkpoint file or folder"):
        check_loadable(tmp_path, SINGLE, 1, fitting=True)
    check_loadable(save_file(tmp_path / "file.ckpt"), SINGLE, 1, fitting=True)


def test_fsdp2_reads_and_writes_folders_alone(tmp_path):
    with pytest.raises(ValueError, match=r"is a file, ModelParallelStrategy reads a torch folder; go on with the over"):
        check_loadable(save_file(tmp_path / "last.ckpt"), ModelParallelStrategy(), 2, fitting=True)
    whole = ModelParallelStrategy(data_parallel_size=1, save_distributed_checkpoint=False)
    with pytest.raises(ValueError, match=r"got ModelParallelStrategy with `save_distributed_checkpoint: false`"):
        trainer(tmp_path, devices=1, strategy=whole).fit(Nothing())


def test_deepspeed_keeps_its_number_of_processes(tmp_path):
    pytest.importorskip("deepspeed")
    folder = save_folder(tmp_path / "last.ckpt")
    strategy = AnyDeviceDeepSpeedStrategy(stage=2)
    check_loadable(folder, strategy, 2, fitting=True)
    check_loadable(folder, strategy, 1, fitting=False)
    with pytest.raises(ValueError, match=r"saved by 2 processes.*over 4; set --trainer.devices"):
        check_loadable(folder, strategy, 4, fitting=True)
