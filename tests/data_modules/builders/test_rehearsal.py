"""A dry run."""

from support.builders import world_build

from data_modules.builders.rehearsal import rehearse


def test_a_dry_run_shows_prompts_and_cost_and_writes_nothing(tmp_path):
    text = rehearse(world_build(tmp_path / "out", verifiers=()))
    assert text.count("--- prompt") == 3
    assert "Complete:" in text
    assert "11 records (counted): about 44 requests" in text
    assert not (tmp_path / "out").exists()
