"""Strategies of Lightning's in whose place there is another."""

import pytest
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy, FSDPStrategy
from support.zero3 import needs_deepspeed

from lit_longpo.objectives import SoLoPO
from lit_longpo.strategies import AnyDeviceDeepSpeedStrategy, check_strategy


@needs_deepspeed
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_deepspeed_of_lightning_is_not_ours(stage):
    """`deepspeed_stage_2`, as people type it, would train with gradients that are too small."""
    with pytest.raises(ValueError, match=rf"got Lightning's DeepSpeed.*type --config .*deepspeed_zero{stage}\.yaml in"):
        check_strategy(DeepSpeedStrategy(stage=stage))
    check_strategy(AnyDeviceDeepSpeedStrategy(stage=stage))


def test_the_first_fsdp_is_refused():
    with pytest.raises(ValueError, match=r"got Lightning's FSDPStrategy, .*type --config configs/overlays/fsdp2\.yaml"):
        check_strategy(FSDPStrategy())
    check_strategy(DDPStrategy())
    check_strategy(None)


def test_objectives_ask_too():
    """From Python nobody else does."""
    with pytest.raises(ValueError, match="FSDPStrategy"):
        SoLoPO()._sections.check(FSDPStrategy(), "32-true")
