"""Tokenised examples in little memory."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from support.word_pairs import FORMAT, VIEWS, pair

from data_modules.rows.encoding import PairEncoder
from data_modules.rows.stores.token_store import TokenStore
from data_modules.rows.truncation import LengthPolicy, SplitLengths


@given(st.lists(st.integers(0, 50), min_size=1, max_size=6, unique=True), st.sampled_from(list(VIEWS)))
@settings(max_examples=40, deadline=None)
def test_store_gives_back_what_it_took(numbers: list[int], name: str) -> None:
    encoder = PairEncoder(FORMAT, VIEWS[name], LengthPolicy())
    examples = [encoder.encode(pair(number), SplitLengths()) for number in numbers]
    store = TokenStore.of(examples)
    assert list(store) == examples
    assert list(store.names) == [f"r{number}" for number in numbers]
    assert TokenStore.of(examples).fingerprint() == store.fingerprint()
    same = VIEWS[name].reference == VIEWS[name].policy
    assert all(example.same_row == same for example in store)


def test_weights_and_margins_are_kept_and_are_part_of_what_the_data_are() -> None:
    encoder = PairEncoder(FORMAT, replace(VIEWS["dpo"], margins=True), LengthPolicy())
    plain, other = pair(0), replace(pair(0), weight=2.0, margin=0.5)
    stores = [TokenStore.of([encoder.encode(record, SplitLengths())]) for record in (plain, other)]
    assert [(store[0].weight, store[0].margin) for store in stores] == [(1.0, 0.0), (2.0, 0.5)]
    assert stores[0].fingerprint() != stores[1].fingerprint()
