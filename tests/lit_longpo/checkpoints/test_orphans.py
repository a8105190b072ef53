"""What a killed run left half written goes when another starts beside it; what is being written stays."""

import pytest

from lit_longpo.checkpoints.orphans import remove_orphans
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
