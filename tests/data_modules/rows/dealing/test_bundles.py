"""Examples of one document in one row: which ones, nothing lost, budgets kept, ranks in step, exact resume."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.recorded_fit import fit
from support.word_pairs import FORMAT, SFT, pair

from data_modules.base import PairDataModule
from data_modules.mixture import MixtureDataModule
from data_modules.records import PreferencePair
from data_modules.rows.dealing.bundles import BundleSampler, bundles_of
from data_modules.rows.encoding import EncodedPair
from data_modules.rows.stores.token_store import TokenStore
from lit_longpo.batch import Group, PreferenceBatch, Response
from lit_longpo.engine import pack
from lit_longpo.errors import InputError

SYSTEM = tuple(range(3, 153))


def example(name: str, prompt: tuple[int, ...], positions: tuple[int, ...] | None = None) -> EncodedPair:
    groups = (Group(name, "long", prompt, (Response("chosen", (5, 6), (True, True)),), positions),)
    return EncodedPair(groups, groups)


def library(books: int, questions: int, *, size: int = 400, seed: int = 0) -> list[EncodedPair]:
    """Questions about books under one system prompt, in any order."""
    draw = random.Random(seed)
    texts = [(*SYSTEM, *(draw.randrange(200, 900) for _ in range(size))) for _ in range(books)]
    examples = [
        example(f"{book}-{n}", (*text, 1000 + n, *range(7)))
        for book, text in enumerate(texts)
        for n in range(questions)
    ]
    return draw.sample(examples, len(examples))


def books_of(bundles: Any, examples: list[EncodedPair]) -> list[list[str]]:
    return [[examples[n].policy[0].example.partition("-")[0] for n in bundle.members] for bundle in bundles]


def test_questions_about_one_book_are_together_and_a_system_prompt_joins_nobody() -> None:
    examples = library(3, 4)
    bundles = bundles_of(TokenStore.of(examples), 2000, None)
    assert sorted(books_of(bundles, examples)) == [["0"] * 4, ["1"] * 4, ["2"] * 4]
    assert [bundle.length for bundle in bundles] == [150 + 400 + 4 * 10] * 3
    assert [bundle.members[0] for bundle in bundles] == sorted(bundle.members[0] for bundle in bundles)
    for bundle in bundles:
        groups = [group for n in bundle.members for group in examples[n].policy]
        assert pack(groups, shared_from=128).num_tokens == bundle.length


@pytest.mark.parametrize(
    ("max_tokens", "max_examples", "sizes"), [(599, None, [1, 4]), (2000, 3, [2, 3]), (570, None, [1, 2, 2])]
)
def test_a_bundle_fits_into_a_row(max_tokens: int, max_examples: int | None, sizes: list[int]) -> None:
    """Of five questions about one book, 560 tokens with one and 10 for each further one."""
    bundles = bundles_of(TokenStore.of(library(1, 5)), max_tokens, max_examples)
    assert sorted(len(bundle.members) for bundle in bundles) == sizes
    assert all(bundle.length == 550 + 10 * len(bundle.members) <= max_tokens for bundle in bundles)


def test_examples_that_are_short_or_stand_at_other_positions_stay_alone() -> None:
    short = [example(f"s{n}", SYSTEM[:100]) for n in range(3)]
    text = tuple(range(200, 600))
    moved = [example(f"m{n}", text, tuple(range(n, 400 + n))) for n in (0, 7)]
    bundles = bundles_of(TokenStore.of([*short, *moved]), 2000, None)
    assert [bundle.members for bundle in bundles] == [(0,), (1,), (2,), (3,), (4,)]


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("num_replicas", [1, 2, 3])
def test_every_rank_deals_whole_bundles_and_every_example_once(num_replicas: int, shuffle: bool) -> None:
    examples = library(7, 3)
    store = TokenStore.of(examples)
    bundles = bundles_of(store, 1300, 5)
    options = {"names": store.names, "shuffle": shuffle, "num_replicas": num_replicas}
    ranks = [BundleSampler(bundles, 1300, 5, rank=rank, **options) for rank in range(num_replicas)]
    for epoch in range(2):
        by_rank = [sampler.batches(epoch) for sampler in ranks]
        assert {len(rows) for rows in by_rank} == {len(ranks[0])}
        rows = {tuple(row) for rows in by_rank for row in rows}
        assert sorted(n for row in rows for n in row) == list(range(21))
        for row in rows:
            groups = [group for n in row for group in examples[n].policy]
            assert pack(groups, shared_from=128).num_tokens <= 1300
            assert len(row) <= 5
            assert len({groups[n].example.partition("-")[0] for n in range(len(groups))}) * 3 == len(row)
    assert (ranks[0].batches(0) != ranks[0].batches(1)) is shuffle


def test_other_bundles_are_other_rows_to_a_run_that_goes_on() -> None:
    store = TokenStore.of(library(4, 3))
    first = BundleSampler(bundles_of(store, 1300, 5), 1300, 5, names=store.names)
    rows = iter(first)
    next(rows)
    state = rows.state_dict()
    iter(BundleSampler(bundles_of(store, 1300, 5), 1300, 5, names=store.names)).load_state_dict(state)
    changed = [replace(bundle, members=bundle.members[::-1]) for bundle in first.bundles]
    with pytest.raises(InputError, match="got others"):
        iter(BundleSampler(changed, 1300, 5, names=store.names)).load_state_dict(state)


class Books(PairDataModule):
    """Twelve questions about four documents of 150 words."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"prompt_format": FORMAT, "views": SFT, "max_tokens": 400, **options})

    def pairs(self, split: str) -> list[PreferencePair]:
        texts = [" ".join(f"word{(n * n + book) % 30}" for n in range(150)) for book in range(4)]
        made = [pair(n, long=10) for n in range(12 if split == "train" else 0)]
        return [replace(one, short_context=texts[n % 4], long_context=texts[n % 4]) for n, one in enumerate(made)]


