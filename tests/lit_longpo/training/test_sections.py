"""What a run's settings are recorded as, and what is refused before a policy is loaded."""

from dataclasses import replace

import pytest

from lit_longpo.errors import InputError
from lit_longpo.objectives import DPO, SFT
from lit_longpo.optimization import Optimization
from lit_longpo.policy import LoRA, PolicyConfig, ReferenceConfig
from lit_longpo.training.sections import Sections


def sections(policy, objective=DPO, reference=None):
    return Sections(policy, Optimization(), reference or ReferenceConfig(), objective().views)


def recorded(policy, objective=DPO, reference=None):
    return sections(policy, objective, reference).settings(objective.__name__, objective().arguments())


@pytest.fixture
def policy(policy_folder):
    return PolicyConfig(source=str(policy_folder))


def test_how_a_policy_is_computed_is_no_setting_and_what_it_is_made_of_is(policy):
    settings = recorded(policy)
    assert (settings["model"], settings["model.beta"]) == ("DPO", 0.1)
    assert recorded(replace(policy, gradient_checkpointing=True, tile_tokens=16)) == settings
    differing = {
        name for name, value in recorded(replace(policy, lora=LoRA(r=2))).items() if settings.get(name) != value
    }
    assert {"policy.lora", "policy.lora.r"} <= differing
    assert all(name.startswith("policy.lora") for name in differing)


def test_the_weights_files_are_recorded_and_not_their_place(policy, tmp_path, policy_folder):
    import shutil

    shutil.copytree(policy_folder, tmp_path / "moved")
    moved = recorded(PolicyConfig(source=str(tmp_path / "moved")))
    assert moved["policy.files"] == recorded(policy)["policy.files"]
    weights = next((tmp_path / "moved").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    assert recorded(PolicyConfig(source=str(tmp_path / "moved")))["policy.files"] != moved["policy.files"]


def test_another_reference_counts_where_there_is_one(policy):
    other = ReferenceConfig(policy=policy, mode="online")
    assert recorded(policy, DPO, other)["reference.policy.source"] == policy.source
    assert not any(name.startswith("reference.policy") for name in recorded(policy, SFT, other))


def test_half_precision_that_would_start_elsewhere_is_refused_before_loading(policy, monkeypatch):
    monkeypatch.setattr(PolicyConfig, "load", lambda _: pytest.fail("loaded"))
    sections(policy).check(None, "32-true")
    with pytest.raises(InputError, match="precision"):
        sections(policy).check(None, "bf16-true")
