"""A dry run."""

from dataclasses import replace

import pytest
from support.builders import world_build

from data_modules.builders import TransformersGenerator, VLLMGenerator
from data_modules.builders.checks.verifiers import LogProbGap
from data_modules.builders.rehearsal import rehearse
from lit_longpo.errors import InputError
from lit_longpo.policy import PolicyConfig


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


def test_records_that_ask_nothing_are_told_with_the_reason(tmp_path):
    """A dry run said "about 0 requests", and only the build itself why."""
    build = world_build(tmp_path / "out", verifiers=())
    text = rehearse(replace(build, recipe=replace(build.recipe, short_tokens=1)))
    assert "11 of 11 records ask nothing and make no pair (the supporting passages alone exceed" in text
    assert "ask nothing" not in rehearse(build)


def test_a_verifier_whose_model_is_not_there_is_refused(tmp_path):
    """Only the build itself said so."""
    verifiers = (LogProbGap(PolicyConfig(str(tmp_path / "none"))),)
    with pytest.raises(InputError, match="verifier LogProbGap: "):
        rehearse(world_build(tmp_path / "out", verifiers=verifiers))


def test_no_weights_of_a_verifier_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(PolicyConfig, "load_base", lambda self: pytest.fail("weights were read"))
    assert "--- prompt" in rehearse(world_build(tmp_path / "out", verifiers=(LogProbGap(),)))
