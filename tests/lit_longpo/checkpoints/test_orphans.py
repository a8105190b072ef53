"""What a killed run left half written goes when another starts beside it; what is being written stays."""

import pytest
from lightning.pytorch.loggers import CSVLogger
from support.preference_data import RandomPairs

from lit_longpo.checkpoints import ResumableTrainer
from lit_longpo.checkpoints.orphans import remove_orphans
from lit_longpo.objectives import SFT
from lit_longpo.policy import PolicyConfig
from lit_longpo.run_folder import only_owner


def half_written(folder):
    """A checkpoint folder, a checkpoint file and a model, none of them whole; and a whole checkpoint."""
    names = ("checkpoints/last.ckpt.partial/shard", "checkpoints/step=2.ckpt.partial", "model.partial/config.json")
    for name in (*names, "checkpoints/last.ckpt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("half")


def left(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_the_next_version_removes_what_a_dead_one_left_and_nothing_of_a_living_one(tmp_path):
    dead, alive, before, mine = (tmp_path / f"version_{number}" for number in range(4))
    for folder in (dead, alive, before):
        half_written(folder)
    with only_owner(dead):
        pass
    whole = left(before)
    with only_owner(alive), only_owner(mine):
        remove_orphans(mine, numbered=True)
    assert left(dead) == [".running", "checkpoints/last.ckpt"]
    assert left(alive) == [".running", *whole]
    assert left(before) == whole  # nobody can tell whether its run is over


@pytest.mark.parametrize("name", ["named", "version_9"])
def test_a_named_folder_is_looked_through_itself(name, tmp_path):
    half_written(tmp_path / name)
    with only_owner(tmp_path / name):
        remove_orphans(tmp_path / name, numbered=False)
    assert left(tmp_path / name) == [".running", "checkpoints/last.ckpt"]


@pytest.mark.parametrize("dry", [False, True])
def test_a_fit_that_starts_removes_them_and_one_that_keeps_nothing_does_not(dry, policy_folder, tmp_path):
    dead = tmp_path / "lightning_logs/version_0"
    half_written(dead)
    before = left(dead)
    (dead / ".running").touch()
    module = SFT(policy=PolicyConfig(source=str(policy_folder)))
    trainer = ResumableTrainer(
        max_steps=1, accelerator="cpu", logger=CSVLogger(tmp_path), enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False, num_sanity_val_steps=0, limit_val_batches=0,
        default_root_dir=tmp_path, fast_dev_run=dry,
    )  # fmt: skip
    trainer.fit(module, datamodule=RandomPairs(module.views))
    assert left(dead) == [".running", *(before if dry else ["checkpoints/last.ckpt"])]
    assert (tmp_path / "lightning_logs/version_1/.running").is_file() != dry
