"""Records that share a text, against a plain search; what most of them hold; long chains."""

import time

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lit_longpo.shared_texts import DocumentKeys, message_keys, text_key


def components(records):
    """The smallest record of each one's component, by walking."""
    labels = []
    for start in range(len(records)):
        found, waiting = {start}, [start]
        while waiting:
            keys = set(records[waiting.pop()])
            new = {n for n, other in enumerate(records) if keys & set(other)} - found
            found |= new
            waiting += new
        labels.append(min(found))
    return labels


@given(st.lists(st.lists(st.integers(0, 12), max_size=4, unique=True), max_size=15))
def test_labels_are_connected_components(records):
    assert DocumentKeys.of(records).labels().tolist() == components(records)


@given(st.lists(st.lists(st.integers(0, 9), max_size=4, unique=True), max_size=9))
def test_parts_that_more_than_half_hold_are_no_documents(records):
    """Odd keys are of whole texts, which stay."""
    kept = [
        [key for key in keys if key % 2 or 2 * sum(key in other for other in records) <= len(records)]
        for keys in records
    ]
    found = DocumentKeys.of(records).specific()
    assert [part.tolist() for part in np.split(found.keys, found.ends)[:-1]] == kept


def test_a_long_chain_is_followed_in_few_passes():
    order = np.random.default_rng(0).permutation(20_000)
    start = time.process_time()
    labels = DocumentKeys.of([[2 * int(n), 2 * int(n) + 2] for n in order]).labels()
    assert not labels.any()
    assert time.process_time() - start < 5


def test_parts_are_runs_of_lines_of_a_hundred_characters():
    lines = [f"Line {n} of the text, forty characters or so." for n in range(6)]
    text = "\n\n".join(lines)
    assert len(message_keys([text])) == 1 + 4  # from each line on, but the last two are too short
    shared = set(message_keys([f"Rules.\r\n{lines[2]}\r\n{lines[3]}\r\n{lines[4]}\r\nWho?"])) & set(
        message_keys([text])
    )
    assert len(shared) == 1
    assert message_keys(["short"]) == [text_key("short")]
    assert text_key("a") % 2
