"""A dry run."""

from support.builders import world_build

from data_modules.builders import TransformersGenerator, VLLMGenerator
from data_modules.builders.rehearsal import rehearse


def test_a_dry_run_shows_prompts_and_cost_and_writes_nothing(tmp_path):
    text = rehearse(world_build(tmp_path / "out", verifiers=()))
    assert text.count("--- prompt") == 3
    assert "Complete:" in text
    assert "11 records (counted): about 44 requests" in text
    assert not (tmp_path / "out").exists()


def test_prompts_are_shown_as_whoever_runs_the_policy_reads_them(tmp_path):
    """vLLM is sent the policy's prompts, too; a server writes its own marks around a text."""
    here, engine, elsewhere = (
        rehearse(world_build(tmp_path, verifiers=(), **generator))
        for generator in ({"generator": TransformersGenerator()}, {"generator": VLLMGenerator()}, {})
    )
    assert here == engine != elsewhere
