import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.benchmarks.needle_tasks import NEEDLE_TASKS, Sizes
from evaluation.metrics.ruler import all_found, share_found

seeds = st.integers(0, 10_000)
depths = st.sampled_from([0.0, 0.3, 1.0])


def make(task, seed, depth=0.5, **sizes):
    return NEEDLE_TASKS[task].make(random.Random(seed), (depth,), 0, replace(Sizes(), **sizes))


@given(st.sampled_from(sorted(NEEDLE_TASKS)), seeds, depths)
def test_every_answer_is_in_the_facts_and_none_is_part_of_another(task, seed, depth):
    drawn = make(task, seed, depth)
    text = " ".join(sentence for _, sentence in drawn.facts)
    assert all(answer in text for answer in drawn.answers)
    assert len(set(drawn.answers)) == len(drawn.answers)
    assert not any(a in b for a in drawn.answers for b in drawn.answers if a != b)
    assert all(0 <= place <= 1 for place, _ in drawn.facts)
    assert drawn == make(task, seed, depth)


@given(seeds, depths, st.integers(1, 20))
def test_multi_key_asks_one_key_at_the_depth_among_lookalikes(seed, depth, count):
    drawn = make("multi_key", seed, depth, num_keys=count)
    assert len(drawn.facts) == count
    place, needle = drawn.facts[0]
    assert place == depth
    key = drawn.question.removeprefix("What is the locker number of the ").removesuffix("?")
    assert needle == f"The locker number of the {key} is {drawn.answers[0]}."
    assert sum(f"of the {key} is" in text for _, text in drawn.facts) == 1


@given(seeds, st.integers(1, 20))
def test_multi_key_asks_about_one_context_at_every_depth(seed, count):
    depths = (0.0, 0.5, 1.0)
    made = [
        NEEDLE_TASKS["multi_key"].make(random.Random(seed), depths, asked, Sizes(num_keys=count))
        for asked in range(len(depths))
    ]
    assert len(made[0].facts) == max(count, 3)
    assert all(drawn.facts == made[0].facts for drawn in made)
    for depth, drawn in zip(depths, made, strict=True):
        assert [place for place, text in drawn.facts if drawn.answers[0] in text] == [depth]


@given(seeds, st.integers(1, 20))
def test_multi_value_expects_all_values_of_one_key(seed, count):
    drawn = make("multi_value", seed, num_values=count)
    assert len(drawn.answers) == len(drawn.facts) == count
    assert len({text.rsplit(" is ")[0] for _, text in drawn.facts}) == 1


@given(seeds, st.integers(1, 20))
def test_multi_query_names_every_key(seed, count):
    drawn = make("multi_query", seed, num_values=count)
    keys = [text.removeprefix("The locker number of ").rsplit(" is ")[0] for _, text in drawn.facts]
    assert len(set(keys)) == len(drawn.answers) == count
    assert all(key in drawn.question for key in keys)


def run_program(facts):
    """Values of all variables, the assignments executed in the order of the text."""
    values = {}
    for _, text in sorted(facts, key=lambda fact: fact[0]):
        name, source = text.removeprefix("Variable ").removesuffix(".").split(" is set to ")
        values[name] = values[source.rsplit(" ")[-1]] if source.startswith("the value") else source
    return values


@given(seeds, st.integers(1, 5), st.integers(1, 6))
def test_variable_tracking_asks_for_exactly_the_variables_of_that_value(seed, chains, hops):
    drawn = make("variable_tracking", seed, num_chains=chains, num_hops=hops)
    values = run_program(drawn.facts)
    asked = next(value for value in values.values() if value in drawn.question)
    assert {name for name, value in values.items() if value == asked} == set(drawn.answers)
    assert len(values) == chains * (hops + 1)
    assert len(set(values.values())) == chains


def test_sizes_are_checked():
    with pytest.raises(ValueError, match=r"`sizes.num_keys` from 1 to 100, got 0"):
        Sizes(num_keys=0)


def test_rulers_rule_counts_the_share_whatever_the_case():
    assert share_found("it is ab and CD", ("AB", "cd", "ef", "gh")) == 0.5
    assert share_found("12345", ("12", "9")) == 0.5  # a substring, not a word
    assert share_found("", ("a",)) == 0.0
    assert all_found("ab cd", ("AB", "cd")) == 1.0
    assert all_found("ab", ("AB", "cd")) == 0.0
    with pytest.raises(ValueError, match="at least one string"):
        share_found("text", ())
