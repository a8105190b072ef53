"""Token-budget batches: nothing lost, budgets kept, ranks in step, exact resume."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torchdata.stateful_dataloader import StatefulDataLoader

from data_modules.rows.dealing.sampling import TokenBudgetBatchSampler


@st.composite
def settings_of(draw: st.DrawFn) -> dict[str, Any]:
    lengths = draw(st.lists(st.integers(1, 200), min_size=1, max_size=40))
    return {
        "lengths": lengths,
        "max_tokens": draw(st.integers(max(lengths), 500)),
        "max_examples": draw(st.none() | st.integers(1, 5)),
        "shuffle": draw(st.booleans()),
        "seed": draw(st.integers(0, 3)),
    }


@given(settings_of(), st.integers(1, 4), st.integers(0, 3))
@settings(max_examples=150, deadline=None)
def test_all_ranks_cover_everything_within_budget(options: dict[str, Any], num_replicas: int, epoch: int) -> None:
    ranks = [TokenBudgetBatchSampler(**options, num_replicas=num_replicas, rank=r) for r in range(num_replicas)]
    for sampler in ranks:
        sampler.sampler.set_epoch(epoch)
    by_rank = [list(sampler) for sampler in ranks]
    assert {len(rows) for rows in by_rank} == {len(ranks[0])}
    rows = [row for rows in zip(*by_rank, strict=True) for row in rows]
    distinct = {tuple(row) for row in rows}
    assert sorted(i for row in distinct for i in row) == list(range(len(options["lengths"])))
    assert len(rows) - len(distinct) == -len(distinct) % num_replicas
    for row in rows:
        assert sum(options["lengths"][i] for i in row) <= options["max_tokens"]
        assert len(row) <= (options["max_examples"] or len(row))


@given(settings_of())
@settings(max_examples=50, deadline=None)
def test_every_epoch_has_the_same_number_of_rows(options: dict[str, Any]) -> None:
    """Lightning reads the number once; a longer epoch would lose its last rows."""
    sampler = TokenBudgetBatchSampler(**options)
    assert {len(sampler.batches(epoch)) for epoch in range(5)} == {len(sampler)}


def test_epochs_differ_and_repeat() -> None:
    def rows(epoch: int) -> list[list[int]]:
        return TokenBudgetBatchSampler(range(10, 90), 200, shuffle=True, seed=1).batches(epoch)

    assert rows(0) == rows(0)
    assert rows(0) != rows(1)
    assert {tuple(sorted(row)) for row in rows(0)} != {tuple(sorted(row)) for row in rows(1)}


def test_unshuffled_rows_keep_the_order() -> None:
    sampler = TokenBudgetBatchSampler([3, 3, 5, 1, 1], 6)
    assert list(sampler) == [[0, 1], [2, 3], [4]]


def test_equal_lengths_fill_rows_completely() -> None:
    sampler = TokenBudgetBatchSampler([101] * 16, 404, shuffle=True)
    assert [len(row) for row in sampler] == [4, 4, 4, 4]


def test_long_example_is_named() -> None:
    with pytest.raises(ValueError, match=r"example 'b' has 12; set `data.init_args.max_tokens` to at least 12"):
        TokenBudgetBatchSampler([3, 12], 10, names=["a", "b"])


def _loader(options: dict[str, Any], num_workers: int = 0) -> StatefulDataLoader:
    sampler = TokenBudgetBatchSampler(**options)
    data = list(range(len(options["lengths"])))
    return StatefulDataLoader(data, batch_sampler=sampler, collate_fn=list, num_workers=num_workers)


def _take(iterator: Iterator[list[int]], count: int) -> list[list[int]]:
    return [next(iterator) for _ in range(count)]


@given(settings_of(), st.integers(0, 2), st.data())
@settings(max_examples=60, deadline=None)
def test_resume_in_mid_epoch_is_exact(options: dict[str, Any], epoch: int, data: st.DataObject) -> None:
    first = _loader(options)
    first.batch_sampler.sampler.set_epoch(epoch)
    expected = first.batch_sampler.batches(epoch)
    done = data.draw(st.integers(0, len(expected) - 1))
    iterator = iter(first)
    assert _take(iterator, done) == expected[:done]
    second = _loader(options)
    second.load_state_dict(first.state_dict())
    iterator = iter(second)
    second.batch_sampler.sampler.set_epoch(epoch)  # Lightning sets it between making and using the iterator
    assert list(iterator) == expected[done:]
    second.batch_sampler.sampler.set_epoch(epoch + 1)
    assert list(second) == first.batch_sampler.batches(epoch + 1)


def test_resume_with_workers_is_exact() -> None:
    options = {"lengths": [5] * 12, "max_tokens": 10, "shuffle": True}
    first = _loader(options, num_workers=1)
    expected = first.batch_sampler.batches(0)
    assert _take(iter(first), 2) == expected[:2]
    second = _loader(options, num_workers=1)
    second.load_state_dict(first.state_dict())
    assert list(second) == expected[2:]


def test_resume_at_the_end_of_an_epoch_starts_the_next() -> None:
    options = {"lengths": [5] * 12, "max_tokens": 10, "shuffle": True}
    first = _loader(options)
    _take(iter(first), len(first))
    second = _loader(options)
    second.load_state_dict(first.state_dict())
    iterator = iter(second)
    second.batch_sampler.sampler.set_epoch(1)
    assert list(iterator) == first.batch_sampler.batches(1)


def test_resume_with_other_rows_is_refused() -> None:
    options = {"lengths": [5] * 12, "max_tokens": 10, "shuffle": True}
    first = _loader(options)
    _take(iter(first), 2)
    with pytest.raises(
        ValueError, match=r"`share_prompts`.* type its value of what `going on with changed settings` names above"
    ):
        list(_resumed(_loader({**options, "max_tokens": 20}), first.state_dict()))


@pytest.mark.parametrize(("saved", "now"), [(1, 2), (2, 1), (2, 4), (1, 4)])
def test_other_ranks_go_on_at_the_end_of_an_epoch_only(saved: int, now: int) -> None:
    options = {"lengths": [5] * 16, "max_tokens": 10, "shuffle": True}
    first = _loader({**options, "num_replicas": saved})
    iterator = iter(first)
    _take(iterator, 2)
    # With one rank before and four ranks now, row 2 of 8 is also where the epoch of 2 rows ends.
    with pytest.raises(
        ValueError, match=rf"data-parallel ranks \({saved}\).*devices so that there are {saved} ranks, or"
    ):
        list(_resumed(_loader({**options, "num_replicas": now}), first.state_dict()))
    _take(iterator, len(first) - 2)
    second = _resumed(_loader({**options, "num_replicas": now}), first.state_dict())
    iterator = iter(second)
    second.batch_sampler.sampler.set_epoch(1)
    assert list(iterator) == second.batch_sampler.batches(1)


def test_resume_with_other_records_of_the_same_lengths_is_refused() -> None:
    lengths, names = [5] * 12, [str(n) for n in range(12)]
    first = TokenBudgetBatchSampler(lengths, 10, names=names)
    iterator = iter(first)
    next(iterator)
    with pytest.raises(ValueError, match="expected the data"):
        iter(TokenBudgetBatchSampler(lengths, 10, names=names[::-1])).load_state_dict(iterator.state_dict())


def _resumed(loader: StatefulDataLoader, state: dict[str, Any]) -> StatefulDataLoader:
    loader.load_state_dict(state)
    return loader
