"""Range checks of numbers and coefficients, where they are handed over and before anything is loaded."""

import math
from collections.abc import Sequence

from lit_longpo.arguments import arguments_of, takes_null
from lit_longpo.errors import InputError

MOST = 10_000_000  # of things to make or to ask: more would not end while somebody waits
MOST_TOKENS = 1_000_000_000  # of anything that is measured in tokens or words
MOST_ANSWERED = 1_000_000  # tokens of one answer
MOST_WORKERS = 1024  # processes of a data loader
SEEDS = (-(2**63), 2**64 - 1)  # that torch's generators take
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
        InputError: it is outside.
    """
    number = math.nan if value is None else value  # a file's null is handed over for any number
    bounds = {
        "above": (above, above is None or number > above),
        "of at least": (at_least, at_least is None or number >= at_least),
        "below": (below, below is None or number < below),
        "at most": (at_most, at_most is None or number <= at_most),
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


def check_numbers(settings: object, where: str, **ranges: tuple[float, float]) -> None:
    """Refuse attributes outside of their ranges; a list's numbers one by one, `None` where the class does not take it.

    Args:
        settings: that have the attributes.
        where: what stands before their names, for example `recipe.init_args.`.
        **ranges: the smallest and the largest that means something, by attribute.

    Raises:
        InputError: naming the first that is outside; what is no number is outside of every range.
    """
    taken = arguments_of(type(settings))  # type: ignore[arg-type]
    for name, (low, high) in ranges.items():
        given = getattr(settings, name)
        if given is None and name in taken and takes_null(taken[name][0]):
            continue
        for number in given if isinstance(given, Sequence) else (given,):
            if number is None or not low <= number <= high:
                raise InputError(
                    f"expected `{where}{name}` from {low:,} to {high:,}, got {number}; type a number in that range"
                )
