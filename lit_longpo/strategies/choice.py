"""Strategies of Lightning's that would train something else, or end in the midst of it."""

from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy

from lit_longpo.errors import InputError
from lit_longpo.strategies.deepspeed import AnyDeviceDeepSpeedStrategy


def check_strategy(strategy: object) -> None:
    """Refuse a strategy in whose place there is one of ours, or a newer one.

    Args:
        strategy: of the trainer; `None` without one.

    Raises:
        InputError: naming the overlay to take.
    """
    if isinstance(strategy, DeepSpeedStrategy) and not isinstance(strategy, AnyDeviceDeepSpeedStrategy):
        stage = (getattr(strategy, "config", None) or {}).get("zero_optimization", {}).get("stage", 2)
        overlay = f"deepspeed_zero{stage if stage in (1, 2, 3) else 2}"
        why = "which divides gradients by the number of accumulated rows twice"
    elif isinstance(strategy, FSDPStrategy):
        overlay, why = "fsdp2", "which gathers weights only around the whole model, whose parts are called here"
    else:
        return
    path, got = f"configs/overlays/{overlay}.yaml", type(strategy).__name__
    raise InputError(
        f"expected `trainer.strategy` as in {path}, got Lightning's {got}, {why}; type --config {path} in place of "
        "--trainer.strategy"
    )
