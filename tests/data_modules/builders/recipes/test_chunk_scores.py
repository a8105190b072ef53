"""What chunk and question share."""

import pytest
from support.builders import Scripted, world_build

from data_modules.builders.recipes.chunk_scores import SpacyEntities, WordOverlap
from data_modules.builders.recipes.logo import LOGORecipe
from data_modules.builders.sources.documents import DocumentFiles
from lit_longpo.errors import InputError, MissingPackageError


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


def test_a_missing_pipeline_is_said_before_anybody_is_asked(tmp_path):
    """Each question was asked and paid for, and then its record failed."""
    (tmp_path / "text.txt").write_text("Ada Byron went to Turin. " * 40)
    source = DocumentFiles(str(tmp_path / "text.txt"))
    generator, recipe = Scripted(), LOGORecipe(scorer=SpacyEntities(model="no_such_pipeline"))
    with pytest.raises(MissingPackageError, match="type: "):
        world_build(tmp_path / "out", source=source, recipe=recipe, verifiers=(), generator=generator).run()
    assert not generator.asked


def test_a_folder_without_a_pipeline_is_refused(tmp_path):
    pytest.importorskip("spacy")
    with pytest.raises(InputError, match=r"expected a spaCy pipeline, got .*; set `recipe.init_args.scorer"):
        SpacyEntities(model=str(tmp_path)).open()


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
