"""What cannot be split is refused before anything is loaded."""

from types import SimpleNamespace

import pytest
from lightning.pytorch.strategies import ModelParallelStrategy, SingleDeviceStrategy
from lightning.pytorch.trainer.states import TrainerFn

from lit_longpo.objectives import DPO, SFT
from lit_longpo.policy import LoRA, PolicyConfig, ReferenceConfig
from lit_longpo.strategies import data_parallel_mesh, splits_parameters

ONLINE = ReferenceConfig("online")
FITTING = SimpleNamespace(fn=TrainerFn.FITTING)


class Mesh(dict):
    def size(self):
        return self["data_parallel"].size() * self["tensor_parallel"].size()


def mesh(data, tensor):
    return Mesh(data_parallel=SimpleNamespace(size=lambda: data), tensor_parallel=SimpleNamespace(size=lambda: tensor))


def test_only_the_data_parallel_ranks_split_parameters():
    assert data_parallel_mesh(mesh(4, 1)).size() == 4
    with pytest.raises(ValueError, match=r"a mesh of 2 data-parallel x 4 .*data_parallel_size 8 .*parallel_size 1"):
        data_parallel_mesh(mesh(2, 4))


@pytest.mark.parametrize("policy", [PolicyConfig(), PolicyConfig(lora=LoRA(also_train=["norm"]))])
@pytest.mark.parametrize(
    "strategy", [ModelParallelStrategy(), SimpleNamespace(zero_stage_3=True)], ids=["fsdp2", "zero3"]
)
def test_a_copy_of_a_split_policy_is_refused_before_it_is_loaded(policy, strategy, monkeypatch):
    monkeypatch.setattr(PolicyConfig, "load", lambda policy: pytest.fail("the policy was loaded"))
    assert splits_parameters(strategy)
    module = DPO(policy=policy, reference=ONLINE)
    module._trainer = SimpleNamespace(strategy=strategy, precision="32-true", state=FITTING)
    with pytest.raises(ValueError, match=r"expected `reference.mode: cached`.*; type --reference.mode cached"):
        module.configure_model()


@pytest.mark.parametrize(
    "module",
    [
        DPO(policy=PolicyConfig("/none"), reference=ReferenceConfig("online", policy=PolicyConfig())),
        DPO(policy=PolicyConfig("/none", lora=LoRA()), reference=ONLINE),
        DPO(policy=PolicyConfig("/none")),
        SFT(policy=PolicyConfig("/none"), reference=ONLINE),
    ],
    ids=["another model", "adapters off", "cached", "no reference"],
)
def test_what_needs_no_copy_goes_on(module):
    module._trainer = SimpleNamespace(strategy=ModelParallelStrategy(), precision="32-true", state=FITTING)
    with pytest.raises(FileNotFoundError):
        module.configure_model()


def test_whole_models_can_be_copied():
    assert not splits_parameters(SingleDeviceStrategy("cpu"))
    assert not splits_parameters(None)