def rows_of(**options: Any) -> list[PreferenceBatch]:
    data = Books(**options)
    data.setup("fit")
    return list(data.train_dataloader())


def test_auto_keeps_every_step_and_together_makes_fewer() -> None:
    apart, auto, together = (rows_of(share_prompts=how) for how in (None, "auto", "together"))
    assert [row.policy.examples for row in auto] == [row.policy.examples for row in apart]
    assert [row.policy.fingerprints for row in auto] == [row.policy.fingerprints for row in apart]
    assert all(row.policy.sharing is None for row in apart)
    assert sum(row.policy.num_tokens for row in auto) <= sum(row.policy.num_tokens for row in apart)
    assert len(together) < len(apart)
    assert all(row.policy.num_tokens <= 400 for row in together)
    for row in together:
        numbers = [int(name[1:]) % 4 for name in row.policy.examples]
        assert all(numbers.count(number) == 3 for number in numbers)
    assert sum(row.policy.num_held_tokens for row in together) == sum(row.policy.num_tokens for row in apart)


def test_a_run_goes_on_in_mid_epoch_and_its_account_adds_up(tmp_path: Path) -> None:
    options = {"share_prompts": "together", "max_examples": 3}
    whole = fit(tmp_path, data := Books(**options), 2)
    steps = len(whole.seen) // 2
    assert steps == 4
    for step in (1, steps + 2):
        again = fit(tmp_path, Books(**options), 2, tmp_path / f"step={step}.ckpt")
        assert again.seen == whole.seen[step:]
    assert data.account({0: 2}) == (
        "records: 12 read = 6 trained on + 0 filtered + 0 refused + 6 not reached, as the training was over before"
    )
    assert list(data.planned(0, 0, 4) or ()) == [name for _, row in whole.seen[:4] for name in row]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share_prompts": "always"}, "of auto, together or null"),
        ({"share_prompts": "together", "prefix_sharing": False}, "prompt of its own"),
        ({"share_prompts": "together", "rows_by": "all_views"}, "depends on what the objective reads"),
    ],
)
def test_what_rules_it_out_is_said(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Books(**options)


def test_without_prefix_sharing_nothing_is_shared_in_a_mixture_either() -> None:
    assert all(row.policy.sharing is None for row in rows_of(prefix_sharing=False))
    sources = {"a": Books(prefix_sharing=False)}
    assert MixtureDataModule(sources)._dealer.shared_from is None
    with pytest.raises(InputError, match="weights"):
        MixtureDataModule({"a": Books()}, weights={"a": 1.0}, share_prompts="together")
