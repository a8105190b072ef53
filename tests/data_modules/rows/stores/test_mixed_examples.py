"""How many examples of each source an epoch has, by hand."""

import pytest

from data_modules.rows.stores.mixed_examples import counts_of


@pytest.mark.parametrize(
    ("sizes", "weights", "smaller", "expected"),
    [
        ((8000, 500), (0.8, 0.2), "repeat", (8000, 2000)),  # 8000 / .8 = 10,000, of which .2 are 2000
        ((8000, 500), (0.8, 0.2), "stop", (2000, 500)),  # 500 / .2 = 2500
        ((700, 300), (0.7, 0.3), "repeat", (700, 300)),  # 0.7 is no binary fraction; nothing comes twice for that
        ((700, 300), (7, 3), "stop", (700, 300)),
        ((3, 3), (2, 1), "repeat", (6, 3)),  # the last to be used up decides
        ((10, 10), (1, 2), "stop", (5, 10)),
        ((8000, 500), None, "repeat", (8000, 500)),
        ((5, 0), None, "repeat", (5, 0)),
    ],
)
def test_counts(sizes, weights, smaller, expected):
    named = None if weights is None else dict(zip("ab", weights, strict=True))
    counts = counts_of(dict(zip("ab", sizes, strict=True)), named, smaller)
    assert tuple(counts[name].per_epoch for name in "ab") == expected
    assert sum(counts[name].weight for name in "ab") == pytest.approx(1)
