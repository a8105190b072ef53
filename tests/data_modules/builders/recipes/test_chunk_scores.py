"""What chunk and question share."""

import pytest

from data_modules.builders.recipes.chunk_scores import SpacyEntities, WordOverlap


def test_word_overlap_counts_content_words_once():
    scorer = WordOverlap()
    assert scorer.score("The ships of Ada left the Port, ship by ship.", "Where did Ada take the ship?") == 2
    assert scorer.score("and of the", "who is the king of it") == 0


def test_vowels_that_are_marks_tell_words_apart():
    water, found = "\u092a\u093e\u0928\u0940", "\u092a\u093e\u0928\u093e"
    assert [WordOverlap().score(text, f"{water} \u0915\u0939\u093e\u0901?") for text in (water, found)] == [1, 0]


def test_spacy_names_the_command_that_is_missing():
    with pytest.raises(ImportError, match="type: "):
        SpacyEntities(model="no_such_pipeline").score("a", "b")


def test_spacy_counts_entities_that_both_name(tmp_path):
    """A real pipeline from a folder; its entities are rules, as no trained one comes from PyPI."""
    spacy = pytest.importorskip("spacy")
    pipeline = spacy.blank("en")
    rules = pipeline.add_pipe("entity_ruler")
    rules.add_patterns([{"label": "PERSON", "pattern": "Ada Byron"}, {"label": "GPE", "pattern": "Turin"}])
    pipeline.to_disk(tmp_path / "rules")
    scorer = SpacyEntities(model=str(tmp_path / "rules"))
    assert scorer.score("Ada Byron went to Turin, and back to Turin.", "Did Ada Byron like Turin in winter?") == 2
    assert scorer.score("Somebody went to Turin in winter.", "Did Ada Byron go somewhere in winter?") == 0
