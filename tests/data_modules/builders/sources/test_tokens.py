"""Middle cuts keep both ends, stay within the budget and never touch anything else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import text_tokens

from data_modules.builders.sources.tokens import OMISSION

TOKENS = text_tokens()


@given(st.integers(0, 400), st.integers(10, 120))
def test_the_result_fits_and_keeps_both_ends(size, budget):
    text = " ".join(f"word{n % 80}" for n in range(size))
    cut = TOKENS.cut_middle(text, budget)
    assert TOKENS.count(cut) <= budget
    if size <= budget:
        assert cut == text
    else:
        head, _, tail = cut.partition(OMISSION)
        assert text.startswith(head)
        assert text.endswith(tail)
        assert head
        assert tail


def test_no_room_is_an_error():
    with pytest.raises(ValueError, match="max_tokens=2"):
        TOKENS.cut_middle("word1 " * 20, 2)
