"""Prompts whose positions leap (LOGO's synthesised ones): refused for models that cannot be scored at them."""

from transformers import PreTrainedModel

from lit_longpo.batch import PackedBatch
from lit_longpo.engine.attention import UnsupportedModelError

_PROBLEM = "_no_leaps_because"


def refuse_leaps(model: PreTrainedModel, cause: str | None) -> None:
    """Refuse rows with such positions from now on, saying why; `None` allows them."""
    setattr(model, _PROBLEM, cause)


def check_leaps(model: PreTrainedModel, row: PackedBatch) -> None:
    """Whether a row's positions are ones that a model can be scored at.

    Raises:
        UnsupportedModelError: they are not.
    """
    cause = getattr(model, _PROBLEM, None)
    if row.leaps and cause is not None:
        raise UnsupportedModelError(leap_message(model, cause))


def leap_message(model: PreTrainedModel, cause: str) -> str:
    """What a user is told."""
    return (
        f"expected true positions for {type(model).__name__}, got synthesised ones: {cause}; type "
        "--data.init_args.positions null"
    )
