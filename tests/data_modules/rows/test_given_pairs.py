"""What a data module of somebody else may give by mistake: a text's letters were trained as rejected answers."""

from dataclasses import replace

import pytest
from support.word_pairs import FORMAT, SOLOPO_DPO, pair

from data_modules import PairDataModule
from lit_longpo.errors import UserError


class Given(PairDataModule):
    """Gives what it is told to."""

    def __init__(self, given):
        super().__init__(views=SOLOPO_DPO, prompt_format=FORMAT, max_tokens=200)
        self.given = given

    def pairs(self, split):
        return [] if split == "test" else self.given()


def test_lists_of_pairs_are_taken():
    data = Given(lambda: [pair(0), replace(pair(1), rejected=["word9 word8"])])
    data.setup("fit")
    assert data.splits["train"].lengths.examples == 2


class Lazy:
    """Can do what a sequence can, and is none by its class."""

    def __len__(self):
        return 2

    def __getitem__(self, number):
        return [pair(0), pair(1)][number]


def test_what_gives_pairs_like_a_list_is_taken():
    data = Given(Lazy)
    data.setup("fit")
    assert data.splits["train"].lengths.examples == 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (lambda: (pair(n) for n in range(2)), r"a list of PreferencePair, got generator; return a list"),
        (lambda: None, r"a list of PreferencePair, got NoneType"),
        (lambda: [vars(pair(0))], r"PreferencePair objects, got dict; make one of it"),
        (lambda: [replace(pair(0), rejected="word9")], r"'rejected' of 'r0' in .* a tuple of texts, got str; write"),
        (lambda: [replace(pair(0), rejected=(3,))], r"'rejected' 0 of 'r0' in Given\.pairs to be text, got int"),
        (lambda: [replace(pair(0), chosen=None)], r"'chosen' of 'r0' in Given\.pairs to be text, got NoneType"),
        (lambda: [pair(0), pair(0)], r"ids in Given\.pairs that are used once, got 'r0' again"),
    ],
)
def test_anything_else_is_one_line(given, said):
    with pytest.raises(UserError, match=said):
        Given(given).setup("fit")
