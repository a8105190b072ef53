"""Which passages fill a context."""

import random

from data_modules.qa_sets.pairing import PairRecipe, build_contexts
from data_modules.records import Passage, QARecord


def test_a_passage_that_only_spaces_tell_apart_is_the_same():
    """Of "yes" no passage can be told to hold it, so the supporting one came again as a distractor."""
    fact, noise = Passage("Rome", "Rome is old.", True), Passage("Oslo", "Oslo is cold.")
    record = QARecord("q", "Is Rome old?", ("yes",), (fact, noise))
    pool = [Passage("Rome ", "Rome is new.\n"), Passage("Italy", " Rome  is old."), Passage("Bern", "Bern is small.")]
    pool += [Passage("Bern", "Bern is  small. "), Passage("Oslo", "Oslo is\ncold.")]
    for seed in range(8):
        _, long = build_contexts(record, pool, PairRecipe(10, 60), lambda text: len(text.split()), random.Random(seed))
        found = sorted(" ".join(part.split()) for part in long.text.split("\n\n"))
        assert found == ["Bern Bern is small.", "Oslo Oslo is cold.", "Rome Rome is old."]
