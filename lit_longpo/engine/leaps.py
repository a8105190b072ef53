"""Refuses prompts with leaps in their positions (LOGO's synthesised ones) for models that cannot be scored at them."""

from transformers import PreTrainedModel

from lit_longpo.batch import PackedBatch
from lit_longpo.engine.attention import UnsupportedModelError

_PROBLEM = "_no_leaps_because"


def refuse_leaps(model: PreTrainedModel, cause: str | None) -> None:
    """From now on refuse rows with such positions for this cause; `None` allows them."""
    setattr(model, _PROBLEM, cause)


def check_leaps(model: PreTrainedModel, row: PackedBatch) -> None:
    """Refuse a row whose positions leap, for a model that cannot be scored at them."""
    cause = getattr(model, _PROBLEM, None)
    if row.leaps and cause is not None:
        raise UnsupportedModelError(leap_message(model, cause))


def leap_message(model: PreTrainedModel, cause: str) -> str:
    """The error message about such rows."""
    return (
        f"expected true positions for {type(model).__name__}, got synthesised ones: {cause}; type "
        "--data.init_args.positions null"
    )
