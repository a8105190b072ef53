import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation import truncate_middle
from evaluation.prompting import Prompt
from evaluation.truncation import truncation_report

styles = st.sampled_from(["longbench", "longbench_v2"])


@pytest.mark.parametrize(
    ("style", "max_length", "kept"),
    [
        ("longbench", 4, [0, 1, 8, 9]),
        ("longbench", 5, [0, 1, 8, 9]),  # an odd length loses one token
        ("longbench_v2", 4, [0, 1, 8, 9]),
        ("longbench_v2", 5, [0, 1, 7, 8, 9]),  # and here it does not
        ("longbench_v2", 1, [9]),
        ("longbench", 1, list(range(10))),  # two slices of zero: everything stays
        ("longbench", 10, list(range(10))),
    ],
)
def test_official_rules(style, max_length, kept):
    assert truncate_middle(range(10), max_length, style=style) == kept


@given(st.integers(0, 200), st.integers(2, 200), styles)
def test_it_keeps_a_head_and_a_tail(num_tokens, max_length, style):
    kept = truncate_middle(range(num_tokens), max_length, style=style)
    lost_to_halves = 1 if style == "longbench" and max_length % 2 and num_tokens > max_length else 0
    assert len(kept) == min(num_tokens, max_length - lost_to_halves)
    gaps = [second - first for first, second in itertools.pairwise(kept) if second - first > 1]
    assert len(gaps) <= 1
    assert not kept or (kept[0], kept[-1]) == (0, num_tokens - 1)


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="at least 1 token"):
        truncate_middle([1], 0, style="longbench")
    with pytest.raises(ValueError, match="longbench, longbench_v2"):
        truncate_middle([1], 5, style="lveval")


def prompt(num_tokens, num_lost):
    return Prompt((), 1, (), 0, num_tokens, num_lost, False)


def test_the_report_counts_per_task():
    report = truncation_report({"a": [prompt(100, 0), prompt(300, 100)], "b": []})
    assert str(report["a"]) == "1 of 2 cut, 100 tokens lost (25.0%)"
    assert (report["b"].num_examples, str(report["b"])) == (0, "0 of 0 cut, 0 tokens lost (0.0%)")
