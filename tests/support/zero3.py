"""Whether DeepSpeed is here; and ZeRO-3 for tiny models: what it keeps whole because it is small is split as well."""

import importlib.util
from typing import Any

import pytest
from torch import nn

from lit_longpo.strategies import AnyDeviceDeepSpeedStrategy

HAS_DEEPSPEED = importlib.util.find_spec("deepspeed") is not None
needs_deepspeed = pytest.mark.skipif(not HAS_DEEPSPEED, reason='needs pip install "lit_longpo[deepspeed]"')


def releasing_zero3(**options: Any) -> AnyDeviceDeepSpeedStrategy:
    """Stage 3 that keeps no parameter gathered after its use, and gathers none before.

    However small it is, however soon it is used again; and after a validation no backward pass comes, for which
    DeepSpeed would have gathered parameters ahead.
    """
    strategy = AnyDeviceDeepSpeedStrategy(stage=3, **options)
    assert isinstance(strategy.config, dict)
    strategy.config["zero_optimization"] |= {
        "stage3_param_persistence_threshold": 0,
        "stage3_max_reuse_distance": 0,
        "stage3_prefetch_bucket_size": 0,
    }
    return strategy


def all_released(model: nn.Module) -> bool:
    """Whether this rank holds a part of every parameter, and nothing else of any."""
    return all(p.numel() == 0 and p.ds_tensor.numel() < p.ds_numel for p in model.parameters())
