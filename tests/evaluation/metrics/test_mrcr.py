import difflib

import pytest

from evaluation.metrics import score


def test_only_what_begins_with_the_prefix_is_compared():
    wanted, said = "k9Tapirs roam at dawn.", "k9Tapirs roam at noon."
    expected = difflib.SequenceMatcher(None, said[2:], wanted[2:]).ratio()
    assert score("openai_mrcr", "2needle", said, [wanted], prefix="k9") == pytest.approx(expected)
    assert 0.5 < expected < 1.0
    for late in (said[2:], f" {said}", said.upper(), ""):
        assert score("openai_mrcr", "2needle", late, [wanted], prefix="k9") == 0.0


def test_texts_are_not_interchangeable_and_frequent_characters_are_no_anchors():
    """As difflib has it: in that order, with its rule for long texts."""
    wanted, said = "k9" + "abcabd" * 60, "k9" + "abd" * 100 + "xyz"
    first, second = said[2:], wanted[2:]
    expected = difflib.SequenceMatcher(None, first, second).ratio()
    assert expected != difflib.SequenceMatcher(None, first, second, autojunk=False).ratio()
    assert score("openai_mrcr", "8needle", said, [wanted], prefix="k9") == expected


def test_a_record_without_its_prefix_is_refused():
    with pytest.raises(ValueError, match="random_string_to_prepend"):
        score("openai_mrcr", "2needle", "text", ["text"])
