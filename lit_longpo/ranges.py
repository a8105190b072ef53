"""Numbers that mean something: every coefficient is checked where it is handed over, before anything is loaded."""

from lit_longpo.errors import InputError

LARGEST = 1000.0  # no coefficient of a loss is meant to be larger


def check_range(
    setting: str,
    value: float,
    hint: str,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
) -> None:
    """Refuse a number outside of its range; what is no number is outside of every range.

    Args:
        setting: where the number stands, for example `model.init_args.beta`.
        value: the number.
        hint: what to type instead.
        above: what it must exceed.
        at_least: what it may not fall below.
        below: what it must not reach.
        at_most: what it may not exceed.

    Raises:
        ValueError: it is outside.
    """
    bounds = {
        "above": (above, above is None or value > above),
        "of at least": (at_least, at_least is None or value >= at_least),
        "below": (below, below is None or value < below),
        "at most": (at_most, at_most is None or value <= at_most),
    }
    if not all(kept for _, kept in bounds.values()):
        wanted = " and ".join(f"{name} {bound:g}" for name, (bound, _) in bounds.items() if bound is not None)
        raise InputError(f"expected `{setting}` {wanted}, got {value}; {hint}")


def check_weight(setting: str, value: float, hint: str) -> None:
    """Refuse a weight of a loss's term, or a margin, that is negative, too large or no number; see `check_range`."""
    check_range(setting, value, hint, at_least=0.0, at_most=LARGEST)


def check_scale(setting: str, value: float, hint: str) -> None:
    """Refuse a scale at which a loss learns nothing, or the opposite; see `check_range`."""
    check_range(setting, value, hint, above=0.0, at_most=LARGEST)
