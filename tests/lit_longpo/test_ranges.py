"""No coefficient that means nothing gets past its constructor."""

import math
import re
from inspect import signature

import pytest

from lit_longpo import objectives
from lit_longpo.objectives import PreferenceModule
from lit_longpo.ranges import check_numbers, check_range

OBJECTIVES = [
    kind
    for kind in vars(objectives).values()
    if isinstance(kind, type) and issubclass(kind, PreferenceModule) and not kind.__abstractmethods__
]
SCALES = {"beta"}  # at zero nothing is learned
NUMBERS = [
    (kind, name)
    for kind in OBJECTIVES
    for name, parameter in signature(kind).parameters.items()
    if "float" in str(parameter.annotation)
]


def test_there_are_numbers_in_every_objective():
    assert {kind.__name__ for kind, _ in NUMBERS} >= {"DPO", "SimPO", "ORPO", "SFT", "LongPO", "LOGO", "SoLoPO"}


@pytest.mark.parametrize("value", [-1.0, -1e-9, math.nan, math.inf, -math.inf, 1e30])
@pytest.mark.parametrize(("kind", "name"), NUMBERS, ids=lambda part: getattr(part, "__name__", part))
def test_coefficients_that_mean_nothing_are_refused(kind, name, value):
    got = re.escape(f"at most 1000, got {value}; ")
    with pytest.raises(ValueError, match=rf"expected `{kind.__name__}.{name}` .*{got}\S+"):
        kind(**{name: value})


@pytest.mark.parametrize(("kind", "name"), NUMBERS, ids=lambda part: getattr(part, "__name__", part))
def test_zero_is_refused_where_nothing_would_be_learned(kind, name):
    if name not in SCALES:
        kind(**{name: 0.0})
        return
    with pytest.raises(ValueError, match=r"above 0 and at most 1000, got 0.0"):
        kind(**{name: 0.0})


def test_a_range_says_all_its_bounds():
    with pytest.raises(ValueError, match=r"expected `a.b` of at least 1 and below 2, got 2; take 1"):
        check_range("a.b", 2, "take 1", at_least=1, below=2)
    with pytest.raises(ValueError, match=r"expected `a.b` above 0, got nan; take 1"):
        check_range("a.b", math.nan, "take 1", above=0)
    check_range("a.b", 1, "take 1", at_least=1, at_most=1)


class Base:
    def __init__(self, width: int | None = 1, depth: int | None = 1) -> None:
        self.width, self.depth = width, depth
        check_numbers(self, "", width=(1, 9), depth=(1, 9))


class Derived(Base):
    def __init__(self, width: int = 1, **more: int | None) -> None:
        super().__init__(width, **more)


def test_null_is_no_number_where_the_class_itself_does_not_take_it():
    """Its own word counts, its base's where it says nothing."""
    Base(None, None)
    Derived(depth=None)
    with pytest.raises(ValueError, match="expected `width` from 1 to 9, got None"):
        Derived(None)
