"""The journal of a build's folder, and its manifest."""

import json
import re

import pytest
from support.builders import world_build
from support.byte_tokenizer import CHAT, byte_model

from data_modules.builders.generators.requests import Completion
from data_modules.builders.generators.transformers import TransformersGenerator
from data_modules.builders.journal import ANSWERS, open_journal
from lit_longpo.errors import UserError
from lit_longpo.files.strict_json import RecordError
from lit_longpo.policy import PolicyConfig


def test_two_builds_in_one_folder_are_refused(tmp_path):
    with (
        open_journal(tmp_path, {}),
        pytest.raises(BlockingIOError, match="another `output`"),
        open_journal(tmp_path, {}),
    ):
        pass


def test_a_damaged_line_in_the_middle_is_named(tmp_path):
    with open_journal(tmp_path, {}) as journal:
        journal.append("a", Completion("r", "text"))
        journal.append("a", Completion("r", "other text"))
        journal.append("b", Completion("r", "", error="not kept"))
        assert len(journal) == 1
        assert journal["a"].text == "text"
    file = tmp_path / ANSWERS
    file.write_bytes(b"{broken\n" + file.read_bytes())
    with pytest.raises(RecordError, match=re.escape(f"{ANSWERS}:1")), open_journal(tmp_path, {}):
        pass


def test_the_manifest_says_what_the_pairs_depend_on(tmp_path):
    world_build(tmp_path).run()
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["recipe"]["class"] == "SoLoPORecipe"
    assert manifest["recipe"]["decoding"]["temperature"] == 1.0
    assert manifest["seed"] == 0
    assert len(manifest["hash"]) == 32
    assert "limit" not in manifest


def test_answers_to_another_chat_template_are_not_taken(tmp_path):
    """It lies in the policy's folder, where somebody mended it; builds of before it was written down go on."""
    policy, generator = byte_model(tmp_path / "policy", chat_template=CHAT), TransformersGenerator()
    identities = [generator.reads(PolicyConfig(source=str(policy)))]
    (policy / "chat_template.jinja").write_text(CHAT.replace("[assistant]", "[answer]"))
    identities.append(generator.reads(PolicyConfig(source=str(policy))))
    with open_journal(tmp_path / "new", {"seed": 0, "tokenizer or chat template": identities[0]}):
        pass
    with (
        pytest.raises(UserError, match="with another tokenizer or chat template"),
        open_journal(tmp_path / "new", {"seed": 0, "tokenizer or chat template": identities[1]}),
    ):
        pass
